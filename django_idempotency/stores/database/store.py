"""Records in the database whose writes they commit with."""

import logging
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import TypeVar

from django.db import Error, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet, Value

from ...compat.django import check_pool, delete_without_signals
from ...models import IdempotencyRecord
from ...protocol.record import Claim, Snapshot, State, StoredResponse
from ..base import Busy, Outage
from ..breaker import breaker_of
from .claims import claim_statement
from .clock import NOW, StoreTime
from .connections import own_connections
from .contention import contention_is_busy, has_waited, is_contention, is_not_migrated
from .file_locks import is_held_by_file
from .location import label_of
from .lock_timeout import lock_timeout
from .locked import locked_records
from .purge import purge_statement
from .rows import COLUMNS, snapshot
from .statements import record_statements
from .step_log import StepLog
from .transactions import write_transaction

_CONNECTIONS = 100
"""At most so many in this process flush at once, each for a few milliseconds."""

# The commit of a message waits until the log is on disk as far as the message, and with it
# everything that was committed before. A message needs no privilege and leaves nothing behind:
# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
_FLUSH = (
    "SELECT CASE WHEN current_setting('synchronous_commit') = 'off' "
    "THEN set_config('synchronous_commit', 'on', TRUE) END, "
    "pg_logical_emit_message(TRUE, 'django_idempotency', '')"
)


def flush(using: str) -> None:
    """Wait until everything that PostgreSQL has committed is on disk.

    On a connection of our own: the view's is in the middle of a transaction.

    :raises Busy: if there is no connection left
    """
    pool = own_connections(using)
    connection = pool.lend(_CONNECTIONS)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_FLUSH)
    finally:
        pool.take_back(connection)


logger = logging.getLogger("django_idempotency")

Answer = TypeVar("Answer")


def on_live_connection(connection: BaseDatabaseWrapper, ask: Callable[[], Answer]) -> Answer:
    """Ask the database; once more on a fresh connection, if the one at hand turns out to be dead.

    A server that was restarted, a proxy and a firewall end idle connections without a word. Django
    notices by ``CONN_HEALTH_CHECKS``, if a project has set that, and else by the error of the first
    statement: the database is up, so this is no outage. Inside of a transaction nothing is asked
    again, because what came before would be missing.

    :param ask: may be called twice, and changes nothing that a second call does not find
    """
    was_idle = connection.connection is not None and not connection.in_atomic_block
    try:
        return ask()
    except Error as error:
        is_rivalry = isinstance(error, OperationalError) and is_contention(error)
        if not was_idle or is_rivalry or connection.is_usable():
            raise
        logger.info('Database "%s": an idle connection was cut (%s)', connection.alias, error)
    connection.close()
    check_pool(connection)  # or the next one that it gives may be as dead
    return ask()


NOT_MIGRATED = "lacks the table of the records, or one of its columns: run manage.py migrate"

Records = QuerySet[IdempotencyRecord]


class DatabaseStore:
    """The store that atomic mode needs.

    :param using: alias of the database
    :param is_durable: claims wait for the disk, because effects that a crash of the database
        server does not undo will follow them
    """

    def __init__(self, using: str, is_durable: bool = False) -> None:
        self.using = using
        self._is_durable = is_durable
        self._may_be_lost = False

    def cached(self, claim: Claim) -> Snapshot | None:
        """Only the database knows."""
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
            raise Outage(str(error)) from error
        return snapshot(rows[0]) if rows else None

    def claim(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if absent; ``None`` while a rival is creating it.

        :raises Outage: if the database is out of reach, or cannot keep records
        """
        # By tenant: one whose table is missing says nothing about the others.
        breaker = breaker_of(label_of(self.using))
        ticket = breaker.ticket
        connection = connections[self.using]
        try:
            found = on_live_connection(
                connection,
                lambda: claim_statement(connection).run(connection, claim, self._is_durable),
            )
        except Error as error:
            if isinstance(error, OperationalError) and is_contention(error):
                raise Busy(has_waited(error)) from error
            # Nothing has been executed yet, so policy may decide what becomes of the request.
            breaker.failed(error, NOT_MIGRATED if is_not_migrated(error) else "")
            raise Outage(str(error)) from error
        breaker.answered(ticket)
        # As PostgresqlClaim decides: its commit did not wait for the disk.
        waited = self._is_durable or connection.in_atomic_block
        self._may_be_lost = connection.vendor == "postgresql" and not waited
        return found

    def make_durable(self) -> None:
        """Let the claim survive a crash of the database server, if it would not yet.

        :raises Busy: if there is no connection left to do that with
        """
        if self._may_be_lost:
            flush(self.using)
            self._may_be_lost = False

    def lock(self, record_id: int, patience: timedelta = NOW) -> Snapshot | None:
        """Lock the record until the transaction ends; ``None`` if it is locked or gone.

        :param patience: how long to wait for another's lock; the database wakes us
        """
        connection = connections[self.using]
        with contention_is_busy(), lock_timeout(connection, patience):
            return record_statements(connection).lock(connection, record_id, bool(patience))

    def bump_fencing_token(self, record: Snapshot) -> None:
        """Count an attempt that takes a locked record over."""
        self._records().filter(pk=record.id).update(attempt=F("attempt") + 1)

    def complete(self, record: Snapshot, response: StoredResponse, retention: timedelta) -> bool:
        """Store the response of a claimed record; ``False`` if it is not this attempt's now."""
        connection = connections[self.using]
        return record_statements(connection).complete(connection, record, response, retention)

    def exists(self, record_id: int) -> bool:
        """Whether there is such a record, whoever holds it."""
        return self._records().filter(pk=record_id).exists()

    def evict(self, record_id: int) -> bool:
        """Remove a record if it is expired and not locked; return whether it is gone."""
        with contention_is_busy():
            # What is expired is of interest to nobody who listens for deletions.
            removed = self._remove(self.expired().filter(pk=record_id), quietly=True)
            return removed or not self.exists(record_id)

    def remove(self, record_id: int, state: State, attempt: int) -> bool:
        """Remove a record of any age, unless it is locked, has changed since it was looked at, or
        belongs to an attempt outside of a transaction whose outcome nobody knows (I11).

        :param state: as it was seen
        :param attempt: as it was seen
        :return: whether this call removed it
        :raises Outage: if a cache that knows the record does not answer; the record stays
        """
        with contention_is_busy():
            as_seen = self._records().filter(pk=record_id, state=state, attempt=attempt)
            return self._remove(as_seen, quietly=False)

    def purge(self, batch_size: int, older_than: timedelta = NOW) -> Iterator[int]:
        """Remove expired records, skipping locked ones; one transaction per batch.

        :param batch_size: records per transaction
        :param older_than: how long ago they must have expired
        :return: the number of records removed, batch by batch
        """
        yield from purge_statement(connections[self.using], older_than).batches(batch_size)

    def expired(self, older_than: timedelta = NOW) -> Records:
        """Return the records that expired at least ``older_than`` ago."""
        return self._records().filter(expires_at__lte=StoreTime(-older_than))

    def lag(self, older_than: timedelta = NOW) -> timedelta:
        """Return how long the oldest expired record has been left, beyond ``older_than``."""
        oldest = self.expired(older_than).order_by("expires_at")
        row = oldest.values_list(StoreTime(-older_than), "expires_at").first()
        return row[0] - row[1] if row else NOW

    def locked(self, ids: Collection[int]) -> frozenset[int] | None:
        """Return which of these records are in flight; ``None`` if the database cannot say."""
        return locked_records(self.using, ids)

    def response(self, record_id: int) -> StoredResponse | None:
        """Return the stored response of a completed record, without locking anything."""
        nothing = Value(0)
        found = self._records().filter(pk=record_id, state=State.COMPLETED)
        row = found.values_list(*COLUMNS, nothing, nothing, nothing).first()
        return snapshot(row).response if row else None

    def codec_of(self, record_id: int) -> str:
        """Return what the claim says about how the response is to be written down.

        Empty if it does not say: it was made before claims did. A completed record has there what
        was done to its response.
        """
        found = self._records().filter(pk=record_id, state=State.CLAIMED)
        return found.values_list("response_codec", flat=True).first() or ""

    def _remove(self, record: Records, quietly: bool) -> bool:
        """Lock one record and remove it; what is locked is looked at again."""
        step_log = StepLog(self.using)
        with write_transaction(self.using):
            found = record.select_for_update(skip_locked=True).values_list("pk", flat=True)
            for pk in list(found):
                if is_held_by_file(connections[self.using], pk):
                    return False
                if quietly:
                    delete_without_signals(self._records().filter(pk=pk), self.using)
                elif step_log.is_open(pk):
                    return False
                else:
                    self._records().filter(pk=pk).delete()
                step_log.forget([pk])
                return True
        return False

    def _records(self) -> Records:
        return IdempotencyRecord._base_manager.using(self.using)
