"""Run Django REST framework's own tests, without and with our guard around every view.

    python tests/foreign/run_drf_suite.py [--version 3.16.1] [--django 5.2.8]

Downloads the source distribution with pip, installs what its tests need into a virtual
environment of its own, and compares the outcomes. Exit status 1 if a test passes without us and
fails with us for a reason that is not listed here, or if nothing was guarded. ``DATABASE_URL``
chooses another database than SQLite.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

from outcomes import Suite, compared, heading, parsed

HERE = Path(__file__).parent
PACKAGE = HERE.parent.parent / "django_idempotency"

RUNS = {
    "as it is": ["", "middleware", "decorator"],
    "with ATOMIC_REQUESTS": [
        "atomic_requests",
        "atomic_requests middleware",
        "atomic_requests decorator",
    ],
}
"""What the plugin switches on; the first of each is what the others are compared with."""

NO_WONDER = {
    "calls the view in a block of its own and looks whether that is to be rolled back; the guard "
    "has undone the writes by then": (
        "test_atomic_requests.DBTransactionAPIExceptionTests"
        "::test_api_exception_rollback_transaction",
        "test_atomic_requests.MultiDBTransactionAPIExceptionTests"
        "::test_api_exception_rollback_transaction",
    ),
    "wants the writes of a view that raised, which the guard undoes": (
        "test_atomic_requests.DBTransactionErrorTests"
        "::test_generic_exception_delegate_transaction_management",
    ),
    "hands one request to its view twice, and the second time it replays": (
        "test_request.TestHttpRequest::test_duplicate_request_form_data_access",
        "test_request.TestHttpRequest::test_duplicate_request_json_data_access",
    ),
    "answers with what cannot be rendered, and never renders it; the decorator does": (
        "test_routers.TestActionKeywordArgs::test_action_kwargs",
    ),
}
"""Tests that cannot pass under the guard, by what they do."""

EXPLAINED = {f"tests.{name}": reason for reason, names in NO_WONDER.items() for name in names}

COLUMNS = ("passed", "failed", "skipped", "keyed", "guarded")
"""Tests by outcome, requests with a key, and views that ran under the guard."""


class Stage:
    """A folder with the suite, the package and an environment for both."""

    def __init__(self, folder: Path, wanted: str, django: str) -> None:
        self.folder = folder
        self._ours = folder / "ours"
        shutil.copytree(PACKAGE, self._ours / PACKAGE.name)
        for module in ("guard_plugin.py", "sending.py"):
            shutil.copy(HERE / module, self._ours)
        self._suite = self._downloaded(wanted)
        self._python = self._installed(django)

    def _downloaded(self, wanted: str) -> Path:
        package = f"djangorestframework=={wanted}"
        options = ("--no-deps", "--no-binary", "djangorestframework", "--dest", self.folder)
        self._run(sys.executable, "-m", "pip", "-q", "download", *options, package)
        [archive] = self.folder.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(self.folder / "source", filter="data")
        [suite] = (self.folder / "source").iterdir()
        if not (suite / "tests" / "conftest.py").exists():
            sys.exit(f"The source distribution of {package} holds no tests.")
        return suite

    def _installed(self, django: str) -> Path:
        python = self.folder / "venv" / "bin" / "python"
        self._run(sys.executable, "-m", "venv", self.folder / "venv")
        groups = tomllib.loads((self._suite / "pyproject.toml").read_text())["dependency-groups"]
        needed = [*groups["test"], *groups.get("optional", ()), f"django=={django}"]
        self._run(python, "-m", "pip", "-q", "install", *needed)
        return python

    def run(self, guard: str) -> Suite:
        report, counted = self.folder / "report.xml", self.folder / "counted.json"
        plugin = ["-p", "guard_plugin"] if guard else []
        command = [self._python, "-m", "pytest", "-q", f"--junit-xml={report}", *plugin]
        environment = os.environ | {
            "PYTHONPATH": str(self._ours),
            "GUARD": guard,
            "GUARD_REPORT": str(counted),
        }
        log = self.folder / f"{guard.replace(' ', '-') or 'without'}.log"
        with log.open("wb") as output:
            subprocess.run(
                command,
                cwd=self._suite,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if not report.exists():
            sys.exit(log.read_text(errors="replace"))
        suite = parsed(report)
        report.unlink()
        if guard:
            suite.counted = json.loads(counted.read_text())["counted"]
        return suite

    @staticmethod
    def _run(*command: str | Path) -> None:
        subprocess.run(command, check=True)


def main(stage: Stage) -> int:
    problems = []
    for title, (bare, *guards) in RUNS.items():
        print(heading(title, COLUMNS))
        without = stage.run(bare)
        print(f"{'  without the guard':24}{without.row(COLUMNS)}", flush=True)
        for guard in guards:
            suite = stage.run(guard)
            print(f"{'  ' + guard.split()[-1]:24}{suite.row(COLUMNS)}", flush=True)
            problems += compared(without, suite, EXPLAINED)
    return 1 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run DRF's tests without and with the guard.")
    parser.add_argument("--version", default=version("djangorestframework"), help="of DRF")
    parser.add_argument("--django", default=version("django"), help="version of Django")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in, with logs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(main(Stage(folder, arguments.version, arguments.django)))
