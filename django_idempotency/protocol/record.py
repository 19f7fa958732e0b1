"""What is remembered about one key."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

RESPONSE_VERSION = 1
"""Layout of stored responses. Other versions are refused, never guessed at."""

MAX_STEP_NAME_LENGTH = 100
"""Longest name of a step, in characters."""


class State(StrEnum):
    """State of a record. Claimed means in flight (locked) or interrupted (not locked)."""

    CLAIMED = "claimed"
    COMPLETED = "completed"


class Omitted(StrEnum):
    """Why a completed record has no response to replay."""

    NOTHING = ""
    STREAMING = "streaming"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    SECRET = "secret"  # noqa: S105
    CSRF_TOKEN = "csrf_token"  # noqa: S105
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as plain data: status, header pairs, body bytes.

    :ivar attributes: of the response object, that a replay has, too: plain JSON values by name
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    omitted: Omitted = Omitted.NOTHING
    codec: str = ""
    """What was done to head and body, which are both in the body then. Stores keep it."""
    attributes: Mapping[str, Any] = field(default_factory=dict)


# What django.http.ResponseHeaders accepts, which is more than RFC 9110, section 5.1, allows: a
# replay must not fail where the first answer did not.
_NAME = re.compile(r"[^\r\n\x80-\U0010ffff]*").fullmatch
_VALUE = re.compile(r"[^\r\n]*").fullmatch


def head_of(response: StoredResponse) -> str:
    """Return what :func:`parse_head` reads: headers and attributes as JSON, without line breaks."""
    if not response.attributes:
        return json.dumps(response.headers)
    return json.dumps({"headers": response.headers, "attributes": response.attributes})


def parse_head(text: str | bytes) -> tuple[tuple[tuple[str, str], ...], dict[str, Any]]:
    """Return stored header fields and attributes.

    :param text: JSON, a list of pairs; with attributes, an object that holds it
    :raises ValueError: if it is something else
    :raises TypeError: the same
    """
    head = json.loads(text)
    headers, attributes = head, {}
    if isinstance(head, dict):
        if head.keys() != {"headers", "attributes"} or not isinstance(head["attributes"], dict):
            raise ValueError("no head of a response")
        headers, attributes = head["headers"], head["attributes"]
    pairs = tuple((name, value) for name, value in headers)
    if not all(_NAME(name) and _VALUE(value) for name, value in pairs):
        raise ValueError("no header fields")
    return pairs, attributes


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request wants to remember before it runs."""

    scope: str
    key: str
    fingerprint: str
    method: str
    path: str
    retention: timedelta
    tombstone: timedelta = timedelta(0)
    """How long an expired record is told apart from one that never was."""
    codec: str = ""
    """How policy wants the response written down: for whoever answers in the view's place."""
    secret: bytes = field(default=b"", repr=False)
    """What keys for other systems are derived with."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A record as one statement saw it; ``expired`` by the store's clock."""

    id: int
    state: State
    attempt: int
    fingerprint: str
    expired: bool
    response: StoredResponse | None
    is_tombstone: bool = False
    """Expired, but not for longer than the claim's tombstone."""
    fresh: bool = False
    """This very statement created the record."""
    scope: str = ""
    key: str = ""
    transaction: str | None = None
    """Where it was locked: the server's number of that transaction, if the server tells."""
    held: bool = False
    """The store knows that an attempt holds it. Where locks say so, nobody knows beforehand."""
