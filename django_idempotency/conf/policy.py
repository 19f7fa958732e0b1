"""The policy of a view: each option is declared once, as a field of :class:`Policy`.

The declaration feeds the parser, the system checks, the published policies (the contract command,
OpenAPI, ``POLICY_OPTIONS``), and the tables of ``docs/settings.md``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from ..protocol.codecs import Codec
from ..protocol.fingerprint import Selection
from ..protocol.keys import MAX_KEY_LENGTH, KeyFormat
from . import values
from .values import Value

NOT_STORED = frozenset({401, 403, 408, 409, 412, 423, 425, 429, *range(500, 600)})
"""Statuses that say "not now" rather than "this is the result"."""


VIEW = "view"
"""What records have in place of a handler's dotted path where the view is its own handler."""


class Scope(StrEnum):
    """Which callers have separate keys."""

    PRINCIPAL = "principal"
    TOKEN = "token"  # noqa: S105
    SESSION = "session"


class Anonymous(StrEnum):
    """How the guard treats keys of anonymous callers."""

    IGNORE = "ignore"
    SHARE = "share"
    REFUSE = "refuse"


class Recheck(StrEnum):
    """Which checks a retry of a completed request has to pass."""

    ALL = "all"
    AUTHENTICATION = "authentication"


class Fingerprint(StrEnum):
    """Which parts of two requests with one key must be equal."""

    REQUEST = "request"
    BYTES = "bytes"
    NONE = "none"


def key_alone(request: Any) -> str:
    """A fingerprint that all requests share: whatever else differs, a key stands for one
    operation."""
    return ""


class CountHost(StrEnum):
    """Whether a request to another host is another request."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class OnInFlight(StrEnum):
    """How the guard treats a duplicate of a running request."""

    CONFLICT = "conflict"
    WAIT = "wait"


class OnInterrupted(StrEnum):
    """How the guard treats the retry of an interrupted attempt (non-atomic mode)."""

    REFUSE = "refuse"
    RUN = "run"


class StoreKind(StrEnum):
    """Where records live."""

    DB = "db"
    CACHED_DB = "cached_db"
    CACHE = "cache"


class OnOutage(StrEnum):
    """How the guard answers requests with a key while the store does not answer."""

    CLOSED = "closed"
    OPEN = "open"


class Errors(StrEnum):
    """Who writes the error answers."""

    PROBLEM = "problem"
    DRF = "drf"


class PolicyError(ValueError):
    """A policy option is unknown or has a bad value: ``problems`` maps names to messages."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{name}: {text}" for name, text in self.problems.items()))


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of a policy option, or of a setting of the whole project.

    :param value: what it may be
    :param meaning: one sentence for the settings reference
    :param default: as it would be given
    :param published: the name under which its value is published, if it is
    :param sent: the meaning of the response header that it names, if it names one
    """

    value: Value
    meaning: str
    default: object = None
    published: str = ""
    sent: str = ""


def option(default: object, meaning: str, value: Value | None = None, **told: str) -> Any:
    """Declare a policy option. By default it may be what its default is: a flag, or a choice."""
    if value is None:
        value = values.choice(type(default)) if isinstance(default, StrEnum) else values.flag
    setting = Setting(value, meaning, default, **told)
    return field(default=default, metadata={"setting": setting})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The policy of a guarded view.

    :ivar meta_key: the header's name in ``request.META``; empty if there is none
    :ivar carriers: names in ``request.META``; a request without all of them has no key
    :ivar selection: what of a body makes up its payload
    """

    header: str | None = option(
        "Idempotency-Key",
        "The request header that carries the key; `None`: only `KEY_FROM` finds keys.",
        values.optional(values.header),
        published="header",
    )
    key_from: Callable[[Any], str | int | UUID | None] | None = option(
        None,
        "Finds the key elsewhere in a request.",
        values.function,
        published="key_from",
    )
    methods: frozenset[str] = option(
        frozenset({"POST", "PUT", "PATCH", "DELETE"}),
        "The methods to guard.",
        values.methods,
    )
    required: bool = option(False, "Refuse a request without a key.", published="required")
    key_format: KeyFormat = option(KeyFormat.LENIENT, "How a key may be spelled.")
    key_max_length: int = option(
        MAX_KEY_LENGTH,
        "The length of the longest key.",
        values.number(1, MAX_KEY_LENGTH, "number of characters"),
    )
    key_pattern: re.Pattern[str] | None = option(
        None, "The expression that the whole key must match.", values.pattern
    )
    scope: Scope | Callable[[Any], str | tuple[str, ...] | None] = option(
        Scope.PRINCIPAL,
        "Which callers have separate keys.",
        values.choice_or_function(Scope),
        published="scope",
    )
    tenant: Callable[[Any], str] | None = option(
        None, "Names the tenant of a request; tenants share no keys.", values.function
    )
    anonymous: Anonymous = option(
        Anonymous.IGNORE,
        "How the guard treats keys of anonymous callers.",
        published="anonymous",
    )
    recheck: Recheck = option(
        Recheck.ALL, "Which checks the retry of a completed request must pass."
    )
    fingerprint: Fingerprint | Callable[[Any], str] = option(
        Fingerprint.REQUEST,
        "Which parts of two requests with one key must be equal.",
        values.choice_or_function(Fingerprint),
        published="same_request",
    )
    fingerprint_fields: frozenset[str] | None = option(
        None,
        "Compare only these fields of the body.",
        values.optional(values.paths),
        published="compared_fields",
    )
    fingerprint_ignored_fields: frozenset[str] = option(
        frozenset(),
        "Fields of the body that may change between retries.",
        values.paths,
        published="ignored_fields",
    )
    fingerprint_ignored_parameters: frozenset[str] = option(
        frozenset(), "Parameters of the query string that may change between retries.", values.names
    )
    fingerprint_host: CountHost = option(
        CountHost.AUTO, "Whether the same request to another host is another request."
    )
    retention: timedelta = option(
        timedelta(hours=24),
        "How long a completed record replays.",
        values.RETENTION,
        published="retention",
    )
    tombstone: timedelta = option(
        timedelta(0),
        "How long after its retention a key is refused instead of run as new.",
        values.duration(timedelta(0), values.TEN_YEARS, "up to ten years"),
        published="refused_after_retention",
    )
    expired_status: int = option(
        410, "The status of a refusal within the tombstone period.", values.ERROR_STATUS
    )
    not_stored: frozenset[int] = option(
        NOT_STORED,
        "Statuses of responses that are sent but not stored: a retry runs.",
        values.statuses,
        published="not_stored",
    )
    new_keys_per_hour: int | None = option(
        None,
        "The maximum number of new keys per caller and hour.",
        values.optional(values.number(1, 10**9, "number of keys")),
    )
    max_request_size: int | None = option(
        None,
        "The largest body of a request with a key.",
        values.optional(values.number(0, 2**40, "number of bytes")),
    )
    max_response_size: int = option(
        1024 * 1024,
        "The largest body that is stored.",
        values.number(0, 2**30, "number of bytes"),
        published="max_response_size",
    )
    excluded_headers: frozenset[str] = option(
        frozenset(), "Response headers that are not stored.", values.headers
    )
    store_body: bool = option(
        True,
        "Store the body and the headers of a response, not only its status.",
        published="replayed",
    )
    redacted_fields: frozenset[str] = option(
        frozenset(),
        "Fields of a JSON response whose values are not stored.",
        values.paths,
        published="redacted_fields",
    )
    codec: Codec = option(Codec.PLAIN, "Compress or encrypt stored responses.")
    save_session: bool = option(
        False, "Save the session in the commit that stores the response, and replay messages."
    )
    replay_header: str | None = option(
        "Idempotency-Replayed",
        "The response header that marks a replay.",
        values.optional(values.header),
        sent="`{policy.replay_value}` on a replay, and only there.",
    )
    replay_value: str = option("true", "The value of the replay marker.", values.header_value)
    key_header: str | None = option(
        None,
        "A response header that echoes the key.",
        values.optional(values.header),
        sent="The key of the request.",
    )
    completed_header: str | None = option(
        None,
        "A response header with the time of the original response.",
        values.optional(values.header),
        sent="When the original response was made (an HTTP date).",
    )
    expires_header: str | None = option(
        None,
        "A response header with the time until which the response replays.",
        values.optional(values.header),
        sent="Until when the response is replayed (an HTTP date).",
    )
    status_header: str | None = option(
        None,
        "A response header with the effect of the key.",
        values.optional(values.header),
        sent="What became of the key: {statuses}.",
    )
    mismatch_status: int = option(
        422, "The status if the key came with another request.", values.ERROR_STATUS
    )
    in_flight: OnInFlight = option(
        OnInFlight.CONFLICT,
        "How the guard treats a duplicate while the first request runs.",
        published="in_flight",
    )
    in_flight_status: int = option(
        409, "The status while the first request runs.", values.ERROR_STATUS
    )
    wait_timeout: timedelta = option(
        timedelta(seconds=5),
        "How long a duplicate waits.",
        values.duration(
            timedelta(milliseconds=1), timedelta(minutes=1), "a millisecond to a minute"
        ),
    )
    wait_limit: int = option(
        2,
        "The maximum number of duplicates that wait at the same time.",
        values.number(1, 10_000, "number of requests per process"),
    )
    retry_after: int = option(
        1, "The value of `Retry-After`.", values.number(1, 86400, "number of seconds")
    )
    errors: Errors | Callable[[Any, Any], Any] = option(
        Errors.PROBLEM, "Who writes the error responses.", values.choice_or_function(Errors)
    )
    docs_url: str = option(
        "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07",
        "The page of your documentation to which errors link.",
        values.url,
        published="documentation",
    )
    using: str | None = option(
        None, "The database of the records; `None`: ask the router.", values.alias("DATABASES")
    )
    atomic: bool = option(
        True, "Run the view in one transaction with its record.", published="atomic"
    )
    on_interrupted: OnInterrupted = option(
        OnInterrupted.REFUSE,
        "How the guard treats the retry of an interrupted attempt if `ATOMIC` is `False`.",
    )
    resolver: Callable[[Any], Any] | None = option(
        None, "Finds out what an interrupted attempt did.", values.function
    )
    resumable: Callable[[Any, Any], Any] | Literal[True] | None = option(
        None,
        "Finishes interrupted operations of clients that never come back; `True`: the view itself.",
        values.handler,
    )
    resume_data: Callable[[Any], Any] | None = option(
        None, "Returns what `RESUMABLE` needs to know of a request.", values.function
    )
    lock_connections: int = option(
        20,
        "The maximum number of connections that lock records if `ATOMIC` is `False`.",
        values.number(1, 10_000, "number of connections per process"),
    )
    store: StoreKind = option(StoreKind.DB, "Where the records live.")
    outage: OnOutage = option(
        OnOutage.CLOSED,
        "How the guard answers a request with a key while the store does not answer.",
        published="outage",
    )
    lease: timedelta = option(
        timedelta(seconds=30),
        'How long a claim in the store `"cache"` holds without being renewed.',
        values.duration(timedelta(seconds=1), timedelta(hours=1), "one second to one hour"),
    )
    request_id: Callable[[Any], Any] | str | None = option(
        None,
        "Where the record finds the id that the project has given its request, for people.",
        values.header_or_function,
    )
    meta_key: str = field(init=False, repr=False, compare=False)
    carriers: tuple[str, ...] = field(init=False, repr=False, compare=False)
    selection: Selection = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        selection = Selection(
            self.fingerprint is Fingerprint.BYTES,
            self.fingerprint_fields,
            self.fingerprint_ignored_fields,
        )
        header = self.header
        meta_key = "" if header is None else "HTTP_" + header.upper().replace("-", "_")
        # A function may find a key in any request, and every request has a method.
        carriers = (meta_key,) if self.key_from is None else ("REQUEST_METHOD",)
        object.__setattr__(self, "meta_key", meta_key)
        object.__setattr__(self, "carriers", carriers)
        object.__setattr__(self, "selection", selection)

    @property
    def compares_body(self) -> bool:
        """Whether another body under the same key is refused."""
        return self.fingerprint is not Fingerprint.NONE and self.fingerprint is not key_alone

    def override(self, **values: object) -> "Policy":
        """Return this policy with some options changed.

        :raises PolicyError: for an unknown name or a bad value
        """
        return build(values, self) if values else self


POLICY_OPTIONS: dict[str, Setting] = {
    each.name: each.metadata["setting"] for each in fields(Policy) if each.init
}
"""All policy options; in the settings their names are upper case."""

Policy.__doc__ = f"{Policy.__doc__}\n".replace("\n    ", "\n") + "\n".join(
    f":param {name}: {each.meaning} {each.value.words}." for name, each in POLICY_OPTIONS.items()
)


def build(given: Mapping[str, object], base: Policy | None = None) -> Policy:
    """Return ``base`` (or the defaults) with ``given`` parsed into it.

    :raises PolicyError: names every unknown option and every bad value at once
    """
    parsed: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, value in given.items():
        if name not in POLICY_OPTIONS:
            problems[name] = unknown("option", name, POLICY_OPTIONS)
            continue
        try:
            parsed[name] = POLICY_OPTIONS[name].value.parse(value)
        except (TypeError, ValueError) as error:
            problems[name] = f"{error}, not {value!r}"
    if parsed.get("resumable") is True and parsed.get("resume_data") is not None:
        problems["resume_data"] = (
            "is for a resumable function; where the view is resumable itself (True), its request "
            "is kept, so leave resume_data out"
        )
    if problems:
        raise PolicyError(problems)
    policy = replace(base or Policy(), **parsed)
    if policy.header is None and policy.key_from is None:
        raise PolicyError({"header": "must name a header field, unless KEY_FROM is set"})
    return policy


def unknown(thing: str, name: object, known: Iterable[str]) -> str:
    """Say that there is no such thing, and which one was meant, or which there are."""
    spelled = {each.lower(): each for each in known}
    close = get_close_matches(str(name).lower(), spelled, n=1)
    if close:
        return f'there is no such {thing} (did you mean "{spelled[close[0]]}"?)'
    return f"there is no such {thing}; choose from {', '.join(sorted(spelled.values()))}"
