"""The record of one key: its claim, its stored response, and the decision about a request."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple

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


PLAIN_DATA = "None, bool, finite numbers, text, lists, and dicts with text as keys"
"""What :func:`plain_text` takes, for people."""


def plain_text(data: Any) -> str | None:
    """Return data as JSON; ``None`` if it would not come back equal."""
    try:
        text = json.dumps(data, allow_nan=False)
        return text if json.loads(text) == data else None
    except (TypeError, ValueError, RecursionError):
        return None


# What every request makes is a named tuple: immutable, too, and made in a quarter of the time that
# a frozen dataclass takes.


class StoredResponse(NamedTuple):
    """A response as plain data: status, header pairs, body bytes.

    :ivar attributes: of the response object, that a replay has, too: plain JSON values by name
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    omitted: Omitted = Omitted.NOTHING
    codec: str = ""
    """How head and body, both in the body then, are compressed or encrypted. Stores keep it."""
    attributes: Mapping[str, Any] = {}


# As django.http.ResponseHeaders accepts them, which is more than RFC 9110, section 5.1, allows: a
# replay must not fail where the first answer did not.
_NAME = re.compile(r"[^\r\n\x80-\U0010ffff]*").fullmatch
_VALUE = re.compile(r"[^\r\n]*").fullmatch


def head_of(response: StoredResponse) -> str:
    """Return headers and attributes as JSON without line breaks, for :func:`parse_head`."""
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
    pairs = []
    for name, value in headers:
        if not (_NAME(name) and _VALUE(value)):
            raise ValueError("no header fields")
        pairs.append((name, value))
    return tuple(pairs), attributes


class Claim(NamedTuple):
    """What a request records before its view runs."""

    scope: str
    key: str
    fingerprint: str
    method: str
    path: str
    retention: timedelta
    tombstone: timedelta = timedelta(0)
    """How long an expired record is told apart from one that never was."""
    codec: str = ""
    """How policy wants the response stored, for an operator who answers in the view's place."""
    outcome_open: bool = False
    """An interruption leaves its outcome unknown: effects lie outside of the database."""
    secret: bytes = b""
    """Secret of the keys that are derived for other systems."""
    request_id: str = ""
    """What the project calls the request, for people."""

    def __repr__(self) -> str:
        return f"<Claim of {self.method} {self.path}>"  # neither the secret nor the key


class Snapshot(NamedTuple):
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
    """Names the transaction that locked it, where storing asks for that: by the server's number, or
    by a savepoint."""
    held: bool = False
    """The store knows that an attempt holds it. A database knows only when it tries to lock."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Answer with the stored response."""

    response: StoredResponse


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key belongs to another request."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The record is past its retention: as good as absent."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The record is past its retention, and policy wants that to be known."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The record is not completed: the attempt that gets its lock may run."""


Decision = Replay | Mismatch | Expired | Tombstone | Claimed


def decide(record: Snapshot, fingerprint: str) -> Decision:
    """Decide about a request by its record: expiry comes first, then the fingerprint (I7)."""
    if record.expired:
        return Tombstone() if record.is_tombstone and record.response is not None else Expired()
    if record.fingerprint != fingerprint:
        return Mismatch()
    if record.state is State.COMPLETED and record.response is not None:
        return Replay(record.response)
    return Claimed()
