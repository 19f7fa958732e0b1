"""Locks of the operating system, for SQLite: it has none that outlive a transaction of the view.

SQLite runs on its application's host, so the kernel knows who lives: a lock ends with the process
that holds it, as a row lock elsewhere ends with its session. One byte per record, in a file beside
the database; locks may lie beyond a file's end, so it stays empty. The locks of POSIX belong to
processes (https://pubs.opengroup.org/onlinepubs/9799919799/functions/fcntl.html), so threads are
told apart here, and the file is opened once and never closed.
"""

import os
import threading
from contextlib import suppress
from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows)
    fcntl = None  # type: ignore[assignment]

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

SUFFIX = "-idempotency"
"""What follows the database's name in the name of the file."""


class FileLocks:
    """The locks of one database, as this process sees them.

    :param path: of the file; ``None`` for a database in memory, which only this process has
    """

    def __init__(self, path: str | None) -> None:
        if path is not None and fcntl is None:  # pragma: no cover  (Windows)
            raise ImproperlyConfigured("On this system SQLite cannot hold records: no fcntl.")
        self._path = path
        self._file: int | None = None
        self._guard = threading.Lock()
        self._ours: set[int] = set()

    def acquire(self, record_id: int) -> bool:
        """Take the lock of a record, if nobody has it."""
        with self._guard:
            if record_id in self._ours or not self._lock(record_id):
                return False
            self._ours.add(record_id)
            return True

    def release(self, record_id: int) -> None:
        with self._guard:
            self._ours.discard(record_id)
            self._unlock(record_id)

    def is_held(self, record_id: int) -> bool:
        """Whether somebody has the lock, in this process or another."""
        with self._guard:
            if record_id in self._ours:
                return True
            if self._path is None or not os.path.exists(self._path):
                return False
            free = self._lock(record_id)
            if free:
                self._unlock(record_id)
            return not free

    def _lock(self, record_id: int) -> bool:
        if self._path is None:
            return True
        try:
            fcntl.lockf(self._open(self._path), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, record_id)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self, record_id: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, record_id)

    def _open(self, path: str) -> int:
        if self._file is None:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._file


_all: dict[str, FileLocks] = {}
_guard = threading.Lock()


def file_locks(connection: BaseDatabaseWrapper) -> FileLocks:
    """Return the locks beside a connection's SQLite database."""
    name = str(connection.settings_dict["NAME"])
    in_memory = bool(connection.is_in_memory_db())  # type: ignore[attr-defined]
    with _guard:
        if name not in _all:
            _all[name] = FileLocks(None if in_memory else os.path.abspath(name) + SUFFIX)
        return _all[name]


def is_held_by_file(connection: Any, record_id: int) -> bool:
    """Whether a record is held beside its database; elsewhere its row lock says that."""
    return connection.vendor == "sqlite" and file_locks(connection).is_held(record_id)


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """A forked process holds none of its parent's locks, and closes nothing of its parent's."""
    global _all, _guard
    _all, _guard = {}, threading.Lock()


with suppress(AttributeError):
    os.register_at_fork(after_in_child=_forget)
