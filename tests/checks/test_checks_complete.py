"""Every check is shown at work: one test triggers it, and sees it silent when that is mended."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_idempotency.checks import CHECKS

pytestmark = pytest.mark.once

MODULES = sorted(Path(__file__).parent.glob("test_checks*.py"))
NUMBERS = [name.removeprefix("django_idempotency.") for name in CHECKS]


def written() -> Iterator[ast.FunctionDef]:
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node


def asked(test: ast.FunctionDef, helper: str) -> set[str]:
    """Return the ids that a test hands to one of the helpers in ``checking.py``."""
    calls = [node for node in ast.walk(test) if isinstance(node, ast.Call)]
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == helper and call.args
        if isinstance(call.args[0], ast.Constant)
    }


SHOWN = {number for test in written() for number in asked(test, "only") & asked(test, "silent")}


@pytest.mark.parametrize("number", NUMBERS)
def test_it_is_triggered_and_mended_in_one_test(number: str) -> None:
    assert number in SHOWN, f"no test has both only({number!r}) and silent({number!r})"


def test_no_test_is_about_a_check_that_is_gone() -> None:
    named = {number for test in written() for number in asked(test, "only") | asked(test, "silent")}
    assert named <= set(NUMBERS)
