"""What search engines and chats show of a page: its first paragraph."""

from html import escape
from textwrap import shorten
from typing import Any

from docutils import nodes

LENGTH = 160
"""Characters. Search engines show about that many."""


def describe(app: Any, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    first = doctree and next(iter(doctree.findall(nodes.paragraph)), None)
    if first:
        text = escape(shorten(first.astext(), LENGTH, placeholder=" ..."))
        context["metatags"] += f'\n<meta name="description" content="{text}">'


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
