"""Every block of code in the documentation runs, or says why it does not."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from .pages import PAGES, ROOT, every_page, name_of, runnable, text_of

pytestmark = pytest.mark.once

OF_DJANGO = {"runserver", "createsuperuser", "startproject", "startapp", "shell", "test"}
RUN_ELSEWHERE = {
    "docs/how-to/mangopay.md": "tests/test_howto.py",
    "docs/how-to/repeatable-requests.md": "tests/test_howto.py",
    "docs/how-to/gocardless.md": "tests/test_howto.py",
    "docs/settings.md": "tests/docs/test_settings.py",
    "docs/how-to/testing.md": "tests/docs/test_testing_page.py",
}
"""Pages whose blocks need more than a namespace; another test runs each of them."""


def test_every_python_block_runs() -> None:
    pages = [name_of(page) for page in PAGES]
    wanted = [page for page in pages if page not in RUN_ELSEWHERE]
    command = [sys.executable, "-W", "error", "-m", "tests.docs.run_blocks", *wanted]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout)
    assert failed == {}, "\n".join(failed.values())
