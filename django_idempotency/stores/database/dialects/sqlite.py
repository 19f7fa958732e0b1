"""SQLite: one writer, so a transaction is the lock; beside transactions the operating system's."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import Error, transaction
from django.db.models import F

from ....compat.django import (
    delete_without_signals,
    enter_immediately,
    put_wrapper_first,
    send_directly,
)
from ....models import IdempotencyRecord
from ..file_locks import file_locks
from .base import DIALECTS, NOW, Dialect, rows_of
from .endings import ROLLBACK, Endings
from .sql import OF_ATTEMPT, READ
from .values import ServerFault, TransactionStatus

_BASELINE = "_idempotency_changes"
"""Attribute of a connection: how many rows it had changed when its transaction began."""


class Sqlite(Dialect):
    """SQLite, in a file or in memory."""

    name = "sqlite"
    has_server = False
    has_row_locks = False
    least = "MIN"

    def time(self, offset: timedelta = NOW) -> str:
        """SQLite runs on this host: its clock is ours."""
        return str(datetime.now(UTC).replace(tzinfo=None) + offset)

    insert_sql = "INSERT INTO {table} ({inserted}) VALUES ({values}) ON CONFLICT DO NOTHING"
    lock_sql = (READ, READ)
    lock_attempt_sql = f"SELECT {{clock}}{OF_ATTEMPT}"

    def enter(self, block: transaction.Atomic, connection: Any, locks_next: bool = False) -> None:
        """Enter as ``BEGIN IMMEDIATE``. A deferred transaction would read first and fail when it
        wants to write, because another connection wrote in between. An immediate one waits, up to
        the busy timeout."""
        if connection.in_atomic_block:
            block.__enter__()
            return
        enter_immediately(connection, block)

    def begin(self, connection: Any, immediate: bool = False) -> None:
        if connection.connection is not None:
            send_directly(connection, "BEGIN IMMEDIATE" if immediate else "BEGIN ")

    def on_connect(self, connection: Any) -> None:
        """Remember what had been changed when a transaction began, for :meth:`has_written`."""
        put_wrapper_first(connection, _note_begin)

    def has_written(self, connection: Any) -> bool:
        """Whether the transaction has changed rows, and so holds the write lock. SQLite itself does
        not say."""
        return bool(connection.connection.total_changes != vars(connection).get(_BASELINE))

    # https://www.sqlite.org/lang_transaction.html
    endings = Endings(rf"COMMIT|END|BEGIN|{ROLLBACK}", several=False)

    def transaction_status(self, session: Any) -> TransactionStatus:
        try:
            is_open = getattr(session, "in_transaction", True)
        except sqlite3.ProgrammingError:  # it is closed
            is_open = False
        return TransactionStatus.OPEN if is_open else TransactionStatus.ENDED

    contention = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
    has_busy_timeout = True

    def code_of(self, error: BaseException) -> Any:
        # The low byte is the primary code: BUSY_SNAPSHOT and BUSY_RECOVERY are BUSY, too.
        return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF

    def is_not_migrated(self, error: Error) -> bool:
        """By the text: SQLite has no code for it."""
        text = str(error.__cause__)
        return any(known in text for known in ("no such table", "no such column", "no column"))

    first: Any = ("", 0)

    def remove_free(self, connection: Any, older_than: timedelta, ids: list[int]) -> list[int]:
        """The transaction is the lock; only records with a file lock stay."""
        using = connection.alias
        free = [pk for pk in ids if not self.has_file_lock(connection, pk)]
        delete_without_signals(IdempotencyRecord.rows(using).filter(pk__in=free), using)
        return free

    def put_off(self, connection: Any, ids: list[int]) -> None:
        """Those with a file lock, too: they are claimed, and what it writes is true of them."""
        IdempotencyRecord.rows(connection.alias).filter(pk__in=ids).update(purge_at=F("expires_at"))

    def has_file_lock(self, connection: Any, record_id: int) -> bool:
        return file_locks(connection).is_locked(record_id)

    def server_faults(self, connection: Any) -> Iterator[tuple[ServerFault, str]]:
        if connection.is_in_memory_db():
            return
        ((mode,),) = rows_of(connection, "PRAGMA journal_mode")
        if mode != "wal":
            yield ServerFault.NO_WRITE_AHEAD_LOG, mode


def _note_begin(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    if isinstance(sql, str) and sql.startswith("BEGIN"):
        connection = context["connection"]
        setattr(connection, _BASELINE, connection.connection.total_changes)
    return execute(sql, params, many, context)


DIALECTS[Sqlite.name] = Sqlite()
