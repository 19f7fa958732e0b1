"""Records in a cache alone: for views whose effects are not in the database.

There is no lock that dies with its process, so a claim comes with a lease: its holder renews it
while the view runs, and once it has lapsed another attempt may take the record over. The attempt's
number is the fencing token: an attempt that was taken over can neither store nor release anything
(I12).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from secrets import randbits

from ...extras import require
from ...protocol.envelope import Remembered, record_name, seal, unseal
from ...protocol.keys import name_in_logs
from ...protocol.record import Claim, Omitted, Snapshot, State, StoredResponse
from ...protocol.status import OperationStatus, operation_state
from .backends import RECORD, CacheRecord, HeldRecord, RecordBackend
from .local import LocalBackend, is_local


def backend_of(alias: str) -> RecordBackend:
    """Return the record backend of a cache.

    :raises ModuleNotFoundError: if it needs django-redis, which is not installed
    """
    if is_local(alias):
        return LocalBackend(alias)
    require("django_redis", "redis", 'The store "cache"')
    from .redis import RedisBackend

    return RedisBackend(alias)


class CacheStore:
    """The store that needs no database. For one request.

    A record's id is random: it tells the record from others that had, or will have, its name.

    :param cache: alias of the cache
    :param secret: key of the names and seals
    :param lease: how long a claim holds without being renewed
    :param place: what tells tenants apart that share the cache
    """

    def __init__(
        self, cache: str, secret: bytes, lease: timedelta, place: tuple[str, ...] = ()
    ) -> None:
        self.lease = lease
        self._place = place
        self._secret = secret
        self._backend = backend_of(cache)
        self._name = self._key = self._scope = ""  # until the claim

    def cached(self, claim: Claim) -> Snapshot | None:
        """Return nothing: a claim costs no more than a look."""
        return None

    def look(self, claim: Claim) -> Snapshot | None:
        """Return the record if there is one, and change nothing."""
        found = self._look(claim.scope, claim.key)
        return None if found is None else self._snapshot(found)

    def claim(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if absent or expired; a fresh one is held already."""
        self._name = self._name_of(claim.scope, claim.key)
        new = randbits(63)
        found = self._backend.claim(self._name, new, claim, self.lease)
        return self._snapshot(found)._replace(
            is_tombstone=found.is_expired,
            fresh=found.id == new,
            held=found.is_held,
        )

    def look_up(self, scope: str, key: str) -> OperationStatus | None:
        """Return the status of the operation under a key of a scope; ``None`` if there is none."""
        found = self._look(scope, key)
        if found is None:
            return None
        response = self._snapshot(found).response
        return OperationStatus(
            operation_state(found.state, response, found.is_held, found.is_expired),
            found.state is State.CLAIMED and found.is_open and not found.is_held,
            datetime.fromtimestamp(found.expires, UTC),
            response=response,
        )

    def take(self, record: Snapshot) -> tuple[Snapshot, int, bool] | None:
        """Take over the lease of a record; ``None`` if an attempt holds it.

        :raises Gone: if it is not there any more
        :return: the record, which may be completed by now; our number among its holders; and
            whether the attempt before us has not said how it ended
        """
        found = self._backend.take(self._name, record.id, self.lease)
        if found is None:
            return None
        return self._snapshot(found)._replace(expired=False), found.holder, found.is_open

    def start(self, record: Snapshot, holder: int) -> Snapshot | None:
        """Start an attempt under the next number; ``None`` if the lease was lost meanwhile.

        From now on the attempt before can store nothing (I12).
        """
        attempt = self._backend.start(self._held(record, holder), self.lease)
        return None if attempt is None else record._replace(attempt=attempt)

    def renew(self, record: Snapshot, holder: int) -> bool:
        """Prolong the lease, or take it back if it has lapsed and no attempt has started since.

        :return: whether this holder has it
        """
        return self._backend.renew(self._held(record, holder), self.lease)

    def complete(self, record: Snapshot, response: StoredResponse, retention: timedelta) -> bool:
        """Store the response of a claimed record; ``False`` if it is not this attempt's now."""
        remembered = Remembered(record.fingerprint, response)
        value = seal(self._secret, self._seal_context(record.id), remembered)
        return self._backend.complete(self._held(record), value, retention)

    def withdraw(self, record: Snapshot) -> bool:
        """Remove a claimed record; ``False`` if it is not this attempt's now."""
        return self._backend.withdraw(self._held(record))

    def release(self, record: Snapshot, holder: int, is_open: bool | None) -> bool:
        """Let go of the lease; ``False`` if another attempt has started.

        :param is_open: the outcome of the attempt is unknown; ``None`` if it has not started, and
            leaves what is known of the one before
        """
        return self._backend.release(self._held(record, holder), is_open)

    def evict(self, record_id: int) -> bool:
        """Return ``True``: the claim that finds an expired record replaces it."""
        return True

    def purge(self, batch_size: int, older_than: timedelta = timedelta(0)) -> Iterator[int]:
        """Remove nothing: the cache removes what has expired."""
        return iter(())

    @property
    def named(self) -> str:
        """How lines of the log name the operation."""
        return name_in_logs(self._key, self._scope)

    def _look(self, scope: str, key: str) -> CacheRecord | None:
        self._name = self._name_of(scope, key)
        return self._backend.look(self._name)

    def _snapshot(self, found: CacheRecord) -> Snapshot:
        response = None
        if found.response is not None:
            remembered = unseal(self._secret, self._seal_context(found.id), found.response)
            if remembered is not None and remembered.fingerprint == found.fingerprint:
                response = remembered.response
            else:  # this version cannot have sealed it: neither execute nor replay
                response = StoredResponse(0, omitted=Omitted.UNREADABLE)
        return Snapshot(
            found.id, found.state, found.attempt, found.fingerprint, found.is_expired, response
        )

    def _held(self, record: Snapshot, holder: int = 0) -> HeldRecord:
        return HeldRecord(self._name, record.id, record.attempt, holder)

    def _name_of(self, scope: str, key: str) -> str:
        self._key, self._scope = key, scope
        return record_name(self._secret, self._place, scope, key, RECORD)

    def _seal_context(self, record_id: int) -> str:
        """A response is good for one record: a later one of the same name is another."""
        return f"{self._name}/{record_id}"
