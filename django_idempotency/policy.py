"""What a view promises its callers: one typed, frozen object."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from .protocol.keys import MAX_KEY_LENGTH, KeyFormat

NOT_STORED = frozenset({401, 403, 408, 409, 423, 425, 429, *range(500, 600)})
"""Statuses that say "not now" rather than "this is the result"."""


class Scope(StrEnum):
    """Whose keys are kept apart."""

    PRINCIPAL = "principal"
    TOKEN = "token"  # noqa: S105


class Anonymous(StrEnum):
    """What happens to a key sent by a caller who is not authenticated."""

    IGNORE = "ignore"
    SHARE = "share"
    REFUSE = "refuse"


class Fingerprint(StrEnum):
    """What must be equal for two requests with one key to be the same request."""

    REQUEST = "request"
    NONE = "none"


class Errors(StrEnum):
    """Who writes the error answers."""

    PROBLEM = "problem"
    DRF = "drf"


class PolicyError(ValueError):
    """A policy argument has a bad name or value: ``problems`` maps names to what is wrong."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{name}: {text}" for name, text in self.problems.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The policy of a guarded view. The settings reference describes each field."""

    header: str = "Idempotency-Key"
    methods: frozenset[str] = frozenset({"POST", "PUT", "PATCH", "DELETE"})
    required: bool = False
    key_format: KeyFormat = KeyFormat.LENIENT
    key_max_length: int = MAX_KEY_LENGTH
    scope: Scope | Callable[[Any], str | None] = Scope.PRINCIPAL
    anonymous: Anonymous = Anonymous.IGNORE
    fingerprint: Fingerprint = Fingerprint.REQUEST
    retention: timedelta = timedelta(hours=24)
    not_stored: frozenset[int] = NOT_STORED
    max_response_size: int = 1024 * 1024
    excluded_headers: frozenset[str] = frozenset()
    replay_header: str = "Idempotency-Replayed"
    mismatch_status: int = 422
    in_flight_status: int = 409
    retry_after: int = 1
    errors: Errors = Errors.PROBLEM
    docs_url: str = (
        "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07"
    )
    using: str | None = None

    @property
    def meta_key(self) -> str:
        """The header's name in ``request.META``."""
        return "HTTP_" + self.header.upper().replace("-", "_")

    def override(self, **values: object) -> "Policy":
        """Return this policy with some fields changed.

        :raises PolicyError: for an unknown name or a bad value
        """
        return build(values, self)


def build(values: Mapping[str, object], base: Policy | None = None) -> Policy:
    """Return ``base`` (or the defaults) with ``values`` parsed into it.

    :raises PolicyError: names every unknown field and every bad value at once
    """
    parsed: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, value in values.items():
        parse = _PARSERS.get(name)
        if parse is None:
            known = ", ".join(sorted(_PARSERS))
            problems[name] = f"there is no such option; the options are {known}"
            continue
        try:
            parsed[name] = parse(value)
        except (TypeError, ValueError) as error:
            problems[name] = f"{error}, not {value!r}"
    if problems:
        raise PolicyError(problems)
    return replace(base or Policy(), **parsed)


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _header(value: object) -> str:
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise ValueError("must be the name of a header field (RFC 9110, section 5.1)")
    if value.lower() in {"authorization", "cookie", "content-type", "content-length"}:
        raise ValueError("must be a header field of its own")
    return value


def _methods(value: object) -> frozenset[str]:
    known = {"POST", "PUT", "PATCH", "DELETE"}
    methods = {item.upper() if isinstance(item, str) else item for item in _items(value)}
    if not methods or not methods <= known:
        raise ValueError(f"must be a list of {', '.join(sorted(known))}")
    return frozenset(str(item) for item in methods)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be True or False")
    return value


def _number(lowest: int, highest: int, unit: str) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError(f"must be a whole number of {unit} from {lowest} to {highest}")
        return value

    return parse


def _choice(enum: type[StrEnum]) -> Callable[[object], StrEnum]:
    def parse(value: object) -> StrEnum:
        if value not in list(enum):
            raise ValueError("must be one of " + ", ".join(repr(str(item)) for item in enum))
        return enum(str(value))

    return parse


def _scope(value: object) -> object:
    if callable(value) and not isinstance(value, type):
        return value
    if value not in list(Scope):
        raise ValueError("must be 'principal', 'token' or a function of the request")
    return Scope(str(value))


def _retention(value: object) -> timedelta:
    if not isinstance(value, timedelta):
        raise TypeError("must be a datetime.timedelta")
    if not timedelta(seconds=1) <= value <= timedelta(days=3660):
        raise ValueError("must be between one second and ten years")
    return value


def _statuses(value: object) -> frozenset[int]:
    statuses: set[int] = set()
    for item in _items(value):
        if item in {"4xx", "5xx"}:
            first = int(str(item)[0]) * 100
            statuses.update(range(first, first + 100))
        elif isinstance(item, int) and 200 <= item <= 599:
            statuses.add(item)
        else:
            raise ValueError("must be a list of status codes, '4xx' or '5xx'")
    return frozenset(statuses)


def _headers(value: object) -> frozenset[str]:
    return frozenset(_header(item).lower() for item in _items(value))


def _url(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(https?://|/)[\x21-\x7e]*", value):
        raise ValueError("must be an http(s) URL or an absolute path")
    if re.search(r'[<>"\\]', value):
        raise ValueError("must not hold <, >, quotes or backslashes")
    return value


def _alias(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError("must be a database alias or None")
    return value


def _items(value: object) -> Collection[object]:
    if not isinstance(value, list | tuple | set | frozenset | range):
        raise TypeError("must be a list")
    return value


_PARSERS: dict[str, Callable[[object], object]] = {
    "header": _header,
    "methods": _methods,
    "required": _flag,
    "key_format": _choice(KeyFormat),
    "key_max_length": _number(1, MAX_KEY_LENGTH, "characters"),
    "scope": _scope,
    "anonymous": _choice(Anonymous),
    "fingerprint": _choice(Fingerprint),
    "retention": _retention,
    "not_stored": _statuses,
    "max_response_size": _number(0, 2**30, "bytes"),
    "excluded_headers": _headers,
    "replay_header": _header,
    "mismatch_status": _number(400, 499, "an HTTP client error"),
    "in_flight_status": _number(400, 499, "an HTTP client error"),
    "retry_after": _number(1, 86400, "seconds"),
    "errors": _choice(Errors),
    "docs_url": _url,
    "using": _alias,
}

FIELDS = tuple(field.name for field in fields(Policy))
"""Names of all policy options; in the settings they are upper case."""
