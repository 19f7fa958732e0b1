"""What this package asks of a database. A subclass per database overrides what differs there.

Dialects build their SQL once per process. Compiled by the ORM for each request, the lock and the
stored response took nearly half of the processor time (decision 0060).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, cached_property
from operator import attrgetter
from typing import Any

from django.db import Error, OperationalError, transaction

from ....protocol.record import Claim, Snapshot, State, StoredResponse
from ..rows import COLUMNS, response_values, snapshot
from .endings import Endings
from .sql import COMPLETE, OF_ATTEMPT, READ, START, WITHDRAW, replacements
from .values import Batch, Keepalive, ServerFault, TransactionStatus

NOW = timedelta(0)

SOON = timedelta(hours=1)
"""Records that expire within this time are looked at again by the next purge."""

_SNAPSHOT = len(COLUMNS) + 3
"""Columns of a snapshot; in a locked row its scope, key and transaction follow."""

UNSUPPORTED = "Keep records in PostgreSQL, MySQL, MariaDB or SQLite"
"""What an instance of :class:`Dialect` itself says: the database is none of those."""

_fence = attrgetter("id", "attempt", "key", "scope")
"""What the last write compares: only the attempt that has the record may write."""

_USUAL = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
"""How nearly every statement begins, and none that ends a transaction."""


class Dialect:
    """What differs between databases. This class itself stands for those that are not supported.

    :cvar name: Django's ``connection.vendor``
    :cvar has_server: the database runs in a server process, which may be restarted
    :cvar has_row_locks: if not, one connection writes at a time, and its transaction is the lock
    :cvar has_asynchronous_commit: a claim's commit need not wait for the disk
    :cvar knows_transaction_status: :meth:`transaction_status` notices when a transaction has ended
    :cvar reads_what_it_locks: plain reads in a transaction see the rows that its locks see
    :cvar locks_ranges: a locking read by a list of keys locks other rows, too
    :cvar has_partial_index: an index can be limited to records whose outcome is open
    :cvar exact_type: the type of columns that compare exactly, for hints
    """

    name = ""
    has_server = True
    has_row_locks = True
    has_asynchronous_commit = False
    knows_transaction_status = True
    reads_what_it_locks = False
    locks_ranges = False
    has_partial_index = False
    exact_type = ""

    # Names and clock

    quote = '"'
    clock = "%s"
    """SQL of the store's clock; its parameter is what :meth:`time` returns."""
    least = "LEAST"

    @property
    def is_supported(self) -> bool:
        """Whether the database can keep records."""
        return bool(self.name)

    @cached_property
    def sql(self) -> Callable[[str], str]:
        """Puts names of tables and columns into a statement, which is made once per process."""
        names = replacements(self.clock, self.least, self.quoted)
        return cache(lambda text: text.format(**names))

    def quoted(self, name: str) -> str:
        return f"{self.quote}{name}{self.quote}"

    def time(self, offset: timedelta = NOW) -> Any:
        """Return the parameter of :attr:`clock` for the present plus ``offset``.

        Where columns have no time zone it is UTC, whatever ``USE_TZ`` and ``TIME_ZONE`` say: an
        hour that daylight saving repeats or skips must not change a retention.
        """
        raise NotImplementedError(UNSUPPORTED)

    def time_zone(self, connection: Any) -> tzinfo:
        """Return the zone of times without one, which drivers return without ``USE_TZ``."""
        return UTC

    # Claim, lock, complete

    def cursor(self, connection: Any, commits: bool = False) -> Any:
        """Return a cursor for a statement of ours.

        :param commits: the transaction is committed next, so both may travel together
        """
        return connection.cursor()

    def first_row(
        self, connection: Any, sql: str, values: Sequence[Any], commits: bool = False
    ) -> Any:
        """Send a statement; return the first row of its result, or ``None``.

        :param sql: with names in braces
        :param commits: see :meth:`cursor`
        """
        with connection.cursor() as cursor:
            cursor.execute(self.sql(sql), values)
            return cursor.fetchone()

    read_sql = "SELECT {seen}, 0 AS fresh FROM {table} WHERE {match}"
    insert_sql = ""
    """A claim's insert, which gives way to that of a rival."""

    def claim(self, connection: Any, claim: Claim, waits_for_disk: bool) -> Snapshot | None:
        """Read the record or create it, in a separate commit.

        Looking first and inserting later would let two requests through; inserting first would
        make every replay write. So a read finds known keys, and for a new key an insert decides.

        :param waits_for_disk: the commit must be durable, where that is a choice
        :return: ``None`` while a rival is creating it, and its commit is not visible yet
        """
        read, insert = self.read_claim, self.insert_claim
        return read(connection, claim) or insert(connection, claim) or read(connection, claim)

    def read_claim(self, connection: Any, claim: Claim) -> Snapshot | None:
        """Return the record if there is one."""
        parameters = (self.time(), self.time(-claim.tombstone), claim.key, claim.scope)
        row = self.first_row(connection, self.read_sql, parameters)
        return None if row is None else snapshot(row, claim.scope, claim.key)

    def insert_claim(self, connection: Any, claim: Claim) -> Snapshot | None:
        """Create the record; ``None`` if a rival has."""
        with connection.cursor() as cursor:
            cursor.execute(self.sql(self.insert_sql), self.claim_values(claim))
            if cursor.rowcount != 1:
                return None
            record_id = int(cursor.lastrowid or 0)
        record = (record_id, State.CLAIMED, 1, claim.fingerprint, False, None)
        return Snapshot(*record, fresh=True, scope=claim.scope, key=claim.key)

    def claim_values(self, claim: Claim) -> tuple[Any, ...]:
        """Return the parameters of ``{values}``."""
        identity = (claim.scope, claim.key, claim.fingerprint, claim.method, claim.path)
        names = (claim.request_id, claim.codec)
        expires = self.time(claim.retention)
        times = (self.time(), expires, expires)
        return (*identity, *names, *times, "open" if claim.outcome_open else "")

    # SKIP LOCKED rather than NOWAIT: an error would end the transaction and fill the log.
    lock_sql: Sequence[str] = (f"{READ} FOR UPDATE SKIP LOCKED", f"{READ} FOR UPDATE")
    """Without waiting, and waiting."""
    idle_lock_sql: str | None = None
    """Without waiting, with what :meth:`lift_server_timeouts` does."""

    def lock(
        self, connection: Any, record_id: int, waits: bool, stays_idle: bool = False
    ) -> Snapshot | None:
        """Lock a record until the transaction ends; ``None`` if it is locked or gone.

        :param stays_idle: no timeout of the server may end the transaction then
        """
        if stays_idle and (waits or self.idle_lock_sql is None):
            self.lift_server_timeouts(connection)
            stays_idle = False
        sql = self.idle_lock_sql if stays_idle else None
        values = (self.time(), record_id)
        return self.locked(self.first_row(connection, sql or self.lock_sql[waits], values))

    def locked(self, row: Any, transaction: str | None = None) -> Snapshot | None:
        """Return the snapshot of a locked row.

        :param transaction: see :attr:`Snapshot.transaction`, unless the row has it
        """
        if row is None:
            return None
        identity = row[_SNAPSHOT : _SNAPSHOT + 3]
        values = identity if transaction is None else (*identity, transaction)
        return snapshot(row[:_SNAPSHOT], *values)

    complete_sql: Sequence[str] = (COMPLETE, COMPLETE)
    """With a body, and without one."""
    withdraw_sql = WITHDRAW

    def complete(
        self,
        connection: Any,
        record: Snapshot,
        response: StoredResponse,
        retention: timedelta,
        commits: bool = False,
    ) -> bool:
        """Store the response of a claimed record; ``False`` if it is not this attempt's now.

        :param commits: if it is stored, the transaction is committed next, so both may travel
            together
        """
        expires = self.time(retention)
        times = (self.time(), expires, expires)
        values = (str(State.COMPLETED), *times, *response_values(response), *_fence(record))
        sql = self.complete_sql[bool(response.omitted)]
        return self.write_last(connection, record, sql, values, commits)

    def withdraw(self, connection: Any, record: Snapshot, commits: bool = False) -> bool:
        """Remove a claimed record; ``False`` if it is not this attempt's now.

        :param commits: see :meth:`complete`
        """
        return self.write_last(connection, record, self.withdraw_sql, _fence(record), commits)

    def write_last(
        self, connection: Any, record: Snapshot, sql: str, values: Sequence[Any], commits: bool
    ) -> bool:
        """Write the record for the last time in the transaction that has locked it; return whether
        it was there.

        :param sql: with names in braces
        :param commits: if it was there, the transaction is committed next
        """
        return self.write(connection, sql, values, commits=False)

    def found_it_ended(self, error: BaseException) -> bool:
        """Whether :meth:`write_last` has failed because the transaction that locked the record has
        ended. Where it only matches no row then, it never fails so."""
        return False

    def write(self, connection: Any, sql: str, values: Sequence[Any], commits: bool) -> bool:
        """Write one row; return whether it was there.

        :param sql: with names in braces
        :param commits: see :meth:`cursor`
        """
        with self.cursor(connection, commits) as cursor:
            cursor.execute(self.sql(sql), values)
            return bool(cursor.rowcount == 1)

    # The step log

    start_sql = f"{START} ON CONFLICT DO NOTHING"

    def start(self, connection: Any, record_id: int, attempt: int, payload: Sequence[str]) -> bool:
        """Write to the step log that the first attempt under a record starts; ``False`` if another
        one has."""
        values = (record_id, attempt, *payload, self.time())
        return self.write(connection, self.start_sql, values, commits=False)

    lock_attempt_sql = f"SELECT CAST({{clock}} AS CHAR){OF_ATTEMPT} FOR UPDATE"
    """Locks the row of an attempt that has not ended, and returns the time as text, which can be a
    parameter again."""

    # Transactions

    def fuses_commit(self, connection: Any) -> bool:
        """Whether :meth:`write_last` sends COMMIT along. Otherwise it is better not to wait for it
        with the statement."""
        return False

    def enter(self, block: transaction.Atomic, connection: Any, locks_next: bool = False) -> None:
        """Enter an ``atomic()`` block that will write.

        :param locks_next: :meth:`lock` comes next, so both may travel together
        """
        block.__enter__()

    def begin(self, connection: Any, immediate: bool = False) -> None:
        """Begin a transaction beneath Django's blocks that stay open, after one has ended there.
        Most drivers begin with the next statement."""

    def on_connect(self, connection: Any) -> None:
        """Prepare a connection that Django has opened."""

    def has_written(self, connection: Any) -> bool:
        """Whether the open transaction may have written something."""
        return True

    endings: Endings | None = None

    def notice(self, session: Any, sql: Any) -> None:
        """A view sends a statement that is not of the ordinary kind.

        :param session: the driver's connection
        """

    def ends_transaction(self, connection: Any, sql: Any) -> bool:
        """Whether the text of a statement says that it ends the transaction it runs in.

        What a procedure does, or the server when something goes wrong, no text says.
        """
        if self.endings is None:
            return False
        if isinstance(sql, str) and sql[:6] in _USUAL and ";" not in sql:
            return False
        return self.endings.are_in(connection, sql)

    def transaction_status(self, session: Any) -> TransactionStatus:
        """Return what a driver's connection knows about its transaction, without asking."""
        return TransactionStatus.OPEN

    # Errors

    contention: Collection[Any] = ()
    """Codes of deadlocks, lock timeouts and conflicts: the statement left nothing behind."""
    old_snapshot: Collection[Any] = ()
    """Codes: a transaction cannot lock what was written after its snapshot was taken."""
    refused_in_transaction: Collection[Any] = ()
    """Codes: the statement must be the first of a transaction, or outside of one."""
    not_migrated: Collection[Any] = ()
    """Codes: there is no such table, or no such column."""
    has_busy_timeout = False
    """The driver has waited before it reported contention."""

    def code_of(self, error: BaseException) -> Any:
        """Return the database's code of an error of Django's; ``None`` if it has none."""
        return None

    def is_contention(self, error: BaseException | None) -> bool:
        """Whether a statement lost against another one, and left nothing behind."""
        return isinstance(error, OperationalError) and self.code_of(error) in self.contention

    def is_not_migrated(self, error: Error) -> bool:
        """Whether the database lacks a table or a column."""
        return self.code_of(error) in self.not_migrated

    def saw_an_old_snapshot(self, error: BaseException | None) -> bool:
        """Whether a transaction cannot lock what has been written since its snapshot was taken."""
        return isinstance(error, Error) and self.code_of(error) in self.old_snapshot

    # Timeouts

    lock_timeout_sql: tuple[str, str] | None = None
    """Statements that read and set the session's lock timeout."""
    errors_end_transactions = False
    """After an error the server refuses all statements until a rollback, which undoes settings."""

    def timeout_value(self, wait: timedelta) -> Any:
        """Return the parameter of the statement that sets a lock timeout."""

    @contextmanager
    def lock_timeout(self, connection: Any, wait: timedelta) -> Iterator[None]:
        """Let statements wait so long for a lock, and no longer."""
        if self.lock_timeout_sql is None:
            yield
            return
        read, write = self.lock_timeout_sql
        with connection.cursor() as cursor:
            cursor.execute(read)
            usual = cursor.fetchone()
            cursor.execute(write, [self.timeout_value(wait)])
            try:
                yield
            except BaseException:
                if not self.errors_end_transactions:
                    cursor.execute(write, usual)
                raise
            cursor.execute(write, usual)

    def lift_server_timeouts(self, connection: Any) -> None:
        """Let the present transaction stay idle for as long as it takes."""

    flush_sql = ""
    """A statement after whose commit everything is on disk that was committed before."""

    # Many records

    first: Any = (datetime.min, 0)
    """Where the purge starts: before every ``purge_at``."""

    def purge(self, connection: Any, older_than: timedelta, size: int, start: Any) -> Batch | None:
        """Remove up to ``size`` expired records, skipping locked ones, in this transaction.

        Records that turn out to live for longer than their claim said are put off, so that no later
        purge reads them in vain; those that expire within :data:`SOON` are not worth a write.

        :param start: :attr:`first`, or ``last`` of the batch before
        :return: ``None`` if there are no more
        """
        # Finds a page without a lock, then removes the records that are free.
        last, last_id = start
        sql = self.sql(
            "SELECT {purge_at}, {id}, {expires_at} <= {clock} FROM {table} "
            "WHERE {purge_at} <= {clock} AND {purge_at} >= %s "
            "AND ({purge_at} > %s OR {id} > %s) "
            "AND ({expires_at} <= {clock} OR {expires_at} > {clock}) "
            "ORDER BY {purge_at}, {id} LIMIT %s"
        )
        now, soon = self.time(-older_than), self.time(SOON - older_than)
        page = rows_of(connection, sql, (now, now, last, last, last_id, now, soon, size))
        if not page:
            return None
        expired = [pk for _, pk, is_expired in page if is_expired]
        removed = self.remove_free(connection, older_than, expired)
        self.put_off(connection, [pk for _, pk, is_expired in page if not is_expired])
        return Batch(len(removed), page[-1][:2], removed)

    def remove_free(self, connection: Any, older_than: timedelta, ids: list[int]) -> list[int]:
        """Remove those of these records that are free, and return their ids."""
        raise NotImplementedError(UNSUPPORTED)

    def put_off(self, connection: Any, ids: list[int]) -> None:
        """Let the purge look at those of these records that are free when they expire."""
        raise NotImplementedError(UNSUPPORTED)

    def locked_ids(self, connection: Any, ids: Collection[int]) -> frozenset[int] | None:
        """Return which of these records are locked (or were removed just now), without waiting.

        :return: ``None`` where the database cannot say
        """
        return None

    def has_file_lock(self, connection: Any, record_id: int) -> bool:
        """Whether a file lock beside the database locks a record."""
        return False

    sha256 = "SHA256(%(expressions)s)"
    """SQL of the hexadecimal digits of a text's SHA-256."""

    estimate = "NULL"
    """SQL of the estimated number of records."""

    # Columns and server

    def column_type(self, max_length: int | None) -> str | None:
        """Return the type of a text column that compares exactly; ``None`` for Django's own."""
        return None

    collation: str | None = None
    """Collation of such a column."""

    storage_sql = ""
    """Says how the table of records is stored, where the server's own way is not the best."""

    def server_faults(self, connection: Any) -> Iterator[tuple[ServerFault, str]]:
        """Ask the server, and yield each fault with the value that was found."""
        return iter(())

    def inexact_columns(self, connection: Any) -> list[str]:
        """Return columns of keys that do not compare exactly, with their types."""
        return []

    keepalive: Keepalive | None = None

    def idle_timeout(self, connection: Any) -> int:
        """Return after how many seconds the server gives up a silent connection, by what is in
        force there; 0 if it never does, as far as it says."""
        return 0


def rows_of(connection: Any, sql: str, parameters: Any = None) -> list[Any]:
    """Return all rows of a query."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


DIALECTS: dict[str, Dialect] = {}
"""The supported databases, by ``connection.vendor``. Each module of this package adds its own."""

_UNSUPPORTED = Dialect()


def dialect_of(connection: Any) -> Dialect:
    """Return the dialect of a connection's database, which is not asked anything.

    For a database that is not supported, its ``is_supported`` is false.
    """
    return DIALECTS.get(connection.vendor, _UNSUPPORTED)
