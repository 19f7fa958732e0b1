"""File locks, for SQLite: its own locks end with a transaction, and views may own theirs.

SQLite runs on its application's host, so the operating system ends a lock with the process that
holds it, as a server ends a row lock with its session. A record has one byte in a file beside the
database; locks may lie beyond a file's end, so the file stays empty.

On Linux the locks belong to the open file description
(https://www.gnu.org/software/libc/manual/html_node/Open-File-Description-Locks.html). Elsewhere
they are those of POSIX (https://pubs.opengroup.org/onlinepubs/9799919799/functions/fcntl.html),
which a process loses as soon as anything in it closes any descriptor of the file: a view that
copies the data folder is enough.
"""

import os
import struct
import sys
import threading
from contextlib import suppress
from urllib.parse import unquote, urlsplit

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows)
    fcntl = None  # type: ignore[assignment]

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

from ...threads import after_fork

SUFFIX = "-idempotency"
"""Suffix that turns the database's path into the path of the file."""

_OF_DESCRIPTION = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK")
_FLOCK = "hhqqi0q"
"""C's ``struct flock`` on Linux: type, whence, start, length, process (0 for these locks)."""


class FileLocks:
    """The file locks of one database.

    :param path: of the file; ``None`` for a database in memory, which belongs to this process
    :param database: path of the database, whose mode and group the file gets
    """

    def __init__(self, path: str | None, database: str | None = None) -> None:
        if path is not None and fcntl is None:  # pragma: no cover  (Windows)
            raise ImproperlyConfigured("SQLite cannot lock records of atomic=False: no fcntl here.")
        self._path = path
        self._database = database
        self._file: int | None = None
        self._guard = threading.Lock()
        # Threads share the file, so the operating system cannot tell them apart.
        self._ours: set[int] = set()

    def acquire(self, record_id: int) -> bool:
        """Take the lock of a record, if it is free; return whether it was.

        :raises ImproperlyConfigured: if the file cannot be opened
        """
        with self._guard:
            if record_id in self._ours or not self._lock(record_id):
                return False
            self._ours.add(record_id)
            return True

    def release(self, record_id: int) -> None:
        """Give up the lock of a record."""
        with self._guard:
            self._ours.discard(record_id)
            self._unlock(record_id)

    def is_locked(self, record_id: int) -> bool:
        """Whether this process or another one has the lock of a record.

        :raises ImproperlyConfigured: if the file cannot be opened
        """
        with self._guard:
            if record_id in self._ours:
                return True
            if self._path is None or not os.path.exists(self._path):
                return False
            free = self._lock(record_id)
            if free:
                self._unlock(record_id)
            return not free

    def close(self) -> None:
        """Close the file, which ends its locks unless another process has it, too."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, record_id: int) -> bool:
        if self._path is None:
            return True
        try:
            self._set(self._open(self._path), fcntl.F_WRLCK, record_id)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: POSIX allows both
            return False
        return True

    def _unlock(self, record_id: int) -> None:
        if self._file is not None:
            self._set(self._file, fcntl.F_UNLCK, record_id)

    @staticmethod
    def _set(file: int, kind: int, record_id: int) -> None:
        if _OF_DESCRIPTION:
            wanted = struct.pack(_FLOCK, kind, os.SEEK_SET, record_id, 1, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
        else:  # pragma: no cover  (other systems than Linux)
            operation = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
            fcntl.lockf(file, operation, 1, record_id)

    def _open(self, path: str) -> int:
        if self._file is None:
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise ImproperlyConfigured(
                    f"The file {path!r} cannot be opened ({error.strerror}). Views and "
                    "functions with atomic=False lock their records in it, so every process that "
                    "runs them, or this package's commands, must be able to write it, as it can "
                    "write the database. Give the file the owner, group and mode of the database."
                ) from error
            self._share(self._file)
        return self._file

    def _share(self, file: int) -> None:
        """Let users lock records if they can write the database, as SQLite does with its own files
        (https://www.sqlite.org/wal.html#write_ahead_log_files)."""
        if self._database is None or not os.path.exists(self._database):
            return
        database = os.stat(self._database)
        # Only the owner may do this, and has done it.
        with suppress(PermissionError):
            owner = database.st_uid if os.geteuid() == 0 else -1
            os.fchown(file, owner, database.st_gid)
        with suppress(PermissionError):
            os.fchmod(file, database.st_mode & 0o666)


_all: dict[str, FileLocks] = {}
_guard = threading.Lock()


def file_locks(connection: BaseDatabaseWrapper) -> FileLocks:
    """Return the locks beside a connection's SQLite database."""
    name = str(connection.settings_dict["NAME"])
    in_memory = bool(connection.is_in_memory_db())  # type: ignore[attr-defined]
    database = name if in_memory else os.path.realpath(_path_of(name))
    with _guard:
        if database not in _all:
            path = None if in_memory else database + SUFFIX
            _all[database] = FileLocks(path, None if in_memory else database)
        return _all[database]


def _path_of(name: str) -> str:
    """Return the path in a name that may be a URI (https://www.sqlite.org/uri.html)."""
    return unquote(urlsplit(name).path) if name.startswith("file:") else name


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """Close a forked process's copies of the files. A lock of an open file description lives until
    its last copy is closed, and the parent may die first."""
    global _all, _guard
    for locks in _all.values():
        locks.close()
    _all, _guard = {}, threading.Lock()


after_fork(_forget)
