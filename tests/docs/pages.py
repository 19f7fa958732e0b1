"""Reading the pages of the documentation."""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
        *(ROOT / "example_project").glob("*.md"),
    ],
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced code blocks of a language, also those in lists."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [dedent(code) for code in found]


def how_to(page: str) -> list[str]:
    """Return the Python blocks of a how-to page."""
    return blocks(text_of(DOCS / f"how-to/{page}.md"), "python")


def run_block(code: str, page: ModuleType, where: str) -> None:
    """Run a block of a page. One that says which file it is, is whole: it has a module of its own,
    whose names the page has afterwards, too."""
    file = re.match(r"# (shop/\w+)\.py\n", code)
    module = page
    if file is not None:
        module = ModuleType(file[1].replace("/", "."))
        sys.modules[module.__name__] = module
    exec(compile(code, where, "exec"), vars(module))
    names = {name: it for name, it in vars(module).items() if not name.startswith("__")}
    vars(page).update(names)


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def section(page: Path, title: str, level: int = 2) -> str:
    """Return what stands under a heading, until the next one of its level or above."""
    pattern = rf"^#{{{level}}} {title}$(.*?)(?=^#{{2,{level}}} |\Z)"
    found = re.search(pattern, text_of(page), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{name_of(page)} has no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row, headings included."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text_of(page))):
        if not re.match(r"[a-z]+:", link):
            yield link


def resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and most renderers make them."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def runnable(page: Path, language: str) -> list[str]:
    """Return the blocks that are not marked: ``<!-- not run: reason -->`` above the fence."""
    text = re.sub(r"^ *<!-- not run: [^>]+ -->\n *```.*?^ *```$", "", text_of(page), flags=FENCED)
    return blocks(text, language)


FENCED = re.DOTALL | re.MULTILINE
