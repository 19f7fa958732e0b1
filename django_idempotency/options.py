"""Types of the setting and of the decorators' options, for editors and type checkers.

They say statically what :mod:`django_idempotency.conf.policy` parses; a test compares the two.
Nothing else in the package imports this module when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from re import Pattern
from typing import Any, Literal, TypeAlias, TypedDict
from uuid import UUID

from .conf import policy
from .protocol.codecs import Codec
from .protocol.keys import KeyFormat

__all__ = [
    "FormOptions",
    "FunctionOptions",
    "IdempotencySettings",
    "IdempotentOptions",
    "PolicySettings",
    "WebhookOptions",
]

# A text is a sequence of texts, too, so collections of any text are named one by one.
Names: TypeAlias = list[str] | tuple[str, ...] | set[str] | frozenset[str]
Method: TypeAlias = Literal["POST", "PUT", "PATCH", "DELETE"]
Methods: TypeAlias = Sequence[Method] | AbstractSet[Method]
Statuses: TypeAlias = (
    Sequence[int | Literal["4xx", "5xx"]] | AbstractSet[int | Literal["4xx", "5xx"]]
)
Expressions: TypeAlias = (
    list[str] | list[Pattern[str]] | list[str | Pattern[str]] | tuple[str | Pattern[str], ...]
)

Anonymous: TypeAlias = policy.Anonymous | Literal["ignore", "share", "refuse"]
CodecName: TypeAlias = Codec | Literal["plain", "zlib", "fernet", "zlib+fernet"]
CountHost: TypeAlias = policy.CountHost | Literal["auto", "always", "never"]
ErrorsFormat: TypeAlias = policy.Errors | Literal["problem", "drf"]
FingerprintKind: TypeAlias = policy.Fingerprint | Literal["request", "bytes", "none"]
KeyFormatName: TypeAlias = KeyFormat | Literal["lenient", "structured", "bare", "printable", "uuid"]
OnInFlight: TypeAlias = policy.OnInFlight | Literal["conflict", "wait"]
OnInterrupted: TypeAlias = policy.OnInterrupted | Literal["refuse", "run"]
OnOutage: TypeAlias = policy.OnOutage | Literal["closed", "open"]
Recheck: TypeAlias = policy.Recheck | Literal["all", "authentication"]
ScopeName: TypeAlias = policy.Scope | Literal["principal", "token", "session"]
StoreName: TypeAlias = policy.StoreKind | Literal["db", "cached_db", "cache"]

# Functions get requests, or views' results, whose classes are those of the project's framework.
KeyFunction: TypeAlias = Callable[[Any], str | int | UUID | None]
ScopeFunction: TypeAlias = Callable[[Any], str | tuple[str, ...] | None]
TextFunction: TypeAlias = Callable[[Any], str]
OneArgument: TypeAlias = Callable[[Any], Any]
TwoArguments: TypeAlias = Callable[[Any, Any], Any]


class _Everywhere(TypedDict, total=False):
    """Options that views, receivers and functions take."""

    tombstone: timedelta
    codec: CodecName
    in_flight: OnInFlight
    wait_timeout: timedelta
    wait_limit: int
    retry_after: int
    using: str | None
    atomic: bool
    on_interrupted: OnInterrupted
    resolver: OneArgument | None
    lock_connections: int
    store: StoreName


class FunctionOptions(_Everywhere, total=False):
    """Options of ``run_once()`` and ``@idempotent_function``."""

    retention: timedelta


class _OfRequests(_Everywhere, total=False):
    """Options that every decorator of views takes by these names."""

    required: bool
    key_format: KeyFormatName
    key_max_length: int
    key_pattern: str | Pattern[str] | None
    tenant: TextFunction | None
    anonymous: Anonymous
    fingerprint: FingerprintKind | TextFunction
    fingerprint_fields: Names | None
    fingerprint_ignored_fields: Names
    fingerprint_ignored_parameters: Names
    fingerprint_host: CountHost
    expired_status: int
    not_stored: Statuses
    new_keys_per_hour: int | None
    max_request_size: int | None
    max_response_size: int
    excluded_headers: Names
    store_body: bool
    redacted_fields: Names
    save_session: bool
    replay_header: str | None
    replay_value: str
    completed_header: str | None
    expires_header: str | None
    status_header: str | None
    mismatch_status: int
    in_flight_status: int
    errors: ErrorsFormat | TwoArguments
    docs_url: str
    resume_data: OneArgument | None
    outage: OnOutage
    lease: timedelta
    request_id: OneArgument | str | None


class WebhookOptions(_OfRequests, total=False):
    """Further options of ``@webhook``."""

    scope: ScopeName | ScopeFunction
    resumable: TwoArguments | None


class FormOptions(_OfRequests, total=False):
    """Further options of ``@idempotent_form``."""

    header: str | None
    key_from: KeyFunction | None
    methods: Methods
    recheck: Recheck
    key_header: str | None
    retention: timedelta
    resumable: TwoArguments | Literal[True] | None
    key: KeyFunction | None


class IdempotentOptions(FormOptions, total=False):
    """Options of ``@idempotent``; ``key`` is short for ``key_from``."""

    scope: ScopeName | ScopeFunction


class PolicySettings(TypedDict, total=False):
    """The entries of a policy in ``POLICIES``. A function may be a dotted path."""

    HEADER: str | None
    KEY_FROM: KeyFunction | str | None
    METHODS: Methods
    REQUIRED: bool
    KEY_FORMAT: KeyFormatName
    KEY_MAX_LENGTH: int
    KEY_PATTERN: str | Pattern[str] | None
    SCOPE: ScopeName | ScopeFunction | str
    TENANT: TextFunction | str | None
    ANONYMOUS: Anonymous
    RECHECK: Recheck
    FINGERPRINT: FingerprintKind | TextFunction | str
    FINGERPRINT_FIELDS: Names | None
    FINGERPRINT_IGNORED_FIELDS: Names
    FINGERPRINT_IGNORED_PARAMETERS: Names
    FINGERPRINT_HOST: CountHost
    RETENTION: timedelta
    TOMBSTONE: timedelta
    EXPIRED_STATUS: int
    NOT_STORED: Statuses
    NEW_KEYS_PER_HOUR: int | None
    MAX_REQUEST_SIZE: int | None
    MAX_RESPONSE_SIZE: int
    EXCLUDED_HEADERS: Names
    STORE_BODY: bool
    REDACTED_FIELDS: Names
    CODEC: CodecName
    SAVE_SESSION: bool
    REPLAY_HEADER: str | None
    REPLAY_VALUE: str
    KEY_HEADER: str | None
    COMPLETED_HEADER: str | None
    EXPIRES_HEADER: str | None
    STATUS_HEADER: str | None
    MISMATCH_STATUS: int
    IN_FLIGHT: OnInFlight
    IN_FLIGHT_STATUS: int
    WAIT_TIMEOUT: timedelta
    WAIT_LIMIT: int
    RETRY_AFTER: int
    ERRORS: ErrorsFormat | TwoArguments | str
    DOCS_URL: str
    USING: str | None
    ATOMIC: bool
    ON_INTERRUPTED: OnInterrupted
    RESOLVER: OneArgument | str | None
    RESUMABLE: TwoArguments | Literal[True] | str | None
    RESUME_DATA: OneArgument | str | None
    LOCK_CONNECTIONS: int
    STORE: StoreName
    OUTAGE: OnOutage
    LEASE: timedelta
    REQUEST_ID: OneArgument | str | None


class IdempotencySettings(PolicySettings, total=False):
    """The setting ``IDEMPOTENCY``."""

    POLICIES: Mapping[str, PolicySettings]
    PATHS: Expressions
    EXEMPT_PATHS: Expressions | Mapping[str, str]
    SECRET: str
    CACHE: str | None
    ENCRYPTION_KEYS: list[str] | tuple[str, ...]
    EFFECTS_BUDGET: timedelta
    DOCUMENTATION: str | None
