"""What is remembered about one key."""

import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

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
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as plain data: status, header pairs, body bytes."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    omitted: Omitted = Omitted.NOTHING
    codec: str = ""
    """What was done to headers and body, which are both in the body then. Stores keep it."""


# RFC 9110, section 5.1, and what would end the line.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[^\r\n\0]*").fullmatch


def header_pairs(text: str | bytes) -> tuple[tuple[str, str], ...]:
    """Return stored header fields.

    :param text: JSON, a list of pairs
    :raises ValueError: if it is something else
    :raises TypeError: the same
    """
    pairs = tuple((name, value) for name, value in json.loads(text))
    if not all(_NAME(name) and _VALUE(value) for name, value in pairs):
        raise ValueError("no header fields")
    return pairs


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
    buried: bool = False
    """Expired, but not for longer than the claim's tombstone."""
    fresh: bool = False
    """This very statement created the record."""
    held: bool = False
    """The store knows that an attempt holds it. Where locks say so, nobody knows beforehand."""
