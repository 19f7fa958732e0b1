"""The interface of a store, and how a store fails."""

from typing import Protocol

from ..protocol.record import Claim, Snapshot


class Busy(Exception):
    """Others occupy the store. Nothing was changed; the same call may succeed later.

    :ivar waited: the database has waited for its whole timeout, so a second try would double that
    """

    def __init__(self, waited: bool = False) -> None:
        self.waited = waited
        super().__init__()


class Outage(Exception):
    """The store is out of reach, and it is unknown whether anything was changed."""


class Gone(Exception):
    """A record that was to be locked is not there any more: its attempt has withdrawn it."""


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
