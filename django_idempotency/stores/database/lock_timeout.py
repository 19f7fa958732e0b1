"""Timeouts of the server that would end a transaction which only waits for its view."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

from django.db.backends.base.base import BaseDatabaseWrapper


def lock_timeout(
    connection: BaseDatabaseWrapper, patience: timedelta
) -> AbstractContextManager[None]:
    """Let statements wait so long for a lock, and no longer.

    PostgreSQL counts milliseconds; MySQL and MariaDB whole seconds, rounded up. SQLite has waited
    for its write lock already when the transaction began, up to its busy timeout.
    """
    if not patience or connection.vendor not in _SETTINGS:
        return nullcontext()
    return _limited(connection, patience)


@contextmanager
def _limited(connection: BaseDatabaseWrapper, patience: timedelta) -> Iterator[None]:
    read, write = _SETTINGS[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(read)
        (usual,) = cursor.fetchone()
        cursor.execute(write, [_value(connection, patience)])
        try:
            yield
        except BaseException:
            # On PostgreSQL the error has ended the transaction, and the setting with it.
            if connection.vendor == "mysql":
                cursor.execute(write, [usual])
            raise
        cursor.execute(write, [usual])


def _value(connection: BaseDatabaseWrapper, patience: timedelta) -> int | str:
    seconds = patience.total_seconds()
    if connection.vendor == "mysql":
        return math.ceil(seconds)
    return f"{math.ceil(seconds * 1000)}ms"


_SETTINGS = {
    "postgresql": (
        "SELECT current_setting('lock_timeout')",
        "SELECT set_config('lock_timeout', %s, TRUE)",
    ),
    "mysql": (
        "SELECT @@SESSION.innodb_lock_wait_timeout",
        "SET SESSION innodb_lock_wait_timeout = %s",
    ),
}


_POSTGRESQL = (
    "SELECT set_config(name, '0', TRUE) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout') "
    "AND setting <> '0'"
)


def never_ends(connection: BaseDatabaseWrapper) -> None:
    """Let the present transaction stay idle for as long as it takes.

    ``idle_in_transaction_session_timeout`` and (PostgreSQL 17) ``transaction_timeout`` would end a
    session that holds a record while a view calls another system:
    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_POSTGRESQL)
