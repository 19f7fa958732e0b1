"""Every page: its code compiles, its links lead somewhere, its commands exist."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import (
    DOCS,
    PAGES,
    ROOT,
    blocks,
    every_page,
    links,
    name_of,
    resolves,
    text_of,
)

pytestmark = pytest.mark.once


def test_there_are_pages() -> None:
    assert {"README.md", "docs/index.md", "CHANGELOG.md"} <= {name_of(page) for page in PAGES}


@every_page
def test_python_compiles(page: Path) -> None:
    for block in blocks(text_of(page), "python"):
        compile(block, name_of(page), "exec")


@every_page
def test_links_within_the_project_resolve(page: Path) -> None:
    broken = [link for link in links(page) if not resolves(page, link)]
    assert broken == []


def test_the_index_leads_to_every_page() -> None:
    lists = [DOCS / name for name in ("index.md", "decisions.md", "runbooks.md")]
    linked = {(DOCS / link.partition("#")[0]).resolve() for page in lists for link in links(page)}
    assert {page for page in PAGES if DOCS in page.parents} - {lists[0]} <= linked


@every_page
def test_make_targets_exist(page: Path) -> None:
    named = set(re.findall(r"`make (\w+)", text_of(page)))
    assert named <= set(re.findall(r"^(\w+):", text_of(ROOT / "Makefile"), re.MULTILINE))


INTERNAL = ["CONTRIBUTING.md", "docs/how-it-works.md", "proof/model/README.md"]
"""Pages that name files of the package and of its tests, as all decisions do."""


@pytest.mark.parametrize(
    "page",
    [ROOT / name for name in INTERNAL] + sorted((DOCS / "decisions").glob("*.md")),
    ids=name_of,
)
def test_named_files_exist(page: Path) -> None:
    named = set(re.findall(r"`([\w/.-]+(?:\.py|/))`", text_of(page)))
    roots = [ROOT, ROOT / "django_idempotency"]
    missing = {name for name in named if not any((root / name).exists() for root in roots)}
    assert missing <= OUTSIDE


def test_the_stations_of_a_request_name_functions_that_exist() -> None:
    """How it works: the tables that lead from file to file."""
    rows = re.findall(r"^\| \d+ \|(.*?)\|(.*?)\|", text_of(DOCS / "how-it-works.md"), re.MULTILINE)
    assert len(rows) == 20
    package = ROOT / "django_idempotency"
    whole = "\n".join(path.read_text() for path in package.rglob("*.py"))
    for files, functions in rows:
        named = re.findall(r"`(?:(\w+)\.)?(\w+)`", functions)
        assert named, files
        for owner, name in named:
            assert re.search(rf"^ *(?:def|class) {name}\b", whole, re.MULTILINE), name
            assert not owner or re.search(rf"^class {owner}\b", whole, re.MULTILINE), owner


OUTSIDE = {"src/"}
"""A folder that the project does not have, and a decision says why."""


def test_the_model_names_methods_that_exist() -> None:
    named = re.findall(r"`(\w+)\.(\w+)`", text_of(ROOT / "proof/model/README.md"))
    package = "\n".join(path.read_text() for path in (ROOT / "django_idempotency").rglob("*.py"))
    methods = [(owner, name) for owner, name in named if owner[0].isupper()]
    assert len(methods) > 5
    for owner, name in methods:
        assert re.search(rf"^class {owner}\b", package, re.MULTILINE), owner
        assert re.search(rf"^    def {name}\(", package, re.MULTILINE), name
