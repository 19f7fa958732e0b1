"""The invariants, and the tests that show them."""

import ast
import re
from functools import cache

import pytest

from tests.docs.pages import DOCS, ROOT, rows, text_of

pytestmark = pytest.mark.once


class TestGuarantees:
    PAGE = DOCS / "guarantees.md"

    def test_every_invariant_has_a_row(self) -> None:
        found = [row[0] for row in rows(text_of(self.PAGE)) if re.fullmatch(r"I\d+", row[0])]
        assert found == [f"I{number}" for number in range(1, 22)]

    def test_every_invariant_names_its_tests(self) -> None:
        for row in rows(text_of(self.PAGE)):
            if re.fullmatch(r"I\d+", row[0]):
                assert re.search(r"`[\w/]+\.py::", row[2]) or row[2].startswith("not in this")

    def test_every_named_test_exists(self) -> None:
        named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", text_of(self.PAGE))
        assert named
        missing = [f"{file}::{test}" for file, test in named if test not in names_of_tests(file)]
        assert missing == []


@cache
def names_of_tests(file: str) -> set[str]:
    path = ROOT / "tests" / file
    if not path.exists():
        return set()
    module = ast.parse(path.read_text(encoding="utf-8"))
    found = set(functions_of(module))
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{name}" for name in functions_of(node)}
    return found


def functions_of(node: ast.Module | ast.ClassDef) -> list[str]:
    return [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
