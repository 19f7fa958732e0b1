"""Waiting for a lock, bounded in time, woken by the database."""

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
