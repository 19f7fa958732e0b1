"""The types of options and settings say what the parsers take."""

import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from django_idempotency import options
from django_idempotency.conf.policy import POLICY_OPTIONS, Setting
from django_idempotency.conf.settings import PROJECT_SETTINGS, SETTINGS
from django_idempotency.functions.run import OPTIONS
from django_idempotency.webhooks.receiving import _FIXED

pytestmark = pytest.mark.once

IN_SETTINGS = get_type_hints(options.IdempotencySettings)
OF_POLICIES = get_type_hints(options.PolicySettings)
OF_VIEWS = get_type_hints(options.IdempotentOptions)
OF_FORMS = get_type_hints(options.FormOptions)
OF_RECEIVERS = get_type_hints(options.WebhookOptions)
OF_FUNCTIONS = get_type_hints(options.FunctionOptions)


def one(request: Any) -> Any: ...


def two(first: Any, second: Any) -> Any: ...


def with_default(first: Any, second: Any = None) -> Any: ...


FERNET = "A" * 43 + "="
CHOICES = {
    str(choice)
    for setting in POLICY_OPTIONS.values()
    for choice in re.findall(r'`"([\w+-]+)"`', setting.value.words)
}
PROBES: list[Any] = [
    *(None, True, 0, 1, 422, 5.5, timedelta(seconds=2), timedelta(hours=2)),
    *("text", "Header", "https://example.com/", "x" * 16, b"bytes", re.compile("a")),
    *sorted(CHOICES),
    *(each.default for each in POLICY_OPTIONS.values() if isinstance(each.default, StrEnum)),
    *(one, with_default, object()),
    *(["POST"], ("POST",), {"POST"}, frozenset({"POST"}), [429, "5xx"], range(400, 410), {429}),
    *([FERNET], (FERNET,)),
    *({}, {"^/": {}}, {"^/": "reason"}, [re.compile("a")], [1.5], [None], {"^/": 5}),
]
"""Values of every kind; each option takes some of them, and refuses the others."""


def fits(value: Any, hint: Any) -> bool:
    """Whether a type checker would let a value pass."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in {Union, types.UnionType}:
        return any(fits(value, each) for each in args)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in args)
    if getattr(hint, "__total__", None) is not None:
        return isinstance(value, Mapping) and all(name in get_type_hints(hint) for name in value)
    if origin is Callable:
        return callable(value) and not isinstance(value, type)
    if origin in {list, set, frozenset, tuple, Sequence, AbstractSet}:
        if not isinstance(value, origin) or isinstance(value, bytes):
            return False
        return all(fits(item, args[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            fits(name, args[0]) and fits(item, args[1]) for name, item in value.items()
        )
    return isinstance(value, origin or hint)


def taken(setting: Setting) -> list[Any]:
    found = []
    for probe in PROBES:
        if isinstance(probe, StrEnum) and type(probe) is not type(setting.default):
            continue  # to a parser it is the text
        try:
            setting.value.parse(probe)
        except (TypeError, ValueError):
            continue
        found.append(probe)
    return found


def members(hint: Any) -> Iterator[Any]:
    """Yield the alternatives of a type; each literal is one."""
    if get_origin(hint) in {Union, types.UnionType}:
        for each in get_args(hint):
            yield from members(each)
    elif get_origin(hint) is Literal:
        yield from (Literal[each] for each in get_args(hint))
    else:
        yield hint


def test_every_setting_has_its_type_and_there_are_no_others() -> None:
    assert IN_SETTINGS.keys() == SETTINGS.keys()
    assert OF_POLICIES.keys() == SETTINGS.keys() - PROJECT_SETTINGS.keys()


def test_every_decorator_has_its_options() -> None:
    every = set(POLICY_OPTIONS)
    assert OF_VIEWS.keys() == every | {"key"}
    assert set(OF_FORMS) == (every | {"key"}) - {"scope"}  # a parameter of its own
    assert set(OF_RECEIVERS) == every - _FIXED.keys() - {"key_header", "retention"}
    assert set(OF_FUNCTIONS) == OPTIONS


@pytest.mark.parametrize("name", SETTINGS)
def test_a_type_lets_pass_what_the_parser_takes(name: str) -> None:
    """What is right is not objected to, and each alternative of a type is of use."""
    setting, hint = SETTINGS[name], IN_SETTINGS[name]
    values = taken(setting)
    assert values
    assert [value for value in values if not fits(value, hint)] == []
    kinds = {*members(hint)} - ({str} if setting.value.takes_function else set())
    assert {kind for kind in kinds if not any(fits(value, kind) for value in values)} == set()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_type_stops_what_is_of_another_kind(name: str) -> None:
    """A value that the parser refuses, and whose kind no other value has that it takes."""
    setting, hint = SETTINGS[name], IN_SETTINGS[name]
    values = taken(setting)
    kinds = tuple({type(value) for value in values})
    others = [each for each in PROBES if not isinstance(each, kinds) and not callable(each)]
    if setting.value.takes_function:
        others = [probe for probe in others if not isinstance(probe, str)]
    # To Python and to its checkers, True is a number.
    assert [probe for probe in others if fits(probe, hint) and probe is not True] == []


@pytest.mark.parametrize("name", sorted(POLICY_OPTIONS))
def test_options_have_the_types_of_settings_but_for_dotted_paths(name: str) -> None:
    """The same type in every decorator, without the text that names a function."""
    setting = {*members(OF_POLICIES[name.upper()])}
    for hints in (OF_VIEWS, OF_FORMS, OF_RECEIVERS, OF_FUNCTIONS):
        if name in hints and (hints is not OF_RECEIVERS or name != "resumable"):
            assert setting - {*members(hints[name])} <= (
                {str} if POLICY_OPTIONS[name].value.takes_function else set()
            )
            assert {*members(hints[name])} <= setting
