"""Statements of the contracts, and which tests show them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from .operations import OPERATIONS

Test = Callable[..., None]


@dataclass(frozen=True)
class Statement:
    """One row of the table.

    :ivar tests: names of tests by the contract's letter
    :ivar missing: contracts that say so, and get nothing yet
    """

    aspect: str
    text: str
    tests: dict[str, list[str]]
    missing: str = ""


STATEMENTS: list[Statement] = []


def states(aspect: str, text: str, *names: str) -> Callable[[Test], Test]:
    """Run the test for these operations, and enter it into the table."""

    def enter(test: Test) -> Test:
        tests: dict[str, list[str]] = {}
        for name in names:
            tests.setdefault(name[0], []).append(f"{test.__name__}[{name}]")
        STATEMENTS.append(Statement(aspect, text, tests))
        return _for_each(names)(test)

    return enter


def _for_each(names: tuple[str, ...]) -> Any:
    operations = [OPERATIONS[name] for name in names]
    return pytest.mark.parametrize("operation", operations, ids=names, indirect=True)


def not_yet(aspect: str, text: str, missing: str) -> None:
    """Enter what a contract says and the example cannot do."""
    STATEMENTS.append(Statement(aspect, text, {}, missing))
