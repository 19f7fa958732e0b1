"""What a cache server does for the stores: it keeps records, and copies of stored responses.

:mod:`.redis` implements both protocols for Redis, :mod:`.local` for the memory of one process.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex
from typing import NamedTuple, Protocol

from ...protocol.record import Claim, State

RECORD = "record"
"""Kind of the names under which records are kept."""


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """A record as one call left it.

    :ivar holder: number of the lease's holder, among all who have held it
    :ivar is_open: an attempt has not said how it ended
    :ivar expires: seconds since the epoch
    :ivar is_held: an attempt holds the lease
    :ivar is_expired: the retention is over, and no attempt holds the lease
    """

    id: int
    state: State
    attempt: int
    fingerprint: str
    response: bytes | None
    holder: int
    is_open: bool
    expires: float
    is_held: bool
    is_expired: bool


class HeldRecord(NamedTuple):
    """The record that an attempt holds, or wants to: its name, its id, and two fencing tokens."""

    name: str
    record_id: int
    attempt: int
    holder: int


class RecordBackend(Protocol):
    """Keeps records. Each call is atomic, and may raise :class:`~..base.Outage`."""

    def claim(self, name: str, record_id: int, claim: Claim, lease: timedelta) -> CacheRecord:
        """Return the record. Create it if there is none, or one that is past its tombstone.

        An expired record that is returned is within its tombstone.

        :param record_id: of a new record, which starts with attempt 1 and this lease
        """

    def look(self, name: str) -> CacheRecord | None: ...

    def take(self, name: str, record_id: int, lease: timedelta) -> CacheRecord | None:
        """Take over a lease that has lapsed; ``None`` if an attempt holds it.

        A completed record is returned as it is.

        :raises Gone: if it is not there any more
        """

    def start(self, held: HeldRecord, lease: timedelta) -> int | None:
        """Start the next attempt and return its number; ``None`` if the lease is lost."""

    def renew(self, held: HeldRecord, lease: timedelta) -> bool:
        """Prolong the lease of its holder, or return a lapsed one to the last attempt."""

    def complete(self, held: HeldRecord, response: bytes, retention: timedelta) -> bool:
        """Store the response, if the record is claimed and this is its last attempt."""

    def withdraw(self, held: HeldRecord) -> bool:
        """Remove the record, if it is claimed and this is its last attempt."""

    def release(self, held: HeldRecord, is_open: bool | None) -> bool:
        """Let go of the lease, if the record is claimed and this is its last attempt.

        :param is_open: ``None`` leaves it as it is
        """

    def let_time_pass(self, by: timedelta) -> None:
        """Let every record expire earlier, and leave leases as they are. For tests."""


EPOCH = "idempotency:epoch"
"""Name of the epoch in the replay cache. It does not expire."""

DELETED = b"-"
"""The deletion marker: an operator has deleted the record, so no copy may be stored here."""

DELETED_FOR = timedelta(hours=1)
"""How long the marker stays: longer than a request that still wants to store a copy can take."""

Entry = tuple[str, bytes, int]
"""Name, value, and when it expires (milliseconds, by the cache's clock)."""


class Lookup(NamedTuple):
    """Answer of the replay cache.

    :ivar value: ``None`` if there is no entry
    :ivar now: the cache's time in milliseconds, when it was asked or before
    :ivar epoch: the current epoch
    """

    name: str
    value: bytes | None
    now: int
    epoch: str

    @property
    def seal_context(self) -> str:
        """A copy is good for one name and one epoch."""
        return f"{self.name}@{self.epoch}"


class ReplayCache(Protocol):
    """Keeps copies of stored responses. All calls may raise :class:`~..base.Outage`."""

    def get(self, name: str) -> Lookup: ...

    def add(self, entries: Iterable[Entry]) -> None:
        """Store entries whose names are free."""

    def mark_deleted(self, names: Iterable[str]) -> None:
        """Replace entries by deletion markers."""

    def begin_epoch(self) -> None:
        """Invalidate every entry of today, and every entry that is being made right now."""


def new_epoch() -> bytes:
    # Random rather than counted: after a loss, a counter would come back to where it was.
    return token_hex(16).encode()
