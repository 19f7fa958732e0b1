"""What the reference and the policy about public names say is there, and the other way round."""

import re
from dataclasses import fields as dataclass_fields
from importlib import import_module
from inspect import isfunction
from pkgutil import iter_modules
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.dispatch import Signal

import django_idempotency.management.commands as commands
from django_idempotency import decorators, remember, signals, test
from django_idempotency.operations.base import Operation
from tests.docs.pages import DOCS, PAGES, ROOT, every_page, rows, section, text_of

pytestmark = pytest.mark.once

COMMANDS = {module.name for module in iter_modules(commands.__path__)}


LIFECYCLE = {
    "abandon",
    "before_storing",
    "begin",
    "fail",
    "finish",
    "is_remembered",
    "on_end",
    "stage",
    "transaction_on",
    "undoes",
    "waited",
    "withdraw",
}
"""Members of the operation that the guard calls, not the view."""


def public(module: Any) -> set[str]:
    """Return the functions of a module that anybody may use."""
    return {name for name in module.__all__ if isfunction(getattr(module, name))}


def test_both_decorators_have_their_section() -> None:
    titles = set(re.findall(r"^## (\w+)$", text_of(DOCS / "reference/decorators.md"), re.M))
    assert titles == public(decorators)


def test_the_attributes_of_the_operation() -> None:
    text = section(DOCS / "reference/decorators.md", "request.idempotency")
    listed = {re.findall(r"\w+", row[0])[0] for row in rows(text)[2:]}
    stated = set(re.findall(r"^    :ivar (\w+):", Operation.__doc__ or "", re.M))
    stated |= {name for name in vars(Operation) if not name.startswith("_")} - LIFECYCLE
    assert listed == stated
    promises = {row[0]: row[1] for row in rows(text_of(DOCS / "compatibility.md"))}
    assert set(re.findall(r"`(\w+)(?:\(\))?`", promises["`request.idempotency`"])) == listed


def first_cells(table: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_signals_and_the_fields_of_their_events() -> None:
    outcomes, fields = text_of(DOCS / "signals.md").split("| field of `event` |")
    known = [name for name, thing in vars(signals).items() if isinstance(thing, Signal)]
    assert first_cells(outcomes) == known
    assert known == [*map(str, signals.Outcome), "unprotected", "without_key"]
    assert first_cells(fields) == [field.name for field in dataclass_fields(signals.Event)]


@pytest.mark.parametrize(
    ("page", "module"), [("remember.md", remember), ("how-to/testing.md", test)]
)
def test_functions_of_a_page(page: str, module: Any) -> None:
    """Each is in the text, and each that the text imports is there."""
    text = text_of(DOCS / page)
    for name in public(module):
        assert f"`{name}(" in text or f"{name}(" in text
    for names in re.findall(rf"from {module.__name__} import (?:\(([^)]*)\)|(.*))", text):
        assert set(re.findall(r"\w+", " ".join(names))) <= public(module)


def test_public_names_are_those_that_their_modules_list() -> None:
    listed = {
        row[0].strip("`"): re.findall(r"`(\w+)`", row[1])
        for row in rows(text_of(DOCS / "compatibility.md"))
        if row[0].startswith("`django_idempotency.")
    }
    assert {"django_idempotency.decorators", "django_idempotency.middleware"} <= set(listed)
    for path, names in listed.items():
        module = import_module(path)
        assert sorted(module.__all__) == sorted(names), path
        assert [name for name in names if not hasattr(module, name)] == []


def test_a_module_that_lists_names_is_public() -> None:
    """Unless it stands in a room, which only gathers what it holds."""
    text = text_of(DOCS / "compatibility.md")
    root = ROOT / "django_idempotency"
    listing = [path for path in root.glob("*.py") if "__all__ = [" in path.read_text()]
    assert [path.stem for path in listing if f"`django_idempotency.{path.stem}`" not in text] == []


def test_every_command_is_in_the_documentation() -> None:
    text = "".join(text_of(page) for page in PAGES if page.is_relative_to(DOCS))
    assert [name for name in COMMANDS if f"manage.py {name}" not in text] == []


@every_page
def test_named_commands_exist(page: Any) -> None:
    """Those of Django and of the example project, too."""
    others = {path.stem for path in (ROOT / "example_project").rglob("management/commands/*.py")}
    named = set(re.findall(r"manage\.py (\w+)", text_of(page)))
    assert named <= COMMANDS | others | set(get_commands())


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_options_in_the_documentation_exist(name: str) -> None:
    parser = load_command_class("django_idempotency", name).create_parser("manage.py", name)
    known = set(parser._option_string_actions)
    for action in parser._actions:  # those of subcommands, too
        if isinstance(action.choices, dict):
            known |= {
                each for sub in action.choices.values() for each in sub._option_string_actions
            }
    text = "".join(text_of(page) for page in PAGES)
    for line in re.findall(rf"manage\.py {name}([^`\n]*)", text):
        assert set(re.findall(r"--[\w-]+", line)) <= known, line
