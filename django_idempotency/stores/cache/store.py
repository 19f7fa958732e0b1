"""Records in a cache alone: for views whose effects are not in the database.

There is no lock that dies with its process, so a claim comes with a lease: who holds it renews it
while its view runs, and whoever finds it lapsed may take the record over. The attempt's number is
the fencing token: an attempt that was taken over can neither store nor release anything (I12).
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import randbits

from ...protocol.envelope import Remembered, record_name, seal, unseal
from ...protocol.record import Claim, Omitted, Snapshot, State, StoredResponse
from ...protocol.status import OperationStatus, operation_state
from .backends import RecordBackend, RedisBackend
from .local import LocalBackend, is_local

KIND = "record"
"""Kind of the names in the cache."""


class CacheStore:
    """The store that needs no database. For one request.

    A record's id is random: it tells the record from others that had, or will have, its place.

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
        self._name = ""  # until the claim

    def recall(self, claim: Claim) -> Snapshot | None:
        """A claim costs no more than a look."""
        return None

    def look(self, claim: Claim) -> Snapshot | None:
        """Return the record if there is one, and change nothing."""
        self._name = self._name_of(claim.scope, claim.key)
        seen = self._backend.look(self._name)
        if seen is None:
            return None
        cell = seen.cell
        response = self._response(cell.id, cell.fingerprint, cell.response)
        return Snapshot(
            cell.id, cell.state, cell.attempt, cell.fingerprint, cell.is_expired, response
        )

    def claim(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if absent or expired; a fresh one is held already."""
        self._name = self._name_of(claim.scope, claim.key)
        new = randbits(63)
        cell = self._backend.claim(self._name, new, claim, self.lease)
        return Snapshot(
            cell.id,
            cell.state,
            cell.attempt,
            cell.fingerprint,
            cell.is_expired,
            self._response(cell.id, cell.fingerprint, cell.response),
            is_tombstone=cell.is_tombstone,
            fresh=cell.id == new,
            held=cell.is_held,
        )

    def look_up(self, scope: str, key: str) -> OperationStatus | None:
        """Return what is known under a key of a scope; ``None`` if nothing is."""
        self._name = self._name_of(scope, key)
        seen = self._backend.look(self._name)
        if seen is None:
            return None
        cell = seen.cell
        response = self._response(cell.id, cell.fingerprint, cell.response)
        return OperationStatus(
            operation_state(cell.state, response, cell.is_held, cell.is_expired),
            cell.state is State.CLAIMED and seen.is_open and not cell.is_held,
            datetime.fromtimestamp(seen.expires, UTC),
            response=response,
        )

    def take(self, record: Snapshot) -> tuple[Snapshot, int, bool] | None:
        """RecordLock a record that nobody holds; ``None`` if somebody does.

        :return: the record, completed if it is that by now; our number among its holders; and
            whether the attempt before us has not said how it ended
        """
        taken = self._backend.take(self._name, record.id, self.lease)
        if taken is None:
            return None
        response = self._response(record.id, record.fingerprint, taken.response)
        now = Snapshot(record.id, taken.state, taken.attempt, record.fingerprint, False, response)
        return now, taken.holder, taken.is_open

    def start(self, record: Snapshot, holder: int) -> Snapshot | None:
        """Start an attempt under the next number; ``None`` if the lease was lost meanwhile.

        From now on the attempt before can store nothing (I12).
        """
        attempt = self._backend.start(*self._ours(record), holder, self.lease)
        return None if attempt is None else replace(record, attempt=attempt)

    def renew(self, record: Snapshot, holder: int) -> bool:
        """Prolong the lease, or take it back if nobody holds it and no attempt has started since;
        ``False`` if that cannot be done."""
        return self._backend.renew(*self._ours(record), holder, self.lease)

    def complete(self, record: Snapshot, response: StoredResponse, retention: timedelta) -> bool:
        """Store the response of a claimed record; ``False`` if it is not this attempt's now."""
        remembered = Remembered(record.fingerprint, response)
        value = seal(self._secret, self._incarnation(record.id), remembered)
        return self._backend.complete(*self._ours(record), value, retention)

    def release(self, record: Snapshot, holder: int, is_open: bool | None) -> bool:
        """Let go of the lease; ``False`` if another attempt has started.

        :param is_open: nobody knows what the attempt did; ``None`` if it has not started, and
            leaves what is known of the one before
        """
        return self._backend.release(*self._ours(record), holder, is_open)

    def evict(self, record_id: int) -> bool:
        """Say yes: an expired record is replaced by the claim that finds it."""
        return True

    def purge(self, batch_size: int, older_than: timedelta = timedelta(0)) -> Iterator[int]:
        """Nothing to do: the cache removes what has expired."""
        return iter(())

    def _response(
        self, record_id: int, fingerprint: str, sealed: bytes | None
    ) -> StoredResponse | None:
        """What this version cannot have sealed is unreadable: neither executed nor replayed."""
        if sealed is None:
            return None
        remembered = unseal(self._secret, self._incarnation(record_id), sealed)
        if remembered is None or remembered.fingerprint != fingerprint:
            return StoredResponse(0, omitted=Omitted.UNREADABLE)
        return remembered.response

    def _ours(self, record: Snapshot) -> tuple[str, int, int]:
        return self._name, record.id, record.attempt

    def _name_of(self, scope: str, key: str) -> str:
        return record_name(self._secret, self._place, scope, key, KIND)

    def _incarnation(self, record_id: int) -> str:
        """What a response is sealed to: another record of the same name is another one."""
        return f"{self._name}/{record_id}"


def backend_of(cache: str) -> RecordBackend:
    """Return what keeps the records in a cache."""
    return LocalBackend(cache) if is_local(cache) else RedisBackend(cache)
