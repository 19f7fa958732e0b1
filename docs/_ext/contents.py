"""The contents of the site: the links of ``index.md``, and of the pages that only list others.

So no page is listed twice, and whatever the index leads to is in the sidebar. There, each section
of the index opens and closes.
"""

import re
from typing import Any

from bs4 import BeautifulSoup

INDEX = "docs/index"
LISTS = ["docs/decisions", "docs/runbooks"]


def add_contents(app: Any, name: str, source: list[str]) -> None:
    if name == INDEX:
        sections = re.split(r"^## (.*)$", source[0], flags=re.MULTILINE)[1:]
        for title, text in zip(sections[::2], sections[1::2], strict=True):
            source[0] += table_of(text, f":caption: {title}\n")
    if name in LISTS:
        source[0] += table_of(source[0])


def table_of(text: str, options: str = "") -> str:
    """Return a table of contents of the linked pages, in order, under the text of their links."""
    listed = "\n".join(re.findall(r"^(?:- |  ).*", text, flags=re.MULTILINE))
    links = re.findall(r"\[([^]]+)\]\(([^)#:]+)\.md\)", listed)
    lines = [f"{title.replace('`', '')} <{page}>" for title, page in links]
    return "\n```{toctree}\n:hidden:\n" + options + "\n" + "\n".join(lines) + "\n```\n"


def fold(app: Any, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Close the sections of the sidebar, except that of the page; on other pages the first."""
    tree = BeautifulSoup(context.get("furo_navigation_tree") or "", "html.parser")
    captions = tree.find_all("p", class_="caption")
    for caption in captions:
        pages = caption.find_next_sibling("ul")
        section = tree.new_tag("details")
        if "current" in pages.get("class", []):
            section["open"] = ""
        caption.name = "summary"
        del caption["role"]
        caption.wrap(section).append(pages)
    sections = tree.find_all("details")
    if sections and not tree.find("details", open=True):
        sections[0]["open"] = ""
    context["furo_navigation_tree"] = str(tree)


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", add_contents)
    # After the theme, which makes the tree.
    app.connect("html-page-context", fold, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
