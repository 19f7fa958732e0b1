"""The table in the documentation is the one the contract tests make."""

import re
from pathlib import Path

import pytest

from tests.contracts.table import ASPECTS, FOLDER, MODULES, named, page, statements

pytestmark = pytest.mark.once

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_generated():
    assert (DOCS / "contracts.md").read_text(encoding="utf-8") == page(statements())


def test_every_aspect_has_statements():
    assert {statement.aspect for statement in statements()} == set(ASPECTS)


def test_no_test_is_counted_twice():
    names = named(statements())
    assert len(names) == len(set(names))


def test_every_contract_test_is_in_the_table():
    sources = [(FOLDER / f"{module}.py").read_text(encoding="utf-8") for module in MODULES]
    written = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.M)}
    assert written == {name.partition("[")[0] for name in named(statements())}
