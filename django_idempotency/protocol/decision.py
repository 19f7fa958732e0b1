"""What may be said about an interrupted attempt."""

from dataclasses import dataclass
from enum import StrEnum

from .record import Snapshot, State, StoredResponse


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
    """Nobody has completed this record: whoever gets its lock may run."""


Decision = Replay | Mismatch | Expired | Tombstone | Claimed


def decide(record: Snapshot, fingerprint: str) -> Decision:
    """Return what the record allows; expiry comes first, then the fingerprint (I7)."""
    if record.expired:
        return Tombstone() if record.is_tombstone and record.response is not None else Expired()
    if record.fingerprint != fingerprint:
        return Mismatch()
    if record.state is State.COMPLETED and record.response is not None:
        return Replay(record.response)
    return Claimed()


class ResolverAnswer(StrEnum):
    """What a resolver answers if it has no response."""

    RUN_AGAIN = "run again"
    STILL_UNKNOWN = "still unknown"
