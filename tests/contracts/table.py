"""``python -m tests.contracts.table``: run the contract tests and print docs/contracts.md.

Run it on a database with row locks; what does not pass is named, and the exit status is 1.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import django

from tests.contracts.statements import STATEMENTS, Statement

FOLDER = Path(__file__).parent
MODULES = ("test_callers", "test_answers", "test_times")
ASPECTS = (
    "endpoints",
    "auth, scope",
    "key",
    "retention",
    "replay",
    "other body",
    "in flight",
    "stored",
    "ignores",
    "store outage",
    "extra",
)
NOTHING = "-"
INTRODUCTION = """\
# Five contracts

What the clients of five real APIs rely on, statement by statement. Each contract is a set of
endpoints of the [example project](../example_project/README.md) with a policy of its own. Each cell
names the tests that send what that API's clients send, over HTTP, to a server with four processes.
They are in `tests/contracts/`.

| contract | API | policy |
| --- | --- | --- |
| A | VPS and billing | `example_project/cloud/views/vps.py` |
| B | a public API for machines, in the style of Stripe | `example_project/cloud/views/public.py` |
| C | balances of a game's players | `example_project/cloud/views/economy.py` |
| D | apps and replicas, driven by Terraform | `example_project/cloud/views/cvms.py` |
| E | payments, after the IETF draft | `example_project/cloud/views/transactions.py` |

A dash: the API says nothing about it.

Answers of 409 to requests in flight are given on PostgreSQL and MariaDB. On SQLite a duplicate
[waits and replays](how-it-works.md#what-is-guaranteed-on-which-database); those tests do not run.

[Transcripts](transcripts.md) show B and E with `curl`.

This page is generated from the tests:

<!-- not run: it makes this page; a test compares -->
```sh
IDEMPOTENCY_TEST_DATABASE=postgresql python -m tests.contracts.table > contracts.md
mv contracts.md docs/
```
"""


def statements() -> list[Statement]:
    """Return all statements, by aspect, and then in the order of the tests."""
    for module in MODULES:
        import_module(f"tests.contracts.{module}")
    return sorted(STATEMENTS, key=place)


def place(statement: Statement) -> tuple[int, str, int]:
    return (ASPECTS.index(statement.aspect), *statement.place)


def page(rows: list[Statement]) -> str:
    return "\n".join([INTRODUCTION, *table(rows), ""])


def table(rows: list[Statement]) -> Iterator[str]:
    yield "| | statement | A | B | C | D | E |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    aspect = ""
    for row in rows:
        title, aspect = ("" if row.aspect == aspect else row.aspect), row.aspect
        backend = (cell(row, contract) for contract in "ABCDE")
        yield "| " + " | ".join([title, row.text, *backend]) + " |"


def cell(row: Statement, contract: str) -> str:
    return "<br>".join(f"`{test}`" for test in row.tests.get(contract, [])) or NOTHING


def named(rows: list[Statement]) -> list[str]:
    return [test for row in rows for tests in row.tests.values() for test in tests]


def passing() -> set[str]:
    """Run the contract tests; return the names of those that pass."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        modules = [str(FOLDER / f"{module}.py") for module in MODULES]
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *modules]
        subprocess.run(command, stdout=sys.stderr, check=False)
        cases = ElementTree.parse(report).iter("testcase")
        return {case.attrib["name"] for case in cases if not passed_not(case)}


def passed_not(case: ElementTree.Element) -> bool:
    return any(case.find(outcome) is not None for outcome in ("failure", "error", "skipped"))


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    rows = statements()
    failing = sorted(set(named(rows)) - passing())
    print(page(rows), end="")
    for test in failing:
        print(f"Does not pass: {test}", file=sys.stderr)
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
