"""Builds the site: ``make docs``.

The pages are Markdown that reads well on a code host, too. So the site starts at the project's
root, where links like ``../README.md`` lead to what they lead to there, and its contents are the
links of ``index.md``.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

project = "django-idempotency"
author = "the authors of django-idempotency"
version = re.findall(
    r'^__version__ = "(.*)"', (ROOT / "django_idempotency/__init__.py").read_text(), re.MULTILINE
)[0]
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "example_project/README.md", "proof/model/README.md", "*.md"]
exclude_patterns = ["docs/_build/**", ".[a-z]*/**"]
myst_heading_anchors = 3
# Pictures with a width, as GitHub shows them.
myst_enable_extensions = ["html_image"]

html_theme = "furo"
html_title = f"django-idempotency {version}"
html_show_sphinx = False
html_copy_source = False
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]


def contents(index: str) -> str:
    """Return the tables of contents for an index: one per section, of its links in order."""
    sections = re.split(r"^## (.*)$", index, flags=re.MULTILINE)[1:]
    tables = []
    for title, text in zip(sections[::2], sections[1::2], strict=True):
        pages = re.findall(r"\]\(([^)#:]+)\.md\)", text)
        if pages:
            options = f":hidden:\n:caption: {title}\n\n"
            tables.append("```{toctree}\n" + options + "\n".join(pages) + "\n```\n")
    return "\n".join(tables)


def add_contents(app: Any, name: str, source: list[str]) -> None:
    if name == root_doc:
        source[0] += "\n" + contents(source[0])


def setup(app: Any) -> None:
    app.connect("source-read", add_contents)
