"""Rows of the record table as plain values, and back."""

import json
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


def snapshot(row: Sequence[Any]) -> Snapshot:
    """Build a snapshot from ``COLUMNS``, ``expired``, ``buried`` and ``fresh``."""
    record_id, state, attempt, fingerprint, *response, expired, buried, fresh = row
    state = State(_text(state))
    return Snapshot(
        id=record_id,
        state=state,
        attempt=attempt,
        fingerprint=_text(fingerprint),
        expired=bool(expired),
        response=_response(*response) if state is State.COMPLETED else None,
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


def _response(version: int, status: int, headers: str, body: Any, omitted: Any) -> StoredResponse:
    reason = _text(omitted)
    if reason:
        return StoredResponse(status, omitted=Omitted(reason))
    try:
        if version != RESPONSE_VERSION or body is None:
            raise ValueError("written by another version")
        pairs = tuple((str(name), str(value)) for name, value in json.loads(headers))
    except (TypeError, ValueError):
        return StoredResponse(status or 0, omitted=Omitted.UNREADABLE)
    # psycopg2 returns memoryview, the other drivers bytes.
    return StoredResponse(status, pairs, bytes(body))


def _text(value: Any) -> str:
    """MySQL drivers return binary columns as bytes."""
    return value.decode() if isinstance(value, bytes) else value
