"""The database session in which a record is held, apart from the view's."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from time import monotonic, sleep
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..compat.django import in_place_of_usual, own_blocks
from ..protocol.record import Snapshot
from ..stores.database.connections import OwnConnections, own_connections
from ..stores.database.dialects import dialect_of
from ..stores.database.file_locks import file_locks
from ..stores.database.location import location_of
from ..stores.database.store import DatabaseStore
from .transaction import AttemptTransaction

POLL = 0.05
"""Seconds between two looks at a lock of the operating system, which wakes nobody in time."""


class Session(ABC):
    """Where the statements of a hold run.

    :ivar using: alias of the database
    """

    def __init__(self, using: str) -> None:
        self.using = using

    @abstractmethod
    def lock(self, store: DatabaseStore, record_id: int, patience: timedelta) -> Snapshot | None:
        """Lock a record until :meth:`commit` or :meth:`close`; ``None`` if somebody else has.

        :raises Busy: if there is no connection left
        """

    @abstractmethod
    def entered(self) -> Any:
        """Return a context in which this thread's queries run in the session."""

    @abstractmethod
    def commit(self) -> None:
        """Commit, which gives up all locks."""

    @abstractmethod
    def close(self) -> None:
        """Undo what is not committed, and give up everything. Harmless if closed."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether there is a transaction, as far as we know."""

    @abstractmethod
    def is_alive(self) -> bool:
        """Whether there is a transaction, as the server says."""


class OwnSession(Session):
    """A connection of its own, at the location where the request was when the session was made: a
    view may leave another tenant behind, and a lock that it lost is still to be taken there.

    :param limit: at most so many in this process
    """

    def __init__(self, using: str, limit: int) -> None:
        super().__init__(using)
        self._limit = limit
        self._location = location_of(using)
        self._pool: OwnConnections = own_connections(using)
        self._connection: BaseDatabaseWrapper | None = None
        self._transaction: AttemptTransaction

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def lock(self, store: DatabaseStore, record_id: int, patience: timedelta) -> Snapshot | None:
        self._open()
        with self.entered():
            return store.lock(record_id, patience)

    def _open(self) -> None:
        if self._connection is None:
            self._connection = self._pool.lend(self._limit, self._location)
            with self.entered():
                self._transaction = AttemptTransaction(self.using)
        self._begin()

    def _begin(self) -> None:
        try:
            with self.entered():
                self._transaction.begin()
                connection = connections[self.using]
                dialect_of(connection).lift_server_timeouts(connection)
        except BaseException:
            self.close()
            raise

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
        if self._connection is None:
            return False
        try:
            with self.entered(), connections[self.using].cursor() as cursor:
                cursor.execute("SELECT 1")
        except Error:
            return False
        return True


class SharedSession(Session):
    """The view's own connection, inside a test case's transaction: another connection would see
    nothing of it. There are no rivals in there, so nothing needs a lock."""

    is_open = True

    def lock(self, store: DatabaseStore, record_id: int, patience: timedelta) -> Snapshot | None:
        return store.lock(record_id, patience)

    def entered(self) -> Any:
        return nullcontext()

    def commit(self) -> None:
        """The test case rolls everything back."""

    def close(self) -> None:
        """Nothing of ours is open."""

    def is_alive(self) -> bool:
        return True


class FileSession(Session):
    """SQLite has one writer, so no transaction can be held beside a view that writes. The lock is
    one of the operating system's; statements run on the view's connection, in autocommit."""

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self._locks = file_locks(connections[using])
        self._record_id: int | None = None

    @property
    def is_open(self) -> bool:
        return self._record_id is not None

    def lock(self, store: DatabaseStore, record_id: int, patience: timedelta) -> Snapshot | None:
        end = monotonic() + patience.total_seconds()
        while self._record_id is None:
            if self._locks.acquire(record_id):
                self._record_id = record_id
            elif monotonic() >= end:
                return None
            else:
                sleep(POLL)
        return store.lock(record_id)

    def entered(self) -> Any:
        return nullcontext()

    def commit(self) -> None:
        """Statements have committed by themselves; the lock stays until :meth:`close`."""

    def close(self) -> None:
        if self._record_id is not None:
            self._locks.release(self._record_id)
            self._record_id = None

    def is_alive(self) -> bool:
        return self.is_open


def session_of(using: str, limit: int) -> Session:
    """Return a session beside the view's connection, or on it where a test case holds that.

    :raises ImproperlyConfigured: if the view's connection is in another transaction
    """
    refuse_transactions()
    if connections[using].in_atomic_block:
        return SharedSession(using)
    has_row_locks = dialect_of(connections[using]).has_row_locks
    return OwnSession(using, limit) if has_row_locks else FileSession(using)


def refuse_transactions() -> None:
    """A test case's do not count: everything in a test happens inside them.

    :raises ImproperlyConfigured: if a connection of the view's is in another transaction
    """
    for connection in connections.all(initialized_only=True):
        if own_blocks(connection):
            raise ImproperlyConfigured(IN_A_TRANSACTION.format(connection.alias))


IN_A_TRANSACTION = (
    "A view with atomic=False runs in a transaction on database {!r}, so its response would be "
    "stored before its writes are committed. With ATOMIC_REQUESTS put "
    "@transaction.non_atomic_requests on the view (on dispatch() of a class); move other atomic() "
    "blocks into the view."
)
