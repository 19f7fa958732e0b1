"""Records in the database, completed ones also in a cache: a replay found there costs no SQL.

The database decides. A completed record does not change, so what the cache says can only be
missing: by eviction, by an outage, or because an operator deleted the record.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F

from ..protocol.envelope import Remembered, record_name, seal, unseal
from ..protocol.record import Claim, Snapshot, State, StoredResponse
from .base import Outage
from .clock import StoreTime
from .db import DatabaseStore
from .shelf import BURIED, shelf_of
from .writer import writer_of

MARGIN = 1000
"""An entry ends this fraction earlier than its record: clocks do not run alike."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record lies in the cache, and the cache's time when we looked (milliseconds)."""

    name: str
    now: int


class CachedDatabaseStore(DatabaseStore):
    """The database's store, with a cache for replays. For one request.

    :param using: alias of the database
    :param is_durable: claims wait for the disk
    :param cache: alias of the cache
    :param secret: key of the names and seals
    """

    def __init__(self, using: str, is_durable: bool = False, *, cache: str, secret: bytes) -> None:
        super().__init__(using, is_durable)
        self._cache = cache
        self._secret = secret
        self._place: _Place | None = None

    def recall(self, claim: Claim) -> Snapshot | None:
        """Return the record if the cache knows that it is completed."""
        name = record_name(self._secret, claim.scope, claim.key)
        try:
            found = shelf_of(self._cache).get(name)
        except Outage:
            return None
        if found.value != BURIED:
            self._place = _Place(name, found.now)
        remembered = found.value and unseal(self._secret, name, found.value)
        if not remembered:
            return None
        return Snapshot(0, State.COMPLETED, 0, remembered.fingerprint, False, remembered.response)

    def claim(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if absent. A completed one is put back into the cache."""
        record = super().claim(claim)
        if record is not None and record.response is not None and self._place is not None:
            self._remember(record, record.response, self._remaining(record))
        return record

    def complete(self, record: Snapshot, response: StoredResponse, retention: timedelta) -> bool:
        """Store the response; when that is committed, in the cache, too."""
        completed = super().complete(record, response, retention)
        if completed:
            self._remember(record, response, retention)
        return completed

    def _remember(self, record: Snapshot, response: StoredResponse, lifetime: timedelta) -> None:
        place = self._place
        if place is None:
            return  # the cache did not answer, or wants nothing there
        value = seal(self._secret, place.name, Remembered(record.fingerprint, response))
        expires = place.now + lifetime // timedelta(milliseconds=1) * (MARGIN - 1) // MARGIN
        entry = (place.name, value, expires)
        writer = writer_of(self._cache)
        # No partial(): if it raised, Django would look for its name, and raise for not finding it.
        transaction.on_commit(lambda: writer.add(entry), using=self.using, robust=True)

    def _remaining(self, record: Snapshot) -> timedelta:
        remaining = ExpressionWrapper(F("expires_at") - StoreTime(), DurationField())
        found = self._records().filter(pk=record.id).values_list(remaining, flat=True).first()
        return found or timedelta(0)


def forget(cache: str, secret: bytes, scope: str, key: str) -> None:
    """Remove a record from the cache, before it is deleted from the database.

    :raises Outage: if the cache does not answer: then the record must not be deleted, because
        the cache would go on replaying it
    """
    shelf_of(cache).bury(record_name(secret, scope, key))
