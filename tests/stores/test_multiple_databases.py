"""Projects with more than one database: records are where the view's writes are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.two_databases import ANYWHERE, STORIES

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "story", [*(pytest.param(story, marks=pytest.mark.once) for story in STORIES), *ANYWHERE]
)
def test_with_two_databases(story: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.support.two_databases", story],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "holds\n"), done.stderr
