"""The interface of a store, and how a store fails."""

from datetime import timedelta
from typing import Protocol

from ..protocol.record import Claim, Snapshot, StoredResponse


class Busy(Exception):
    """Others occupy the store. Nothing was changed; the same call may succeed later.

    :ivar waited: the database has waited for its whole timeout, so a second try would double that
    """

    def __init__(self, waited: bool = False) -> None:
        self.waited = waited
        super().__init__()


class Outage(Exception):
    """The store is out of reach, and it is unknown whether anything was changed."""


class Unusable(Outage):
    """The store answers, but what it has for this key cannot be read. A second try is no use."""


class Claims(Protocol):
    """Finds and creates records."""

    def cached(self, claim: Claim) -> Snapshot | None:
        """Look the record up in a cache: return it if it is known there to be completed."""

    def look(self, claim: Claim) -> Snapshot | None:
        """Return the record if there is one, and change nothing.

        :raises Outage: if the store is out of reach
        """

    def claim(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if absent; ``None`` while a rival is creating it.

        :raises Busy: if others occupy the store
        :raises Outage: if the store is out of reach, or cannot keep records
        """

    def evict(self, record_id: int) -> bool:
        """Remove a record if it is expired and not locked; return whether it is gone.

        :raises Busy: if others occupy the store
        """


class Store(Claims, Protocol):
    """Locks and completes records, too."""

    def lock(self, record_id: int, wait: timedelta = timedelta(0)) -> Snapshot | None:
        """Lock the record until the transaction ends; ``None`` if it is locked or gone.

        :param wait: how long to wait for the lock of another attempt; the database wakes us
        :raises Busy: if others occupy the store
        """

    def make_durable(self) -> None:
        """Let the claim survive a crash of the database server, if it would not yet.

        :raises Busy: if there is no connection left to do that with
        """

    def exists(self, record_id: int) -> bool:
        """Whether there is such a record, locked or not."""

    def bump_fencing_token(self, record: Snapshot, commits: bool = False) -> None:
        """Count an attempt that takes a locked record over.

        :param commits: the caller commits the transaction next
        """

    def complete(
        self,
        record: Snapshot,
        response: StoredResponse,
        retention: timedelta,
        commits: bool = False,
    ) -> bool:
        """Store the response of a claimed record; ``False`` if it is not this attempt's now.

        :param commits: if it is stored, the caller commits the transaction next, so both may
            travel together
        """
