"""Records in the database whose writes they commit with."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import Error, OperationalError, connections
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet, Value

from ..models import IdempotencyRecord
from ..protocol.record import Claim, Snapshot, State, StoredResponse
from .base import Outage
from .breaker import breaker_of
from .claims import claim_statement
from .clock import NOW, StoreTime
from .contention import contention_is_busy, is_contention
from .file_locks import is_held_by_file
from .journal import Journal
from .patience import lock_timeout
from .rows import COLUMNS, columns, snapshot
from .transactions import write_transaction


class DatabaseStore:
    """The store that atomic mode needs.

    :param using: alias of the database
    :param is_durable: claims wait for the disk, because effects that a crash of the database
        server does not undo will follow them
    """

    def __init__(self, using: str, is_durable: bool = False) -> None:
        self.using = using
        self._is_durable = is_durable

    def recall(self, claim: Claim) -> Snapshot | None:
        """Only the database knows."""
        return None

    def claim(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if absent; ``None`` while a rival is creating it.

        :raises Outage: if the database is out of reach, or cannot keep records
        """
        with contention_is_busy(), _errors_are_outages(self.using):
            statement = claim_statement(
                connections[self.using], IdempotencyRecord, self._is_durable
            )
            return statement.run(claim)

    def lock(self, record_id: int, patience: timedelta = NOW) -> Snapshot | None:
        """Lock the record until the transaction ends; ``None`` if it is locked or gone.

        :param patience: how long to wait for another's lock; the database wakes us
        """
        # SKIP LOCKED rather than NOWAIT: an error would end the transaction and fill the log.
        # By primary key: InnoDB then leaves the unique index free for the claims of rivals.
        # SQLite ignores the clause; there the transaction itself is the lock.
        locked = self._records().filter(pk=record_id).select_for_update(skip_locked=not patience)
        expired = ExpressionWrapper(Q(expires_at__lte=StoreTime()), BooleanField())
        with contention_is_busy(), lock_timeout(connections[self.using], patience):
            rows = list(locked.values_list(*COLUMNS, expired, Value(0), Value(0)))
        return snapshot(rows[0]) if rows else None

    def renumber(self, record: Snapshot) -> None:
        """Count an attempt that takes a locked record over."""
        self._records().filter(pk=record.id).update(attempt=F("attempt") + 1)

    def complete(self, record: Snapshot, response: StoredResponse, retention: timedelta) -> bool:
        """Store the response of a claimed record; ``False`` if it is not this attempt's now."""
        claimed = self._records().filter(pk=record.id, attempt=record.attempt)
        updated = claimed.filter(state=State.CLAIMED).update(
            state=State.COMPLETED,
            completed_at=StoreTime(),
            expires_at=StoreTime(retention),
            **columns(response),
        )
        return updated == 1

    def exists(self, record_id: int) -> bool:
        """Whether there is such a record, whoever holds it."""
        return self._records().filter(pk=record_id).exists()

    def evict(self, record_id: int) -> bool:
        """Remove a record if it is expired and not locked; return whether it is gone."""
        with contention_is_busy():
            removed = self._delete_expired([record_id], NOW)
            return bool(removed) or not self.exists(record_id)

    def purge(self, batch_size: int, older_than: timedelta = NOW) -> Iterator[int]:
        """Remove expired records, skipping locked ones; one transaction per batch.

        :param batch_size: records per transaction
        :param older_than: how long ago they must have expired
        :return: the number of records removed, batch by batch
        """
        # Found without a lock, then locked one by one: InnoDB would lock the first living
        # record behind a range, too, and its duplicates would be told that it is in flight.
        expired = self.expired(older_than).order_by("expires_at", "pk")
        page = list(expired.values_list("expires_at", "pk")[:batch_size])
        while page:
            yield self._delete_expired([pk for _, pk in page], older_than)
            last_time, last_pk = page[-1]
            rest = expired.filter(expires_at__gte=last_time)
            rest = rest.exclude(expires_at=last_time, pk__lte=last_pk)
            page = list(rest.values_list("expires_at", "pk")[:batch_size])

    def expired(self, older_than: timedelta = NOW) -> QuerySet[IdempotencyRecord]:
        """Return the records that expired at least ``older_than`` ago."""
        return self._records().filter(expires_at__lte=StoreTime(-older_than))

    def _delete_expired(self, ids: list[int], older_than: timedelta) -> int:
        # InnoDB reads ranges for a list of keys, waits in a DELETE for rows it does not want, and
        # locks living records on the way; single keys it finds directly.
        one_by_one = connections[self.using].vendor == "mysql"
        groups = [[pk] for pk in ids] if one_by_one else [ids]
        with write_transaction(self.using):
            removed = sum(self._delete_group(group, older_than) for group in groups)
            if removed:
                Journal(self.using).forget(ids)
            return removed

    def _delete_group(self, ids: list[int], older_than: timedelta) -> int:
        wanted = Q(pk=ids[0]) if len(ids) == 1 else Q(pk__in=ids)
        expired = self.expired(older_than).filter(wanted).select_for_update(skip_locked=True)
        ours = list(expired.values_list("pk", flat=True))
        ours = [pk for pk in ours if not is_held_by_file(connections[self.using], pk)]
        if not ours:
            return 0
        doomed = Q(pk=ours[0]) if len(ours) == 1 else Q(pk__in=ours)
        # What is expired is of interest to nobody who listens for deletions.
        return self._records().filter(doomed)._raw_delete(self.using)

    def _records(self) -> QuerySet[IdempotencyRecord]:
        return IdempotencyRecord._base_manager.using(self.using)


@contextmanager
def _errors_are_outages(using: str) -> Iterator[None]:
    """Nothing has been executed yet, so policy may decide what becomes of the request."""
    breaker = breaker_of(f'Database "{using}"')
    ticket = breaker.ticket
    try:
        yield
    except Error as error:
        if isinstance(error, OperationalError) and is_contention(error):
            raise
        breaker.failed(error)
        raise Outage(str(error)) from error
    breaker.answered(ticket)
