"""The site of the documentation, in a browser: what we add to Sphinx and its theme."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS
from tests.support.browser import browser_page, missing

pytestmark = [pytest.mark.once, pytest.mark.browser]

PAGES = [
    "errors",
    "protocol",
    "settings",
    "troubleshooting",
    "decisions/0041-one-outcome-per-request",
]
INDEX = """# Documentation

## Start

- [Troubleshooting](troubleshooting.md)

## Reference

- [`Settings`](settings.md)
- [Errors](errors.md)
- [Protocol](protocol.md)
- [One outcome](decisions/0041-one-outcome-per-request.md)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build a few pages with the project's configuration, and return the address of the site."""
    for module in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        if find_spec(module) is None:
            missing(module)
    folder = tmp_path_factory.mktemp("site")
    for name in PAGES:
        page = folder / f"docs/{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text((DOCS / f"{name}.md").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "docs/images").symlink_to(DOCS / "images")
    (folder / "docs/index.md").write_text(INDEX)
    built = folder / "html"
    command = [sys.executable, "-m", "sphinx", "--quiet", "-c", str(DOCS), str(folder), str(built)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return built.as_uri()


@pytest.fixture(scope="module")
def page(site: str) -> Iterator[Any]:
    with browser_page(viewport={"width": 390, "height": 844}) as page:
        yield page


@pytest.mark.parametrize("query", ["409", "422", "503", "503 store"])
def test_the_search_finds_statuses(page: Any, site: str, query: str) -> None:
    page.goto(f"{site}/search.html?q={query}")
    page.locator("ul.search a", has_text="Errors").first.wait_for()


def test_a_number_that_is_nowhere_is_not_found(page: Any, site: str) -> None:
    page.goto(f"{site}/search.html?q=409+418418")
    page.get_by_text("did not match any documents").wait_for()


def test_the_search_shows_pages_for_users_first(page: Any, site: str) -> None:
    page.goto(f"{site}/search.html?q=outcome")
    last = page.locator("ul.search a").last
    last.wait_for()
    page.locator("p.search-summary", has_text="finished").wait_for()
    assert last.inner_text() == "0041: One outcome per request"


def test_the_sidebar_opens_the_section_of_the_page(page: Any, site: str) -> None:
    page.goto(f"{site}/docs/errors.html")
    sections = page.locator(".sidebar-tree details")
    opened = [section.get_attribute("open") is not None for section in sections.all()]
    assert sections.locator("summary").all_text_contents() == ["Start", "Reference"]
    assert opened == [False, True]
    titles = ["Settings", "Errors", "Protocol", "One outcome"]
    assert sections.last.locator("a").all_text_contents() == titles


def test_a_page_describes_itself_by_its_first_paragraph(page: Any, site: str) -> None:
    page.goto(f"{site}/docs/errors.html")
    described = page.locator("meta[name=description]").get_attribute("content")
    assert described.startswith("The guard sends an error instead of running the view.")
    assert len(described) <= 160


def test_code_has_copy_buttons_and_the_site_loads_nothing_from_elsewhere(
    page: Any, site: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site}/docs/settings.html")
    page.locator("button.copybtn").first.wait_for(state="attached")
    assert asked
    assert [address for address in asked if not address.startswith((site, "data:"))] == []


@pytest.mark.parametrize("name", ["index", "errors", "protocol", "settings", "troubleshooting"])
def test_pages_fit_a_phone(page: Any, site: str, name: str) -> None:
    page.goto(f"{site}/docs/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_page_of_unknown_addresses_needs_no_files_beside_it(site: str) -> None:
    text = Path(site.removeprefix("file://"), "404.html").read_text(encoding="utf-8")
    assert 'href="/docs/troubleshooting.html"' in text
    assert "_static" not in text
