"""Builds the site: ``make docs``.

The pages are Markdown that reads well on a code host, too. So the site starts at the project's
root, where links like ``../README.md`` lead to what they lead to there, and its contents are the
links of ``index.md``.
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs/_ext"))

project = "django-idempotency"
author = "the authors of django-idempotency"
version = re.findall(
    r'^__version__ = "(.*)"', (ROOT / "django_idempotency/__init__.py").read_text(), re.MULTILINE
)[0]
extensions = ["myst_parser", "sphinx_copybutton", "contents", "descriptions", "site_search"]
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
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_context = {"site": html_baseurl or "/"}
html_additional_pages = {"index": "redirect.html", "404": "404.html"}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
# Without the prompts and the output of transcripts.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
