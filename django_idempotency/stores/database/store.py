"""Store records in the database the view writes to, so that both commit together."""

import logging
from collections.abc import Collection, Iterator
from datetime import timedelta

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet, Value

from ...compat.django import check_pool, delete_without_signals
from ...models import IdempotencyRecord
from ...protocol.record import Claim, Snapshot, State, StoredResponse
from ..base import Busy, Outage
from ..breaker import breaker_of
from ..causes import cause_of
from .connections import own_connections
from .dialects import NOW, Dialect, StoreTime, dialect_of
from .dialects.sql import BUMP
from .location import label_of
from .rows import COLUMNS, snapshot
from .step_log import StepLog
from .transactions import contention_is_busy, write_transaction

logger = logging.getLogger("django_idempotency")

NOT_MIGRATED = "the table of the records is missing, or one of its columns: run manage.py migrate"

_FLUSHES = 100
"""Maximum number of flushes at once in this process; each takes a few milliseconds."""

_FIRST = 100
"""Records compared for the purge's lag. One that lived for longer than its claim said may come
before others that expired earlier."""

Records = QuerySet[IdempotencyRecord]


class DatabaseStore:
    """The store that atomic mode needs.

    :param using: alias of the database
    :param outcome_open: views have effects that nothing undoes, so the outcome of an operation is
        open until a response is stored
    :param dialect: of that database, if it is known already
    """

    def __init__(
        self, using: str, outcome_open: bool = False, dialect: Dialect | None = None
    ) -> None:
        self.using = using
        self.dialect = dialect or dialect_of(connections[using])
        self._outcome_open = outcome_open
        self._may_be_lost = False

    def cached(self, claim: Claim) -> Snapshot | None:
        """Return nothing: this store has no cache."""
        return None

    def look(self, claim: Claim) -> Snapshot | None:
        """Return the record if there is one, by a plain read.

        :raises Outage: if the database is out of reach
        """
        expired = ExpressionWrapper(Q(expires_at__lte=StoreTime()), BooleanField())
        found = self._records().filter(scope=claim.scope, key=claim.key)
        try:
            rows = list(found.values_list(*COLUMNS, expired, Value(0), Value(0)))
        except Error as error:
            raise Outage(cause_of(error)) from error
        return snapshot(rows[0]) if rows else None

    def claim(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if absent; ``None`` while a rival is creating it.

        :raises Busy: if others occupy the database
        :raises Outage: if the database is out of reach, or cannot keep records
        """
        if self._outcome_open:
            claim = claim._replace(outcome_open=True)
        connection = connections[self.using]
        # One breaker per tenant: a missing table in one schema says nothing about the others.
        breaker = breaker_of(label_of(self.using, getattr(connection, "schema_name", None)))
        ticket = breaker.ticket
        in_transaction = connection.in_atomic_block
        was_idle = connection.connection is not None and not in_transaction
        try:
            try:
                found = self.dialect.claim(connection, claim, in_transaction)
            except Error as error:
                if not (was_idle and self._has_reconnected(connection, error)):
                    raise
                found = self.dialect.claim(connection, claim, in_transaction)
        except Error as error:
            if self.dialect.is_contention(error):
                raise Busy(self.dialect.has_busy_timeout) from error
            # The view has not run yet, so policy decides what happens to the request.
            not_migrated = self.dialect.is_not_migrated(error)
            cause = NOT_MIGRATED if not_migrated else cause_of(error)
            raise breaker.failed(cause, waiting_helps=not not_migrated) from error
        if breaker.is_open:
            breaker.answered(ticket)
        self._may_be_lost = self.dialect.has_asynchronous_commit and not in_transaction
        return found

    def _has_reconnected(self, connection: BaseDatabaseWrapper, error: Error) -> bool:
        """Whether an idle connection turned out to be dead, and the next use opens another one.

        A server that was restarted, a proxy and a firewall end idle connections without a word.
        Django notices by ``CONN_HEALTH_CHECKS``, if a project has set that, and else by the error
        of the first statement: the database is up, so this is no outage. Inside of a transaction
        no statement is sent again, because what came before would be missing.
        """
        if self.dialect.is_contention(error) or connection.is_usable():
            return False
        logger.info(
            'Database "%s": reconnecting, an idle connection was cut (%s)',
            connection.alias,
            cause_of(error),
        )
        connection.close()
        check_pool(connection)  # or the next one that it gives may be as dead
        return True

    def make_durable(self) -> None:
        """Let the claim survive a crash of the database server, if it would not yet.

        :raises Busy: if there is no connection left to do that with
        """
        if self._may_be_lost:
            flush(self.using)
            self._may_be_lost = False

    def lock(
        self, record_id: int, wait: timedelta = NOW, stays_idle: bool = False
    ) -> Snapshot | None:
        """Lock the record until the transaction ends; ``None`` if it is locked or gone.

        :param wait: how long to wait for the lock of another attempt; the database wakes us
        :param stays_idle: no timeout of the server may end the transaction then
        :raises Busy: if others occupy the database
        """
        connection = connections[self.using]
        try:
            if not wait:
                return self.dialect.lock(connection, record_id, False, stays_idle)
            with self.dialect.lock_timeout(connection, wait):
                return self.dialect.lock(connection, record_id, True, stays_idle)
        except Error as error:
            if self.dialect.is_contention(error):
                raise Busy(self.dialect.has_busy_timeout) from error
            raise

    def bump_fencing_token(self, record: Snapshot, commits: bool = False) -> None:
        """Count an attempt that takes a locked record over.

        :param commits: the caller commits the transaction next
        """
        # Policy may have changed since the claim.
        values = (self._outcome_open, record.id)
        self.dialect.write(connections[self.using], BUMP, values, commits)

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
        connection = connections[self.using]
        return self.dialect.complete(connection, record, response, retention, commits)

    def withdraw(self, record: Snapshot, commits: bool = False) -> bool:
        """Remove a claimed record that is locked; ``False`` if it is not this attempt's now.

        :param commits: see :meth:`complete`
        """
        return self.dialect.withdraw(connections[self.using], record, commits)

    def exists(self, record_id: int) -> bool:
        """Whether there is such a record, locked or not."""
        return self._records().filter(pk=record_id).exists()

    def evict(self, record_id: int) -> bool:
        """Remove a record if it is expired and not locked; return whether it is gone."""
        with contention_is_busy(self.using):
            # No signals: expired records are of no interest to receivers of deletions.
            expired = self._records().filter(pk=record_id, expires_at__lte=StoreTime())
            removed = self._remove(expired, quietly=True)
            return removed or not self.exists(record_id)

    def remove(self, record_id: int, state: State, attempt: int) -> bool:
        """Remove a record of any age, unless it is locked, has changed since it was read, or
        belongs to an attempt outside of a transaction whose outcome is unknown (I11).

        :param state: as it was read
        :param attempt: as it was read
        :return: whether this call removed it
        :raises Outage: if a cache that knows the record does not answer; the record stays
        """
        with contention_is_busy(self.using):
            as_seen = self._records().filter(pk=record_id, state=state, attempt=attempt)
            return self._remove(as_seen, quietly=False)

    def purge(self, batch_size: int, older_than: timedelta = NOW) -> Iterator[int]:
        """Remove expired records, skipping locked ones; one transaction per batch.

        :param batch_size: records per transaction
        :param older_than: how long ago they must have expired
        :return: the number of records removed, batch by batch
        """
        connection, start = connections[self.using], self.dialect.first
        while True:
            with write_transaction(self.using):
                batch = self.dialect.purge(connection, older_than, batch_size, start)
                if batch is not None and batch.orphaned:
                    StepLog(self.using).forget(batch.orphaned)
            if batch is None:
                return
            yield batch.removed
            start = batch.last

    def expired(self, older_than: timedelta = NOW) -> Records:
        """Return the records that expired at least ``older_than`` ago."""
        moment = StoreTime(-older_than)
        # The index on purge_at finds them.
        return self._records().filter(purge_at__lte=moment, expires_at__lte=moment)

    def count_expired(self, older_than: timedelta, limit: int) -> int:
        """Return how many records expired at least ``older_than`` ago; one more than the limit if
        there are more."""
        # In the order of the index, or a planner that expects many of them reads the table instead.
        return self.expired(older_than).order_by("purge_at")[: limit + 1].count()

    def lag(self, older_than: timedelta = NOW) -> timedelta:
        """Return how long an expired record has been left, beyond ``older_than``: the longest of
        those that the next purge would remove first."""
        first = self.expired(older_than).order_by("purge_at")
        rows = first.values_list(StoreTime(-older_than), "expires_at")[:_FIRST]
        return max((now - expired for now, expired in rows), default=NOW)

    def locked(self, ids: Collection[int]) -> frozenset[int] | None:
        """Return which of these records are in flight (or were removed just now).

        :return: ``None`` where the database cannot say: on SQLite, which locks all or nothing, and
            on MySQL inside a transaction
        """
        return self.dialect.locked_ids(connections[self.using], ids)

    def response(self, record_id: int) -> StoredResponse | None:
        """Return the stored response of a completed record, without locking anything."""
        nothing = Value(0)
        found = self._records().filter(pk=record_id, state=State.COMPLETED)
        row = found.values_list(*COLUMNS, nothing, nothing, nothing).first()
        return snapshot(row).response if row else None

    def codec_of(self, record_id: int) -> str:
        """Return the codec that policy wants for the response of a claimed record.

        Empty if the claim does not say. A completed record has the codec of its response there.
        """
        found = self._records().filter(pk=record_id, state=State.CLAIMED)
        return found.values_list("response_codec", flat=True).first() or ""

    def _remove(self, record: Records, quietly: bool) -> bool:
        """Lock one record and remove it, unless it is locked or its outcome is unknown."""
        step_log = StepLog(self.using)
        with write_transaction(self.using):
            found = record.select_for_update(skip_locked=True).values_list("pk", flat=True)
            for pk in list(found):
                if self.dialect.has_file_lock(connections[self.using], pk):
                    return False
                if quietly:
                    delete_without_signals(self._records().filter(pk=pk), self.using)
                elif step_log.unresolved([pk]):
                    return False
                else:
                    self._records().filter(pk=pk).delete()
                step_log.forget([pk])
                return True
        return False

    def _records(self) -> Records:
        return IdempotencyRecord.rows(self.using)


def flush(using: str) -> None:
    """Wait until everything that the server has committed is on disk.

    On another connection than the view's, which is in the middle of a transaction.

    :raises Busy: if there is no connection left
    """
    pool = own_connections(using)
    connection = pool.lend(_FLUSHES)
    try:
        with connection.cursor() as cursor:
            cursor.execute(dialect_of(connection).flush_sql)
    finally:
        pool.take_back(connection)
