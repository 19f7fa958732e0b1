"""Records in the database, completed ones also in a cache: a replay found there costs no SQL.

The database decides. A completed record does not change, so as long as the database loses nothing
a copy can only be missing: by eviction, by an outage, or because an operator deleted the record. A
database that was restored, or failed over to a replica that lacked the last commits, has lost
records whose copies are still in the cache: :func:`forget_all` invalidates them, too (I17).
"""

from datetime import timedelta

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F

from ...protocol.envelope import Remembered, record_name, seal, unseal
from ...protocol.record import Claim, Snapshot, State, StoredResponse
from ..base import Outage
from ..database.dialects import StoreTime
from ..database.location import location_of_records
from ..database.store import DatabaseStore
from .backends import DELETED, Lookup
from .replay_cache import replay_cache_of, writer_of

MARGIN = 1000
"""An entry expires earlier than its record, by one part in so many: clocks do not run alike."""


class CachedDatabaseStore(DatabaseStore):
    """The database's store, with a cache for replays. For one request.

    :param using: alias of the database
    :param outcome_open: see :class:`.DatabaseStore`
    :param cache: alias of the cache
    :param secret: key of the names and seals
    """

    def __init__(
        self, using: str, outcome_open: bool = False, *, cache: str, secret: bytes
    ) -> None:
        super().__init__(using, outcome_open)
        self._cache = cache
        self._secret = secret
        # Where the copy belongs, once the cache has answered.
        self._place: Lookup | None = None

    def cached(self, claim: Claim) -> Snapshot | None:
        """Return the record if the cache knows that it is completed."""
        location = location_of_records(self.using).parts
        name = record_name(self._secret, location, claim.scope, claim.key)
        try:
            found = replay_cache_of(self._cache).get(name)
        except Outage:
            return None
        if found.value != DELETED:
            self._place = found
        copy = found.value and unseal(self._secret, found.seal_context, found.value)
        if not copy:
            return None
        return Snapshot(0, State.COMPLETED, 0, copy.fingerprint, False, copy.response)

    def claim(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if absent. A completed one is put back into the cache."""
        record = super().claim(claim)
        if record is not None and record.response is not None and self._place is not None:
            left = ExpressionWrapper(F("expires_at") - StoreTime(), DurationField())
            lifetime = self._records().filter(pk=record.id).values_list(left, flat=True).first()
            self._copy(record, record.response, lifetime or timedelta(0))
        return record

    def complete(
        self,
        record: Snapshot,
        response: StoredResponse,
        retention: timedelta,
        commits: bool = False,
    ) -> bool:
        """Store the response; when that is committed, in the cache, too."""
        completed = super().complete(record, response, retention, commits)
        if completed:
            self._copy(record, response, retention)
        return completed

    def _copy(self, record: Snapshot, response: StoredResponse, lifetime: timedelta) -> None:
        place = self._place
        if place is None:
            return  # the cache did not answer, or holds a deletion marker
        value = seal(self._secret, place.seal_context, Remembered(record.fingerprint, response))
        expires = place.now + lifetime // timedelta(milliseconds=1) * (MARGIN - 1) // MARGIN
        entry, writer = (place.name, value, expires), writer_of(self._cache)
        # No partial(): if it raised, Django would look for its name, and raise for not finding it.
        transaction.on_commit(lambda: writer.add(entry), using=self.using, robust=True)


def forget(cache: str, secret: bytes, using: str, scope: str, key: str) -> None:
    """Remove the copy of a record, before the record is deleted from the database.

    :param using: alias of that database
    :raises Outage: if the cache does not answer: then the record must not be deleted, because
        the cache would go on replaying it
    """
    locations = location_of_records(using).namesakes()
    replay_cache_of(cache).mark_deleted(
        [record_name(secret, each.parts, scope, key) for each in locations]
    )


def forget_all(cache: str) -> None:
    """Invalidate every copy of today, and every copy that a running request is about to make.

    :raises Outage: if the cache does not answer
    """
    replay_cache_of(cache).begin_epoch()
