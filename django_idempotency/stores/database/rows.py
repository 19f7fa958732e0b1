"""Rows of the record table as plain values, and back."""

from collections.abc import Sequence
from typing import Any

from ...protocol.record import (
    RESPONSE_VERSION,
    Omitted,
    Snapshot,
    State,
    StoredResponse,
    head_of,
    parse_head,
)

RESPONSE_COLUMNS = (
    "response_version",
    "response_status",
    "response_headers",
    "response_body",
    "response_omitted",
    "response_codec",
)
"""What a response is stored in, in the order of :func:`response_values`."""

COLUMNS = ("id", "state", "attempt", "fingerprint", *RESPONSE_COLUMNS)
"""Columns of a snapshot, in this order; ``expired``, ``is_tombstone`` and ``fresh`` follow."""

_BODY = COLUMNS.index("response_body")


def snapshot(
    row: Sequence[Any], scope: Any = "", key: Any = "", transaction: str | None = None
) -> Snapshot:
    """Build a snapshot from ``COLUMNS``, ``expired``, ``is_tombstone`` and ``fresh``."""
    if isinstance(row[1], bytes):  # as MySQL's drivers return columns that compare exactly
        body = row[_BODY]
        row = [each.decode(errors="replace") if type(each) is bytes else each for each in row]
        row[_BODY] = body
        scope, key = _text(scope), _text(key)
    record_id, state, attempt, fingerprint, *response, expired, is_tombstone, fresh = row
    claimed = state == State.CLAIMED
    return Snapshot(
        id=record_id,
        state=State.CLAIMED if claimed else State.COMPLETED,
        attempt=attempt,
        fingerprint=fingerprint,
        expired=bool(expired),
        response=None if claimed else _response(state, *response),
        is_tombstone=bool(is_tombstone),
        fresh=bool(fresh),
        scope=scope,
        key=key,
        transaction=transaction,
    )


def response_values(response: StoredResponse) -> tuple[Any, ...]:
    """Return what to store for a response, in the order of ``RESPONSE_COLUMNS``."""
    return (
        RESPONSE_VERSION,
        response.status,
        "" if response.codec else head_of(response),
        None if response.omitted else response.body,
        str(response.omitted),
        response.codec,
    )


def columns(response: StoredResponse) -> dict[str, Any]:
    """Return the same by the names of their columns."""
    return dict(zip(RESPONSE_COLUMNS, response_values(response), strict=True))


def _response(
    state: str, version: int, status: int, headers: str, body: Any, omitted: str, codec: str
) -> StoredResponse:
    """Return the response, or an unreadable one if this version cannot have written the row."""
    try:
        if state != State.COMPLETED or version != RESPONSE_VERSION:
            raise ValueError("written by another version")
        if not 100 <= status <= 599:
            raise ValueError("no HTTP status")
        reason = Omitted(omitted)
        if reason:
            return StoredResponse(status, omitted=reason)
        # psycopg2 returns memoryview, the other drivers bytes.
        content = memoryview(body).tobytes()
        if codec:
            return StoredResponse(status, body=content, codec=codec)
        pairs, attributes = parse_head(headers)
        return StoredResponse(status, pairs, content, attributes=attributes)
    except (TypeError, ValueError, RecursionError):
        known = status if isinstance(status, int) else 0
        return StoredResponse(known, omitted=Omitted.UNREADABLE)


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
