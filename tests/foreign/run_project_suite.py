"""Run the API tests of NetBox or pretix without us, with keys, and with every write sent twice.

    python tests/foreign/run_project_suite.py netbox CHECKOUT --python ENVIRONMENT/bin/python
    python tests/foreign/run_project_suite.py pretix CHECKOUT --python ENVIRONMENT/bin/python

CHECKOUT is the project's source, ENVIRONMENT has what its tests need, and pytest and
pytest-django. Services are as the project's own test configuration has them. More arguments are
given to pytest: other tests than ``PROJECTS`` has, or ``--create-db`` after an upgrade (the test
database is kept, since NetBox's takes minutes).

- *without the guard*: as it is;
- *fresh keys*: each write has a key of its own, and nothing may change;
- *sent twice*: each write is sent a second time, too. The second response must be a replay:
  status, headers, cookies and body are the first one's, byte for byte;
- *in place of theirs* (pretix): its middleware for keys is replaced by ours, and its own tests for
  it run.

Exit status 1 if a test passes without us and fails with us for a reason that is not listed here,
if a replay differs, if a write below ``/api/`` succeeds unguarded, or if nothing was guarded.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outcomes import Suite, compared, heading, parsed, unlike

HERE = Path(__file__).parent
PACKAGE = HERE.parent.parent / "django_idempotency"

COLUMNS = ("passed", "failed", "skipped", "keyed", "guarded", "stored", "identical")
"""Tests by outcome, requests with a key, views that ran under the guard (twice where nothing was
stored), stored responses, and replays that are the original."""


@dataclass(frozen=True)
class Project:
    """Where a project's API tests are and how its API is guarded."""

    folder: str
    """Where pytest is started, within the checkout."""
    settings: str
    tests: tuple[str, ...]
    """As many as take minutes on one core."""
    idempotency: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    per_request: str = ""
    """Headers that middleware outside the guard makes anew for each request."""
    explained: Mapping[str, str] = field(default_factory=dict)
    """Tests that cannot pass under the guard, and why."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Tests with a write that gets another response the second time, and why."""
    replaced: "Replaced | None" = None


@dataclass(frozen=True)
class Replaced:
    """A project's own middleware for keys, and its tests."""

    middleware: tuple[str, ...]
    tests: tuple[str, ...]
    idempotency: Mapping[str, Any]
    explained: Mapping[str, str]


PROJECTS = {
    "netbox": Project(
        folder="netbox",
        settings="netbox.settings",
        tests=tuple(f"{app}/tests/test_api.py" for app in ("tenancy", "users", "wireless")),
        environment={"NETBOX_CONFIGURATION": "netbox.configuration_testing"},
        idempotency={"PATHS": ["^/api/"], "STATUS_HEADER": "Idempotency-Status"},
        per_request="x-request-id",
        refused={
            f"users/tests/test_api.py::{test}": (
                "the write takes the caller's account, token or permission away, and nothing is "
                "replayed to somebody who may no longer ask"
            )
            for test in (
                "UserTestCase::test_bulk_delete_objects",
                "UserTestCase::test_delete_object",
                "UserTestCase::test_update_object",
                "TokenTestCase::test_bulk_delete_objects",
                "TokenTestCase::test_delete_object",
                "ObjectPermissionTestCase::test_bulk_delete_objects",
            )
        },
    ),
    "pretix": Project(
        folder="src",
        settings="tests.settings",
        tests=(
            "tests/api/test_cart.py",
            "tests/api/test_giftcards.py",
            "tests/api/test_waitinglist.py",
            "tests/api/test_invoices.py::test_invoice_retransmit",
        ),
        idempotency={
            "PATHS": ["^/api/"],
            "STATUS_HEADER": "Idempotency-Status",
            # Commits by itself, durably.
            "POLICIES": {"/invoices/[^/]+/retransmit/$": {"ATOMIC": False}},
        },
        replaced=Replaced(
            middleware=("pretix.api.middleware.IdempotencyMiddleware",),
            tests=("tests/api/test_idempotency.py",),
            idempotency={
                "PATHS": ["^/api/"],
                "POLICIES": {
                    "^/api/v1/": {
                        "HEADER": "X-Idempotency-Key",
                        "SCOPE": "token",
                        "FINGERPRINT": "guarded_settings.by_key_alone",
                        "REPLAY_HEADER": None,
                    }
                },
            },
            explained={
                "tests.api.test_idempotency::test_concurrent": "writes to its own table of keys",
                "tests.api.test_idempotency::test_query_key": "asks its own page about a key",
                "tests.api.test_idempotency::test_ignore_path_method_body": (
                    "wants a replay where there is no view that answers the method; only views "
                    "are guarded"
                ),
            },
        ),
    ),
}


class Stage:
    """A folder with a copy of the package, beside a project that stays as it is."""

    def __init__(self, folder: Path, project: Project, checkout: Path, python: Path) -> None:
        self._folder, self._project, self._python = folder.absolute(), project, python.absolute()
        self._suite = checkout.absolute() / project.folder
        self._ours = self._folder / "ours"
        shutil.copytree(PACKAGE, self._ours / PACKAGE.name, dirs_exist_ok=True)
        for module in ("guard_plugin.py", "guarded_settings.py", "sending.py"):
            shutil.copy(HERE / module, self._ours)

    def run(
        self,
        title: str,
        tests: tuple[str, ...],
        guard: str = "",
        replaced: Replaced | None = None,
    ) -> Suite:
        """Run tests with the project's settings, or with ours if the plugin is to guard."""
        counted = self._folder / "counted.json"
        foreign = {
            "settings": self._project.settings,
            "without": replaced.middleware if replaced else (),
            "idempotency": (replaced or self._project).idempotency,
        }
        suite = self._pytest(
            title,
            ["--ds", "guarded_settings", "-p", "guard_plugin", *tests]
            if guard
            else ["--ds", self._project.settings, *tests],
            {
                "FOREIGN": json.dumps(foreign),
                "GUARD": guard,
                "GUARD_REPORT": str(counted),
                "GUARD_PER_REQUEST": self._project.per_request,
            },
        )
        if guard:
            found = json.loads(counted.read_text())
            suite.counted, suite.different = found["counted"], found["different"]
        return suite

    def _pytest(self, title: str, options: list[str], environment: dict[str, str]) -> Suite:
        report, log = self._folder / "report.xml", self._folder / f"{title.replace(' ', '-')}.log"
        report.unlink(missing_ok=True)
        always = ["-q", "--reuse-db", "-p", "no:cacheprovider", f"--junit-xml={report}"]
        with log.open("wb") as output:
            subprocess.run(
                [self._python, "-m", "pytest", *always, *options],
                cwd=self._suite,
                env=os.environ
                | self._project.environment
                | environment
                | {"PYTHONPATH": str(self._ours)},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if not report.exists():
            sys.exit(log.read_text(errors="replace"))
        return parsed(report)


def main(stage: Stage, project: Project, tests: tuple[str, ...]) -> int:
    problems = []

    def show(title: str, suite: Suite) -> Suite:
        print(f"{'  ' + title:24}{suite.row(COLUMNS)}", flush=True)
        return suite

    print(heading("API tests", COLUMNS))
    without = show("without the guard", stage.run("without the guard", tests))
    for title, guard in {"fresh keys": "project", "sent twice": "project twice"}.items():
        suite = show(title, stage.run(title, tests, guard))
        problems += compared(without, suite, project.explained)
        problems += unlike(suite, project.refused)
        if "twice" in guard and not suite.counted.get("identical"):
            problems.append("nothing was replayed")
    if replaced := project.replaced:
        print(heading("its own tests of keys", COLUMNS))
        without = show("theirs", stage.run("theirs", replaced.tests))
        suite = show("ours", stage.run("ours", replaced.tests, "counting", replaced))
        problems += compared(without, suite, replaced.explained)
    return 1 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("project", choices=PROJECTS)
    parser.add_argument("checkout", type=Path, help="the project's source")
    parser.add_argument("--python", type=Path, required=True, help="of its environment")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in, with logs")
    arguments, more = parser.parse_known_args()
    wanted = PROJECTS[arguments.project]
    named = any(not each.startswith("-") for each in more)
    chosen = more if named else [*more, *wanted.tests]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        stage = Stage(folder, wanted, arguments.checkout, arguments.python)
        sys.exit(main(stage, wanted, tuple(chosen)))
