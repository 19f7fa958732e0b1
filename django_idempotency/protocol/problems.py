"""The errors a client can meet, as data (RFC 9457)."""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable, machine-readable names of the errors."""

    KEY_MISSING = "idempotency_key_missing"
    KEY_INVALID = "idempotency_key_invalid"
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
class Problem:
    """One error answer.

    :param status: HTTP status code
    :param retryable: whether sending the same request again can help
    :param retry_after: seconds to wait before that, if it can
    :param original_status: of the first answer, where that is completed and cannot be replayed
    """

    code: Code
    status: int
    title: str
    detail: str
    retryable: bool = False
    retry_after: int | None = None
    original_status: int | None = None


def key_missing(header: str) -> Problem:
    return Problem(
        Code.KEY_MISSING,
        400,
        f"{header} is missing",
        f"This operation requires the {header} header: a unique value per operation, "
        "sent again unchanged with every retry.",
    )


def key_invalid(header: str, reason: str) -> Problem:
    return Problem(Code.KEY_INVALID, 400, f"{header} is not valid", reason)


def key_reused(header: str, status: int) -> Problem:
    return Problem(
        Code.KEY_REUSED,
        status,
        f"{header} is already used",
        "This key was first sent with another request. Use a new key for a new operation, "
        "or send the original request again.",
    )


def in_flight(status: int, retry_after: int) -> Problem:
    return Problem(
        Code.IN_FLIGHT,
        status,
        "A request with this key is being processed",
        "The first request with this key has not finished. Send the same request again later.",
        retryable=True,
        retry_after=retry_after,
    )


def response_unavailable(original_status: int, reason: str) -> Problem:
    """:param original_status: 0 if it is not known"""
    known = f" with status {original_status}" if original_status else ""
    return Problem(
        Code.RESPONSE_UNAVAILABLE,
        409,
        "The operation was completed, but its response is not available",
        f"The first request with this key was answered{known}. "
        f"Its response cannot be replayed ({reason}). The operation is not executed again.",
        original_status=original_status or None,
    )


def key_expired(header: str, status: int) -> Problem:
    return Problem(
        Code.KEY_EXPIRED,
        status,
        f"{header} has expired",
        "This key was used before and its response is no longer kept. Look up what became of the "
        "operation, and use a new key for a new one.",
    )


def anonymous_refused(header: str) -> Problem:
    return Problem(
        Code.ANONYMOUS,
        403,
        f"{header} needs an authenticated caller",
        f"Keys belong to a caller. Authenticate, or leave out the {header} header.",
    )


def caller_required(header: str) -> Problem:
    return Problem(
        Code.CALLER_REQUIRED,
        403,
        f"{header} is required, and needs an authenticated caller",
        f"This operation requires the {header} header, and keys belong to a caller. Authenticate, "
        "and send the same request with the same key again.",
    )


def request_too_large(header: str, largest: int) -> Problem:
    return Problem(
        Code.REQUEST_TOO_LARGE,
        413,
        f"The body is too large for a request with {header}",
        f"A request with the {header} header may have a body of at most {largest} bytes. Nothing "
        "was executed.",
    )


def too_many_keys(header: str, retry_after: int) -> Problem:
    return Problem(
        Code.TOO_MANY_KEYS,
        429,
        f"Too many new values of {header}",
        "This caller has used as many new keys within this hour as are granted. Nothing was "
        "executed. Keys that were used before are still answered.",
        retryable=True,
        retry_after=retry_after,
    )


def outcome_unknown() -> Problem:
    return Problem(
        Code.OUTCOME_UNKNOWN,
        409,
        "The outcome of the operation is not known",
        "The first request with this key was interrupted. It is not executed again until it is "
        "known what it did. Send the same request again later.",
        retryable=True,
        retry_after=60,
    )


def operation_refused() -> Problem:
    return Problem(
        Code.OPERATION_REFUSED,
        409,
        "The operation is not executed again",
        "The first request with this key was interrupted, and it was decided not to execute it "
        "again. Look up what became of it, and use a new key for a new operation.",
    )


def store_busy(retry_after: int) -> Problem:
    return Problem(
        Code.STORE_BUSY,
        503,
        "The key could not be recorded",
        "The database is busy. Nothing was executed. Send the same request again later.",
        retryable=True,
        retry_after=retry_after,
    )


def store_unavailable(retry_after: int) -> Problem:
    return Problem(
        Code.STORE_UNAVAILABLE,
        503,
        "Keys cannot be recorded at the moment",
        "The store of keys is out of reach. Nothing was executed. Send the same request again "
        "later.",
        retryable=True,
        retry_after=retry_after,
    )
