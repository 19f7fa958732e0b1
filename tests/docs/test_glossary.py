"""One word for one thing: retired words stay out of the package, its tests and the docs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, rows, text_of

pytestmark = pytest.mark.once

RETIRED = {
    "doors?": "adapter",
    "bracket(s|ed|ing)?": "request state",
    "shelf|shelves": "replay cache",
    "bury|buried|burying": "deletion marker",
    "journals?|journalled": "step log",
    "vaults?": "cipher",
    "desks?": "resolve",
    "recod(e|ed|es|ing)": "re-encrypt",
    "renumber(s|ed|ing)?": "fencing token",
    "verdicts?": "protection",
    "judg(e|ed|es|ing)": "protection",
    "confine(d|s|ment)?": "connection affinity",
    "freez(e|es|ing)": "serialize",
    "thaw(s|ed|ing)?": "deserialize",
    "extents?": "table statistics",
    "(im)?patien(ce|t)": "lock timeout",
    "standings?": "operation status",
    "recall(s|ed|ing)?": "cache lookup",
}
"""Each as a regular expression, with the term of the glossary that has replaced it."""

ALLOWED = {
    "CHANGELOG.md": {"confined", "confinement"},  # the name before
    "django_idempotency/admin/presentation.py": {"brackets"},  # of JSON
    "tests/admin/test_admin.py": {"brackets"},
    "django_idempotency/protocol/keys.py": {"brackets"},  # the characters
    "django_idempotency/test.py": {"freeze"},  # time, in other packages
    "docs/how-to/testing.md": {"freeze"},
    "tests/conftest.py": {"freeze"},  # gc.freeze()
    "tests/support/gunicorn_conf.py": {"freeze"},  # the same
    "docs/pitfalls.md": {"journal"},  # SQLite's
    "docs/tutorial.md": {"journal"},
    "django_idempotency/checks/messages.py": {"journal"},
    "django_idempotency/stores/database/dialects/sqlite.py": {"journal"},
    "example_project/project/databases.py": {"journal"},
    "tests/checks/test_checks_databases.py": {"journal"},
    "tests/structure/test_packaging.py": {"journal"},
    "tests/support/databases.py": {"journal"},
    "tests/support/two_databases.py": {"journal"},
}
"""Where a retired word has its everyday meaning."""


SOURCES = sorted(
    path
    for folder in ("django_idempotency", "tests", "example_project", "proof", "benchmarks")
    for pattern in ("*.py", "*.html", "*.css", "*.txt", "*.md", "*.pml")
    for path in (ROOT / folder).rglob(pattern)
    if path != Path(__file__)
)
EVERYTHING = sorted({*PAGES, *SOURCES})

NAMES = {"hold", "holds", "holding", "shelf", "cell", "texts", "vault", "freeze", "thaw", "bury"}
"""Everyday words in prose, but not in the names of classes and functions of the package."""


def words(text: str) -> Iterator[str]:
    """Return the words of a text in lower case, and the parts of names (``OpenDoor``)."""
    for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text):
        yield word.lower()


def retired(path: Path) -> set[str]:
    pattern = re.compile("|".join(f"(?:{word})" for word in RETIRED))
    return {word for word in words(text_of(path)) if pattern.fullmatch(word)}


def test_retired_words_are_not_used() -> None:
    found = {path.relative_to(ROOT).as_posix(): retired(path) for path in EVERYTHING}
    unexpected = {path: left - ALLOWED.get(path, set()) for path, left in found.items()}
    assert {path: left for path, left in unexpected.items() if left} == {}


@pytest.mark.parametrize("path", ALLOWED)
def test_allowed_words_are_still_needed(path: str) -> None:
    assert retired(ROOT / path) >= ALLOWED[path]


def test_names_say_the_fields_words() -> None:
    found = set()
    for path in (ROOT / "django_idempotency").rglob("*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found |= {node.name} if NAMES & set(words(node.name)) else set()
    assert found == set()


def test_what_replaced_them_is_in_the_glossary() -> None:
    terms = {term for row in rows(text_of(DOCS / "glossary.md")) for term in row[0].split(", ")}
    assert set(RETIRED.values()) <= terms


def test_a_retired_word_is_found_in_names_and_prose() -> None:
    for text in ("open_door()", "class OpenDoor", "Shut the doors.", "DOOR = 1"):
        assert any(re.fullmatch("doors?", word) for word in words(text)), text
