"""Rows of the record table as plain values, and back."""

import json
import re
from collections.abc import Sequence
from typing import Any

from ..protocol.record import RESPONSE_VERSION, Omitted, Snapshot, State, StoredResponse

COLUMNS = (
    "id",
    "state",
    "attempt",
    "fingerprint",
    "response_version",
    "response_status",
    "response_headers",
    "response_body",
    "response_omitted",
)
"""What a snapshot is made from, in this order; ``expired``, ``buried`` and ``fresh`` follow."""

# RFC 9110, section 5.1, and what would end the line.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[^\r\n\0]*").fullmatch


def snapshot(row: Sequence[Any]) -> Snapshot:
    """Build a snapshot from ``COLUMNS``, ``expired``, ``buried`` and ``fresh``."""
    record_id, state, attempt, fingerprint, *response, expired, buried, fresh = row
    claimed = _text(state) == State.CLAIMED
    return Snapshot(
        id=record_id,
        state=State.CLAIMED if claimed else State.COMPLETED,
        attempt=attempt,
        fingerprint=_text(fingerprint),
        expired=bool(expired),
        response=None if claimed else _response(_text(state), *response),
        buried=bool(buried),
        fresh=bool(fresh),
    )


def columns(response: StoredResponse) -> dict[str, Any]:
    """Return the values to store for a response."""
    return {
        "response_version": RESPONSE_VERSION,
        "response_status": response.status,
        "response_headers": json.dumps(response.headers),
        "response_body": None if response.omitted else response.body,
        "response_omitted": str(response.omitted),
    }


def _response(
    state: str, version: int, status: int, headers: str, body: Any, omitted: Any
) -> StoredResponse:
    """Whatever this version cannot have written is unreadable: neither executed nor replayed."""
    try:
        if state != State.COMPLETED or version != RESPONSE_VERSION:
            raise ValueError("written by another version")
        if not 100 <= status <= 599:
            raise ValueError("no HTTP status")
        reason = Omitted(_text(omitted))
        if reason:
            return StoredResponse(status, omitted=reason)
        # psycopg2 returns memoryview, the other drivers bytes.
        return StoredResponse(status, _pairs(headers), memoryview(body).tobytes())
    except (TypeError, ValueError, RecursionError):
        known = status if isinstance(status, int) else 0
        return StoredResponse(known, omitted=Omitted.UNREADABLE)


def _pairs(headers: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple((name, value) for name, value in json.loads(headers))
    if not all(_NAME(name) and _VALUE(value) for name, value in pairs):
        raise ValueError("no header fields")
    return pairs


def _text(value: Any) -> str:
    """MySQL drivers return binary columns as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
