"""Kinds of values: each parses what a project sets, and says in words what it must be."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from inspect import iscoroutinefunction, isfunction
from typing import Any

from ..protocol.codecs import Keyring
from ..protocol.record import MAX_STEP_NAME_LENGTH

TEN_YEARS = timedelta(days=3660)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Value:
    """A kind of value.

    :param words: what it is, for the settings reference: Markdown, with its unit and bounds
    :param parse: returns the value, or raises ``ValueError`` or ``TypeError`` and says what it must
        be
    :param takes_function: whether it may be a function, which a setting may name by dotted path
    """

    words: str
    parse: Callable[[object], Any]
    takes_function: bool = False

    def __call__(self, value: object) -> Any:
        return self.parse(value)


def kind(words: str, takes_function: bool = False) -> Callable[[Callable[[object], Any]], Value]:
    return lambda parse: Value(words, parse, takes_function)


def optional(value: Value) -> Value:
    return replace(
        value,
        words=f"{value.words}, or `None`",
        parse=lambda given: None if given is None else value.parse(given),
    )


def number(lowest: int, highest: int, what: str) -> Value:
    """:param what: such as ``number of bytes``"""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest} ({what})")
        return value

    return Value(f"{what[0].upper()}{what[1:]}, {lowest} to {highest}", parse)


ERROR_STATUS = number(400, 499, "HTTP status")


def duration(lowest: timedelta, highest: timedelta, words: str) -> Value:
    """:param words: the bounds, such as ``one second to ten years``"""

    def parse(value: object) -> timedelta:
        if not isinstance(value, timedelta):
            raise TypeError("must be a datetime.timedelta")
        if not lowest <= value <= highest:
            raise ValueError(f"must be a datetime.timedelta from {words}")
        return value

    return Value(f"`datetime.timedelta`, {words}", parse)


RETENTION = duration(timedelta(seconds=1), TEN_YEARS, "one second to ten years")
"""How long a response replays. Longer, and databases have no date for its end."""


def choice(enum: type[StrEnum]) -> Value:
    def parse(value: object) -> StrEnum:
        if value not in list(enum):
            raise ValueError("must be one of " + ", ".join(repr(str(item)) for item in enum))
        return enum(str(value))

    return Value("One of " + ", ".join(f'`"{item}"`' for item in enum), parse)


_FUNCTION = "a function (in the setting also its dotted path)"


def choice_or_function(enum: type[StrEnum]) -> Value:
    plain = choice(enum)

    def parse(value: object) -> object:
        if callable(value) and not isinstance(value, type):
            return value
        try:
            return plain.parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or a function") from None

    return Value(f"{plain.words}, or {_FUNCTION}", parse, takes_function=True)


@kind(f"{_FUNCTION.capitalize()}, or `None`", takes_function=True)
def function(value: object) -> object:
    if value is not None and (not callable(value) or isinstance(value, type)):
        raise TypeError("must be a function, or None")
    if iscoroutinefunction(value):
        raise TypeError("must be a function that is not async, or None")
    return value


@kind(f"Name of a header, {_FUNCTION}, or `None`", takes_function=True)
def header_or_function(value: object) -> object:
    """A text is a header's name: it never contains a dot, as dotted paths do."""
    return header(value) if isinstance(value, str) else function(value)


@kind(f"{_FUNCTION.capitalize()}, `True`, or `None`", takes_function=True)
def handler(value: object) -> object:
    """Records name it, so it needs a name that the next process knows."""
    if value is None or value is True:
        return value
    if not isfunction(value) or "<" in value.__qualname__:
        raise TypeError("must be a function with a name, outside of other functions, True or None")
    if len(dotted_path(value).encode()) > MAX_STEP_NAME_LENGTH:
        raise ValueError(f"must have a dotted path of at most {MAX_STEP_NAME_LENGTH} bytes")
    return value


def dotted_path(handler: Callable[..., object]) -> str:
    """Return the dotted path by which records name a handler."""
    return f"{handler.__module__}.{handler.__qualname__}"


@kind("`True` or `False`")
def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be True or False")
    return value


def _field_name(value: object) -> str:
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise ValueError("must be the name of a header field (RFC 9110, section 5.1)")
    return value


@kind("Name of a header field")
def header(value: object) -> str:
    """A header field that this package reads or writes."""
    name = _field_name(value)
    if name.lower() in {"authorization", "cookie", "content-type", "content-length"}:
        raise ValueError("must not be a header field that HTTP gives another meaning")
    return name


@kind("List of names of header fields; case does not matter")
def headers(value: object) -> frozenset[str]:
    return frozenset(_field_name(item).lower() for item in _items(value))


@kind("Text, printable ASCII")
def header_value(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(
        r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", value
    ):
        raise ValueError("must be printable ASCII")
    return value


@kind("List of these names")
def methods(value: object) -> frozenset[str]:
    known = {"POST", "PUT", "PATCH", "DELETE"}
    given = {str(item).upper() for item in _items(value)}
    if not given or not given <= known:
        raise ValueError(f"must be a list of {', '.join(sorted(known))}")
    return frozenset(given)


@kind("List of names")
def names(value: object) -> frozenset[str]:
    given = _items(value)
    if not all(isinstance(name, str) and name for name in given):
        raise ValueError("must be a list of field names")
    return frozenset(str(name) for name in given)


@kind('List of names, or of paths such as `"card.number"`')
def paths(value: object) -> frozenset[str]:
    given: frozenset[str] = names(value)
    if not all(all(path.split(".")) for path in given):
        raise ValueError("must be a list of field names, or of paths such as 'card.number'")
    return given


@kind('List of statuses from 200 to 599, `"4xx"`, `"5xx"`')
def statuses(value: object) -> frozenset[int]:
    codes: set[int] = set()
    for item in _items(value):
        if item in {"4xx", "5xx"}:
            first = int(str(item)[0]) * 100
            codes.update(range(first, first + 100))
        elif isinstance(item, int) and 200 <= item <= 599:
            codes.add(item)
        else:
            raise ValueError("must be a list of status codes, '4xx' or '5xx'")
    return frozenset(codes)


@kind("An `http(s)` URL or an absolute path")
def url(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(https?://|/)[\x21-\x7e]*", value):
        raise ValueError("must be an http(s) URL or an absolute path")
    if re.search(r'[<>"\\]', value):
        raise ValueError("must not hold <, >, quotes or backslashes")
    return value


def alias(of: str) -> Value:
    """:param of: the setting that has the aliases"""

    def parse(value: object) -> str | None:
        if value is not None and (not isinstance(value, str) or not value):
            raise TypeError(f"must be an alias in {of}, or None")
        return value

    return Value(f"Alias in `{of}`, or `None`", parse)


@kind("A regular expression, compiled or as text, or `None`")
def pattern(value: object) -> re.Pattern[str] | None:
    if value is None or (isinstance(value, re.Pattern) and isinstance(value.pattern, str)):
        return value
    if not isinstance(value, str):
        raise TypeError("must be a regular expression or None")
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from error


@kind("List of regular expressions")
def patterns(value: object) -> tuple[re.Pattern[str], ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"must be a list of regular expressions, not {value!r}")
    return tuple(_compiled(item) for item in value)


def _compiled(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, TypeError) as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from error


@kind("List of regular expressions, or a dict of them and the reasons")
def reasons(value: object) -> dict[re.Pattern[str], str]:
    """Map each expression to its reason, which is empty where none is given."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(patterns(value), "")
    if not all(isinstance(reason, str) for reason in value.values()):
        raise TypeError("must map regular expressions to reasons, which are text")
    return dict(zip(patterns(list(value)), value.values(), strict=True))


@kind("Dict of regular expressions, each with a dict of settings")
def policies(value: object) -> dict[re.Pattern[str], Mapping[object, object]]:
    if not isinstance(value, Mapping):
        raise TypeError(f"must map regular expressions to dicts of settings, not {value!r}")
    for expression, options in value.items():
        if not isinstance(options, Mapping):
            raise TypeError(f"must map {expression!r} to a dict of settings, not {options!r}")
    return dict(zip(patterns(list(value)), value.values(), strict=True))


@kind("Text of at least 16 characters")
def secret(value: object) -> bytes:
    if not isinstance(value, str) or len(value) < 16:
        raise ValueError("must be a string of at least 16 characters")
    return value.encode()


@kind("List of Fernet keys, as `cryptography.fernet.Fernet.generate_key().decode()` makes them")
def keyring(value: object) -> Keyring:
    if not isinstance(value, list | tuple):
        raise TypeError("must be a list of Fernet keys")
    for place, key in enumerate(value, 1):
        if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9_-]{43}=", key):
            raise ValueError(
                f"key {place} is not a Fernet key (32 bytes as URL-safe base64); make one with "
                "cryptography.fernet.Fernet.generate_key().decode()"
            )
    return Keyring(tuple(value))


def _items(value: object) -> Collection[object]:
    if not isinstance(value, list | tuple | set | frozenset | range):
        raise TypeError("must be a list")
    return value
