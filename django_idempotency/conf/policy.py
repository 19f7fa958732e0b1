"""What a view promises its callers: one typed, frozen object."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any

from ..protocol.codecs import Codec
from ..protocol.fingerprint import Selection
from ..protocol.keys import MAX_KEY_LENGTH, KeyFormat
from . import values

NOT_STORED = frozenset({401, 403, 408, 409, 412, 423, 425, 429, *range(500, 600)})
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


class Recheck(StrEnum):
    """Which checks a retry of a completed request has to pass."""

    ALL = "all"
    AUTHENTICATION = "authentication"


class Fingerprint(StrEnum):
    """What must be equal for two requests with one key to be the same request."""

    REQUEST = "request"
    BYTES = "bytes"
    NONE = "none"


class CountHost(StrEnum):
    """Whether a request to another host is another request."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class OnInFlight(StrEnum):
    """What a duplicate of a running request gets."""

    CONFLICT = "conflict"
    WAIT = "wait"


class OnInterrupted(StrEnum):
    """What happens after an attempt whose effects are not known (non-atomic mode)."""

    REFUSE = "refuse"
    RUN = "run"


class Store(StrEnum):
    """Where records live."""

    DB = "db"
    CACHED_DB = "cached_db"
    CACHE = "cache"


class OnOutage(StrEnum):
    """What happens to requests with a key while the store is out of reach."""

    CLOSED = "closed"
    OPEN = "open"


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
    key_pattern: re.Pattern[str] | None = None
    scope: Scope | Callable[[Any], str | tuple[str, ...] | None] = Scope.PRINCIPAL
    tenant: Callable[[Any], str] | None = None
    anonymous: Anonymous = Anonymous.IGNORE
    recheck: Recheck = Recheck.ALL
    fingerprint: Fingerprint | Callable[[Any], str] = Fingerprint.REQUEST
    fingerprint_fields: frozenset[str] | None = None
    fingerprint_ignored_fields: frozenset[str] = frozenset()
    fingerprint_ignored_parameters: frozenset[str] = frozenset()
    fingerprint_host: CountHost = CountHost.AUTO
    retention: timedelta = timedelta(hours=24)
    tombstone: timedelta = timedelta(0)
    expired_status: int = 410
    not_stored: frozenset[int] = NOT_STORED
    new_keys_per_hour: int | None = None
    max_request_size: int | None = None
    max_response_size: int = 1024 * 1024
    excluded_headers: frozenset[str] = frozenset()
    store_body: bool = True
    redacted_fields: frozenset[str] = frozenset()
    codec: Codec = Codec.PLAIN
    replay_header: str | None = "Idempotency-Replayed"
    replay_value: str = "true"
    key_header: str | None = None
    completed_header: str | None = None
    expires_header: str | None = None
    status_header: str | None = None
    mismatch_status: int = 422
    in_flight: OnInFlight = OnInFlight.CONFLICT
    in_flight_status: int = 409
    wait_timeout: timedelta = timedelta(seconds=5)
    wait_limit: int = 2
    retry_after: int = 1
    errors: Errors | Callable[[Any, Any], Any] = Errors.PROBLEM
    docs_url: str = (
        "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07"
    )
    using: str | None = None
    atomic: bool = True
    on_interrupted: OnInterrupted = OnInterrupted.REFUSE
    resolver: Callable[[Any], Any] | None = None
    resumable: Callable[[Any, Any], Any] | None = None
    resume_data: Callable[[Any], Any] | None = None
    hold_limit: int = 20
    store: Store = Store.DB
    outage: OnOutage = OnOutage.CLOSED
    lease: timedelta = timedelta(seconds=30)

    @property
    def meta_key(self) -> str:
        """The header's name in ``request.META``."""
        return _meta_key(self.header)

    @property
    def selection(self) -> Selection:
        """What of a body makes up its payload."""
        return Selection(
            self.fingerprint is Fingerprint.BYTES,
            self.fingerprint_fields,
            self.fingerprint_ignored_fields,
        )

    def override(self, **values: object) -> "Policy":
        """Return this policy with some fields changed.

        :raises PolicyError: for an unknown name or a bad value
        """
        return build(values, self) if values else self


@cache
def _meta_key(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def build(given: Mapping[str, object], base: Policy | None = None) -> Policy:
    """Return ``base`` (or the defaults) with ``given`` parsed into it.

    :raises PolicyError: names every unknown field and every bad value at once
    """
    parsed: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, value in given.items():
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


_PARSERS: dict[str, Callable[[object], object]] = {
    "header": values.header,
    "methods": values.methods,
    "required": values.flag,
    "key_format": values.choice(KeyFormat),
    "key_max_length": values.number(1, MAX_KEY_LENGTH, "characters"),
    "key_pattern": values.pattern,
    "scope": values.choice_or_function(Scope),
    "tenant": values.function,
    "anonymous": values.choice(Anonymous),
    "recheck": values.choice(Recheck),
    "fingerprint": values.choice_or_function(Fingerprint),
    "fingerprint_fields": values.optional(values.paths),
    "fingerprint_ignored_fields": values.paths,
    "fingerprint_ignored_parameters": values.names,
    "fingerprint_host": values.choice(CountHost),
    "retention": values.RETENTION,
    "tombstone": values.duration(timedelta(0), values.TEN_YEARS, "nothing and ten years"),
    "expired_status": values.number(400, 499, "an HTTP client error"),
    "not_stored": values.statuses,
    "new_keys_per_hour": values.optional(values.number(1, 10**9, "keys")),
    "max_request_size": values.optional(values.number(0, 2**40, "bytes")),
    "max_response_size": values.number(0, 2**30, "bytes"),
    "excluded_headers": values.headers,
    "store_body": values.flag,
    "redacted_fields": values.paths,
    "codec": values.choice(Codec),
    "replay_header": values.optional(values.header),
    "replay_value": values.header_value,
    "key_header": values.optional(values.header),
    "completed_header": values.optional(values.header),
    "expires_header": values.optional(values.header),
    "status_header": values.optional(values.header),
    "mismatch_status": values.number(400, 499, "an HTTP client error"),
    "in_flight": values.choice(OnInFlight),
    "in_flight_status": values.number(400, 499, "an HTTP client error"),
    "wait_timeout": values.duration(
        timedelta(milliseconds=1), timedelta(minutes=1), "a millisecond and a minute"
    ),
    "wait_limit": values.number(1, 10_000, "requests per process"),
    "retry_after": values.number(1, 86400, "seconds"),
    "errors": values.choice_or_function(Errors),
    "docs_url": values.url,
    "using": values.alias,
    "atomic": values.flag,
    "on_interrupted": values.choice(OnInterrupted),
    "resolver": values.function,
    "resumable": values.handler,
    "resume_data": values.function,
    "hold_limit": values.number(1, 10_000, "connections per process"),
    "store": values.choice(Store),
    "outage": values.choice(OnOutage),
    "lease": values.duration(timedelta(seconds=1), timedelta(hours=1), "a second and an hour"),
}

FIELDS = tuple(field.name for field in fields(Policy))
"""Names of all policy options; in the settings they are upper case."""
