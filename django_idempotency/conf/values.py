"""Parsers of policy values: each returns the value, or raises and says what it must be."""

import re
from collections.abc import Callable, Collection
from datetime import timedelta
from enum import StrEnum
from inspect import isfunction

from ..protocol.record import MAX_STEP_NAME_LENGTH

TEN_YEARS = timedelta(days=3660)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def field_name(value: object) -> str:
    """Any header field."""
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise ValueError("must be the name of a header field (RFC 9110, section 5.1)")
    return value


def header(value: object) -> str:
    """A header field that this package reads or writes."""
    name = field_name(value)
    if name.lower() in {"authorization", "cookie", "content-type", "content-length"}:
        raise ValueError("must be a header field of its own")
    return name


def methods(value: object) -> frozenset[str]:
    known = {"POST", "PUT", "PATCH", "DELETE"}
    given = {str(item).upper() for item in items(value)}
    if not given or not given <= known:
        raise ValueError(f"must be a list of {', '.join(sorted(known))}")
    return frozenset(given)


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be True or False")
    return value


def number(lowest: int, highest: int, unit: str) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError(f"must be a whole number of {unit} from {lowest} to {highest}")
        return value

    return parse


def choice(enum: type[StrEnum]) -> Callable[[object], StrEnum]:
    def parse(value: object) -> StrEnum:
        if value not in list(enum):
            raise ValueError("must be one of " + ", ".join(repr(str(item)) for item in enum))
        return enum(str(value))

    return parse


def choice_or_function(enum: type[StrEnum]) -> Callable[[object], object]:
    plain = choice(enum)

    def parse(value: object) -> object:
        if callable(value) and not isinstance(value, type):
            return value
        try:
            return plain(value)
        except ValueError as error:
            raise ValueError(f"{error}, or a function") from None

    return parse


def function(value: object) -> object:
    if value is not None and (not callable(value) or isinstance(value, type)):
        raise TypeError("must be a function, or None")
    return value


def handler(value: object) -> object:
    """Records name it, so it needs a name that the next process knows."""
    if value is None:
        return value
    if not isfunction(value) or "<" in value.__qualname__:
        raise TypeError("must be a function with a name, outside of other functions, or None")
    if len(name_of(value).encode()) > MAX_STEP_NAME_LENGTH:
        raise ValueError(f"must have a dotted path of at most {MAX_STEP_NAME_LENGTH} bytes")
    return value


def name_of(handler: Callable[..., object]) -> str:
    """Return the dotted path of a handler."""
    return f"{handler.__module__}.{handler.__qualname__}"


def duration(lowest: timedelta, highest: timedelta, words: str) -> Callable[[object], timedelta]:
    def parse(value: object) -> timedelta:
        if not isinstance(value, timedelta):
            raise TypeError("must be a datetime.timedelta")
        if not lowest <= value <= highest:
            raise ValueError(f"must be between {words}")
        return value

    return parse


RETENTION = duration(timedelta(seconds=1), TEN_YEARS, "one second and ten years")
"""Parses how long a response replays. Longer, and databases have no date for its end."""


def pattern(value: object) -> re.Pattern[str] | None:
    if value is None or (isinstance(value, re.Pattern) and isinstance(value.pattern, str)):
        return value
    if not isinstance(value, str):
        raise TypeError("must be a regular expression or None")
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from error


def names(value: object) -> frozenset[str]:
    given = items(value)
    if not all(isinstance(name, str) and name for name in given):
        raise ValueError("must be a list of field names")
    return frozenset(str(name) for name in given)


def paths(value: object) -> frozenset[str]:
    given = names(value)
    if not all(all(path.split(".")) for path in given):
        raise ValueError("must be a list of field names, or of paths such as 'card.number'")
    return given


def optional(parse: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else parse(value)


def header_value(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(
        r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", value
    ):
        raise ValueError("must be printable ASCII")
    return value


def statuses(value: object) -> frozenset[int]:
    codes: set[int] = set()
    for item in items(value):
        if item in {"4xx", "5xx"}:
            first = int(str(item)[0]) * 100
            codes.update(range(first, first + 100))
        elif isinstance(item, int) and 200 <= item <= 599:
            codes.add(item)
        else:
            raise ValueError("must be a list of status codes, '4xx' or '5xx'")
    return frozenset(codes)


def headers(value: object) -> frozenset[str]:
    return frozenset(field_name(item).lower() for item in items(value))


def url(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(https?://|/)[\x21-\x7e]*", value):
        raise ValueError("must be an http(s) URL or an absolute path")
    if re.search(r'[<>"\\]', value):
        raise ValueError("must not hold <, >, quotes or backslashes")
    return value


def alias(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError("must be a database alias or None")
    return value


def cache_alias(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError("must be a cache alias or None")
    return value


def items(value: object) -> Collection[object]:
    if not isinstance(value, list | tuple | set | frozenset | range):
        raise TypeError("must be a list")
    return value
