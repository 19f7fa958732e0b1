"""Telling "somebody else was faster" from real database errors."""

import sqlite3

from django.db import DatabaseError, Error, OperationalError

from ..base import Busy

# Serialization failure, deadlock, lock not available.
_SQLSTATES = frozenset({"40001", "40P01", "55P03"})
# Lock wait timeout, deadlock, record changed, NOWAIT refused.
_MYSQL_ERRORS = frozenset({1205, 1213, 1020, 3572})
_ACTIVE_TRANSACTION, _MYSQL_ACTIVE_TRANSACTION = "25001", 1568
_SQLITE_ERRORS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def has_waited(error: OperationalError) -> bool:
    """Whether a busy timeout has passed: SQLite waits by itself."""
    return isinstance(error.__cause__, sqlite3.Error)


def is_contention(error: OperationalError) -> bool:
    """Whether the statement lost against another one and left nothing behind."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        # The low byte is the primary code: BUSY_SNAPSHOT and BUSY_RECOVERY are BUSY, too.
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_ERRORS
    return _sqlstate(error) in _SQLSTATES or (bool(error.args) and error.args[0] in _MYSQL_ERRORS)


def is_refused_in_transactions(error: DatabaseError) -> bool:
    """Whether the statement would have to be the first one of a transaction, or outside of one."""
    number = error.args[0] if error.args else None
    return _sqlstate(error) == _ACTIVE_TRANSACTION or number == _MYSQL_ACTIVE_TRANSACTION


def _sqlstate(error: Error) -> str | None:
    """Return PostgreSQL's code, as psycopg 3 or psycopg2 gives it."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


# Undefined table, undefined column.
_MISSING_SQLSTATES = frozenset({"42P01", "42703"})
_MISSING_MYSQL_ERRORS = frozenset({1146, 1054})


def is_not_migrated(error: Error) -> bool:
    """Whether the database lacks a table or a column."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):  # which has no code for it
        return any(text in str(cause) for text in ("no such table", "no such column", "no column"))
    return _sqlstate(error) in _MISSING_SQLSTATES or error.args[:1] in {
        (n,) for n in _MISSING_MYSQL_ERRORS
    }


_SERIALIZATION_FAILURE = "40001"
_MYSQL_CHANGED = 1020


def saw_an_old_snapshot(error: BaseException | None) -> bool:
    """Whether a transaction cannot lock what has been written since its snapshot was taken."""
    cause = None if error is None else error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    changed = isinstance(error, OperationalError) and error.args[:1] == (_MYSQL_CHANGED,)
    return state == _SERIALIZATION_FAILURE or changed


class contention_is_busy:  # noqa: N801  (a context manager)
    """Let losing against another statement be :class:`Busy`."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OperationalError) and is_contention(error):
            raise Busy(has_waited(error)) from error
