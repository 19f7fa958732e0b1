"""The errors that a client can meet (RFC 9457), each declared once."""

from dataclasses import dataclass, field
from enum import StrEnum


class Code(StrEnum):
    """Stable, machine-readable names of the errors."""

    KEY_MISSING = "idempotency_key_missing"
    KEY_INVALID = "idempotency_key_invalid"
    KEY_AMBIGUOUS = "idempotency_key_ambiguous"
    KEY_REUSED = "idempotency_key_reused"
    IN_FLIGHT = "idempotency_in_flight"
    RESPONSE_UNAVAILABLE = "idempotency_response_unavailable"
    ANONYMOUS = "idempotency_anonymous_refused"
    CALLER_REQUIRED = "idempotency_caller_required"
    REQUEST_TOO_LARGE = "idempotency_request_too_large"
    TOO_MANY_KEYS = "idempotency_too_many_keys"
    KEY_EXPIRED = "idempotency_key_expired"
    STORE_BUSY = "idempotency_store_busy"
    OUTCOME_UNKNOWN = "outcome_unknown"
    STORE_UNAVAILABLE = "idempotency_store_unavailable"
    OPERATION_REFUSED = "idempotency_operation_refused"


@dataclass(frozen=True, slots=True)
class Error:
    """The error of one code: what all its answers have in common.

    :ivar status: HTTP status code, unless policy chooses another one
    :ivar title: of the answer; ``{header}`` is the name of the header field, if there is one
    :ivar detail: of the answer, with ``{header}``, ``{source}`` (where the key comes from),
        ``{reason}``, ``{largest}`` (in bytes) and ``{known}``, which names the status of the first
        answer
    :ivar meaning: what has happened, for documentation
    :ivar advice: what a client does about it, for documentation
    :ivar retryable: whether sending the same request again can help
    """

    status: int
    title: str
    detail: str
    meaning: str
    advice: str
    retryable: bool = False
    retry_after: int | None = None
    """Seconds to wait before that, where policy does not say."""


_WAIT = "wait `Retry-After` seconds, then send the same request again"
_LOOK_UP = "look up what became of the operation; use a new key for a new one"

ERRORS = {
    Code.KEY_MISSING: Error(
        400,
        "{header} is missing",
        "This operation requires {source}: a unique value per operation, "
        "sent again unchanged with every retry.",
        "the operation requires a key, and there is none",
        "send a key: a new one per operation, the same one with every retry",
    ),
    Code.KEY_INVALID: Error(
        400,
        "{header} is not valid",
        "{reason}",
        "the key is empty, too long, sent twice, or spelled wrongly",
        "correct the key",
    ),
    Code.KEY_AMBIGUOUS: Error(
        400,
        "The request has two keys",
        "The {header} header is not the key that the rest of the request has. Nothing was "
        "executed. Send one of them, or the same key in both places.",
        "the header and the rest of the request have different keys",
        "send one key",
    ),
    Code.KEY_REUSED: Error(
        422,
        "{header} is already used",
        "This key was first sent with another request. Use a new key for a new operation, "
        "or send the original request again.",
        "the key first came with another request",
        "use a new key for the new operation, or send the original request again",
    ),
    Code.IN_FLIGHT: Error(
        409,
        "A request with this key is being processed",
        "The first request with this key has not finished. Send the same request again later.",
        "the first request with this key is still running",
        f"{_WAIT}; back off",
        retryable=True,
    ),
    Code.RESPONSE_UNAVAILABLE: Error(
        409,
        "The operation was completed, but its response is not available",
        "The first request with this key was answered{known}. "
        "Its response cannot be replayed ({reason}). The operation is not executed again.",
        "the operation was completed, but its response was not kept",
        "read the result elsewhere; the operation is done and does not run again",
    ),
    Code.ANONYMOUS: Error(
        403,
        "{header} needs an authenticated caller",
        "Keys belong to a caller. Authenticate, or leave out the key.",
        "a key came without credentials",
        "authenticate, or leave the key out",
    ),
    Code.CALLER_REQUIRED: Error(
        403,
        "{header} is required, and needs an authenticated caller",
        "This operation requires {source}, and keys belong to a caller. Authenticate, "
        "and send the same request with the same key again.",
        "the operation requires a key, and the request came without credentials",
        "authenticate, then send the same request again",
    ),
    Code.REQUEST_TOO_LARGE: Error(
        413,
        "The body is too large for a request with {header}",
        "A request with a key may have a body of at most {largest} bytes. Nothing was executed.",
        "the body is larger than this API accepts with a key",
        "send smaller requests, each with its own key",
    ),
    Code.TOO_MANY_KEYS: Error(
        429,
        "Too many new values of {header}",
        "This caller has used all the new keys that one caller may use per hour. Nothing was "
        "executed. Keys that were used before are still answered.",
        "the caller has used all the new keys that one caller may use per hour",
        _WAIT,
        retryable=True,
        retry_after=3600,
    ),
    Code.KEY_EXPIRED: Error(
        410,
        "{header} has expired",
        "This key was used before and its response is no longer kept. Look up what became of the "
        "operation, and use a new key for a new one.",
        "the key was used before, and its response is no longer kept",
        _LOOK_UP,
    ),
    Code.STORE_BUSY: Error(
        503,
        "The key could not be recorded",
        "The database is busy. Nothing was executed. Send the same request again later.",
        "the key could not be recorded; nothing has run",
        _WAIT,
        retryable=True,
    ),
    Code.STORE_UNAVAILABLE: Error(
        503,
        "Keys cannot be recorded at the moment",
        "The store of keys is out of reach. Nothing was executed. Send the same request again "
        "later.",
        "keys cannot be recorded at the moment; nothing has run",
        _WAIT,
        retryable=True,
    ),
    Code.OUTCOME_UNKNOWN: Error(
        409,
        "The outcome of the operation is not known",
        "The first request with this key was interrupted. It is not executed again until it is "
        "known what it did. Send the same request again later.",
        "the first request was interrupted, and it is not yet known what it did",
        f"{_WAIT}; do not use a new key",
        retryable=True,
        retry_after=60,
    ),
    Code.OPERATION_REFUSED: Error(
        409,
        "The operation is not executed again",
        "The first request with this key was interrupted, and it was decided not to execute it "
        "again. Look up what became of it, and use a new key for a new operation.",
        "the first request was interrupted, and will not be executed again",
        _LOOK_UP,
    ),
}
"""Every error, in the order in which documentation shows them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One error answer.

    :param status: HTTP status code
    :param retryable: whether sending the same request again can help
    :param retry_after: seconds to wait before that, if it can
    :param original_status: of the first answer, where that is completed and cannot be replayed
    :param cause: what has led to it, for logs; it may name hosts and tables, so no answer has it
    """

    code: Code
    status: int
    title: str
    detail: str
    retryable: bool = False
    retry_after: int | None = None
    original_status: int | None = None
    cause: str = field(default="", repr=False)
