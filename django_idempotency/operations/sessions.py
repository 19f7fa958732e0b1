"""The database session in which a record is locked, apart from the view's."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from time import monotonic, sleep
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..compat.django import in_place_of_usual, own_blocks
from ..protocol.record import Snapshot
from ..stores.base import Gone
from ..stores.database.connections import has_news, own_connections
from ..stores.database.dialects import dialect_of
from ..stores.database.file_locks import file_locks
from ..stores.database.location import location_of
from ..stores.database.store import DatabaseStore
from .transaction import AttemptTransaction

POLL = 0.05
"""Seconds between two looks at a lock of the operating system, which wakes no process in time."""

IN_A_TRANSACTION = (
    "A view, or function, with atomic=False runs in a transaction on database {!r}, so its "
    "response or result would be stored before its writes are committed. With ATOMIC_REQUESTS put "
    "@transaction.non_atomic_requests on the view (on dispatch() of a class); move other atomic() "
    "blocks into the view or function."
)


class Session:
    """Where a record is locked, and the statements run that need the lock.

    This one is the view's own connection inside a test case's transaction, of which another
    connection would see nothing. There are no rivals in there, so nothing needs a lock.
    """

    is_open = True
    """Whether there is a transaction, as far as we know."""
    commits_alone = False
    """Whether :meth:`commit` sends COMMIT, so that it may travel with the statement before."""

    def lock(self, store: DatabaseStore, record_id: int, wait: timedelta) -> Snapshot | None:
        """Lock a record until :meth:`commit` or :meth:`close`; ``None`` if it is locked or gone.

        :raises Busy: if there is no connection left
        :raises Gone: if the record is known to be gone: who waits for a lock gets it
        """
        return store.lock(record_id, wait)

    def entered(self) -> AbstractContextManager[Any]:
        """Return a context in which this thread's queries run in the session."""
        return nullcontext()

    def commit(self) -> None:
        """Commit, which unlocks. The test case rolls everything back."""

    def close(self) -> None:
        """Roll back, which unlocks. It may be called twice."""

    def is_alive(self) -> bool:
        """Whether there is a transaction, as far as the server has said. It is asked only if there
        is a reason to."""
        return self.is_open


class FileSession(Session):
    """SQLite has one writer, so no transaction can stay open beside a view that writes. The lock is
    one of the operating system's; statements run on the view's connection, in autocommit, and the
    lock stays until :meth:`close`."""

    def __init__(self, using: str) -> None:
        self._locks = file_locks(connections[using])
        self._record_id: int | None = None

    @property
    def is_open(self) -> bool:  # type: ignore[override]
        return self._record_id is not None

    def lock(self, store: DatabaseStore, record_id: int, wait: timedelta) -> Snapshot | None:
        end = monotonic() + wait.total_seconds()
        while self._record_id is None:
            if self._locks.acquire(record_id):
                self._record_id = record_id
            elif monotonic() >= end:
                return None
            else:
                sleep(POLL)
        return _found(store.lock(record_id))

    def close(self) -> None:
        if self._record_id is not None:
            self._locks.release(self._record_id)
            self._record_id = None


class OwnSession(Session):
    """A connection beside the view's, at the location where the request was when the session was
    made: a view may leave another tenant behind, and a lost lock must be taken there again.

    :param using: alias of the database
    :param limit: connections of this process that lock records, at most
    """

    def __init__(self, using: str, limit: int) -> None:
        self._limit = limit
        self._location = location_of(using)
        self._pool = own_connections(using)
        self._connection: BaseDatabaseWrapper | None = None
        self._transaction: AttemptTransaction

    @property
    def is_open(self) -> bool:  # type: ignore[override]
        return self._connection is not None

    @property
    def commits_alone(self) -> bool:  # type: ignore[override]
        with self.entered():
            return self._transaction.commits_alone

    def lock(self, store: DatabaseStore, record_id: int, wait: timedelta) -> Snapshot | None:
        if self._connection is None:
            self._connection = self._pool.lend(self._limit, self._location)
            self._transaction = AttemptTransaction(self._connection, store.dialect)
        with self.entered():
            try:
                self._transaction.begin()
            except BaseException:
                self.close()
                raise
            locked = store.lock(record_id, wait, stays_idle=True)
        return _found(locked) if wait else locked

    @contextmanager
    def entered(self) -> Iterator[None]:
        assert self._connection is not None  # noqa: S101
        with in_place_of_usual(self._connection):
            yield

    def commit(self) -> None:
        with self.entered():
            self._transaction.commit()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            with in_place_of_usual(connection):
                self._transaction.rollback()
        finally:
            self._pool.take_back(connection)

    def is_alive(self) -> bool:
        # A server that ends a session says so.
        connection = self._connection
        if connection is None or connection.connection is None:
            return False
        return not has_news(connection) or connection.is_usable()


def _found(record: Snapshot | None) -> Snapshot:
    if record is None:
        raise Gone
    return record


def session_of(using: str, limit: int) -> Session:
    """Return a session beside the view's connection, or on it inside of a test case.

    :param limit: see :class:`OwnSession`
    :raises ImproperlyConfigured: if a connection of the view's is in another transaction
    """
    refuse_transactions()
    if connections[using].in_atomic_block:
        return Session()
    has_row_locks = dialect_of(connections[using]).has_row_locks
    return OwnSession(using, limit) if has_row_locks else FileSession(using)


def refuse_transactions() -> None:
    """Refuse a view whose transaction is open already; a test case's does not count.

    :raises ImproperlyConfigured: names the connection that is in one
    """
    for connection in connections.all(initialized_only=True):
        if own_blocks(connection):
            raise ImproperlyConfigured(IN_A_TRANSACTION.format(connection.alias))
