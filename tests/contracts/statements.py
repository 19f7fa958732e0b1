"""Statements of the contracts, and which tests show them."""

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

from tests.contracts.operations import OPERATIONS

Test = FunctionType


@dataclass(frozen=True)
class Statement:
    """One row of the table.

    :ivar tests: names of tests by the contract's letter
    :ivar place: module and line of the test
    """

    aspect: str
    text: str
    tests: dict[str, list[str]]
    place: tuple[str, int] = ("", 0)


STATEMENTS: list[Statement] = []


def states(aspect: str, text: str, *names: str) -> Callable[[Test], Test]:
    """Run the test for these operations, and enter it into the table."""

    def enter(test: Test) -> Test:
        tests: dict[str, list[str]] = {}
        for name in names:
            tests.setdefault(name[0], []).append(f"{test.__name__}[{name}]")
        place = (test.__module__.rpartition(".")[2], test.__code__.co_firstlineno)
        STATEMENTS.append(Statement(aspect, text, tests, place=place))
        return _for_each(names)(test)

    return enter


def _for_each(names: tuple[str, ...]) -> Any:
    operations = [OPERATIONS[name] for name in names]
    return pytest.mark.parametrize("operation", operations, ids=names, indirect=True)
