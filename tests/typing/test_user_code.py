"""Type checkers find a project's mistakes in options and settings, and object to nothing else."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.__main__ import why_left_out

pytestmark = [pytest.mark.processes, pytest.mark.once]

ROOT = Path(__file__).parents[2]
CODE = Path(__file__).parent / "code"
FILES = ["right.py", "wrong.py"]


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


def mypy(folder: Path) -> dict[tuple[str, int], str]:
    """Return the objections by file and line."""
    text = run("mypy", "--cache-dir", str(folder), *(str(CODE / name) for name in FILES))
    found = re.findall(r"^(?:.*/)?(\w+\.py):(\d+): error: (.*)", text, re.MULTILINE)
    return {(name, int(line)): message for name, line, message in found}


def pyright(folder: Path) -> dict[tuple[str, int], str]:
    """The same of pyright, as its users have it: without the rules that are basedpyright's."""
    project = {
        "include": [str(CODE)],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.11",
    }
    settings = folder / "pyrightconfig.json"
    settings.write_text(json.dumps(project))
    text = run(
        "basedpyright", "--outputjson", "--project", str(settings), "--pythonpath", sys.executable
    )
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in json.loads(text)["generalDiagnostics"]
        if each["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_each_mistake_is_found_and_nothing_else(
    checker: Callable[[Path], dict[tuple[str, int], str]], tmp_path: Path
) -> None:
    if reason := why_left_out("type checkers"):
        pytest.skip(reason)
    expected = {
        (name, number)
        for name in FILES
        for number, line in enumerate((CODE / name).read_text().splitlines(), 1)
        if "# mistake" in line
    }
    found = checker(tmp_path)
    assert {place: text for place, text in found.items() if place not in expected} == {}
    assert expected - found.keys() == set()
