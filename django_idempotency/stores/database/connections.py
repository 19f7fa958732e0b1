"""Connections beside the view's: for claims of requests that are in a transaction already, and for
locks of views that own their transactions."""

import logging
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic
from typing import Any, TypeVar, cast

from django.core.signals import request_finished
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ...compat.django import (
    in_place_of_usual,
    is_obsolete,
    is_under_test,
    share_between_threads,
)
from ...threads import after_fork
from ..base import Busy
from ..causes import cause_of
from .location import Location, location_of

logger = logging.getLogger("django_idempotency")

KEPT_AGE = 60
"""Seconds for which to keep an idle connection where ``CONN_MAX_AGE`` says nothing about it: it is
0, or Django uses a pool, which forbids an age."""

KEPT = 4
"""How many idle connections to keep where ``CONN_MAX_AGE`` is 0."""

CHECKED_AFTER = 1.0
"""Idle seconds after which a connection is checked before its next use."""

_USED = "_idempotency_used"


class OwnConnections:
    """Lends connections of one database to one attempt each, and keeps idle ones for as long as
    ``CONN_MAX_AGE`` says.

    Where that is 0, Django connects once per request. A second time would cost more than all that
    an attempt sends, so a few connections are kept for a minute.

    They do not come from Django's own pool (``OPTIONS["pool"]``): an attempt that held one of its
    connections while its view waits for another could wait for ever.

    :param using: alias of the database
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._lock = threading.Lock()
        self._idle: list[BaseDatabaseWrapper] = []
        self._lent = 0
        self._kept = sys.maxsize

    def lend(self, limit: int, location: Location | None = None) -> BaseDatabaseWrapper:
        """Return a connection that works, in the schema of a tenant.

        :param limit: maximum number of connections lent at once in this process
        :param location: of the tenant; by default that of this thread's usual connection
        :raises Busy: if the limit is reached, or if the server takes no more connections
        """
        self.close_obsolete()
        with self._lock:
            if self._lent >= limit:
                raise Busy(waited=True)
            self._lent += 1
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or self._create()
            self._close_if_dead(connection)
            # Before it connects: the tenant decides what its first statements see.
            (location or location_of(self._using)).enter(connection)
            connection.ensure_connection()
        except BaseException as error:
            # After any error: a connection that is not returned is lost until the process ends.
            self._drop(connection)
            if not isinstance(error, Error):
                raise
            logger.warning("No connection to lock a record with: %s", cause_of(error))
            raise Busy(waited=True) from error
        return connection

    def _close_if_dead(self, connection: BaseDatabaseWrapper) -> None:
        """Let a connection that does not work any more connect anew. The server is asked only if
        there is a reason to: each question is a round trip."""
        connection.close_if_unusable_or_obsolete()
        used = vars(connection).get(_USED)
        if used is None or connection.connection is None:
            return
        was_idle = monotonic() - used > CHECKED_AFTER or has_news(connection)
        if was_idle and not connection.is_usable():
            connection.close()

    def take_back(self, connection: BaseDatabaseWrapper) -> None:
        """Keep a connection for the next attempt, or close it."""
        try:
            connection.close_if_unusable_or_obsolete()
            if len(self._idle) >= self._kept:
                connection.close()
        except BaseException:
            self._drop(connection)
            raise
        vars(connection)[_USED] = monotonic()
        with self._lock:
            self._lent -= 1
            if connection.connection is not None:
                self._idle.append(connection)

    def close_obsolete(self) -> None:
        """Close what has been idle for longer than ``CONN_MAX_AGE`` allows."""
        with self._lock:
            obsolete = [each for each in self._idle if is_obsolete(each)]
            for each in obsolete:
                self._idle.remove(each)
        for connection in obsolete:
            with suppress(Exception):  # its end, if the server has ended it before
                connection.close()

    def _drop(self, connection: BaseDatabaseWrapper | None) -> None:
        with self._lock:
            self._lent -= 1
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _create(self) -> BaseDatabaseWrapper:
        connection: BaseDatabaseWrapper = connections.create_connection(self._using)
        options = dict(connection.settings_dict["OPTIONS"])
        settings = {**connection.settings_dict, "OPTIONS": options}
        if options.pop("pool", None):
            settings["CONN_MAX_AGE"] = KEPT_AGE
        if is_under_test():
            # The runner drops the database, which needs all connections to be closed.
            settings["CONN_MAX_AGE"] = 0
        elif settings["CONN_MAX_AGE"] == 0:
            settings["CONN_MAX_AGE"], self._kept = KEPT_AGE, KEPT
        settings["CONN_HEALTH_CHECKS"] = False  # as they are lent, see _close_if_dead()
        connection.settings_dict = cast(Any, settings)
        share_between_threads(connection)
        return connection


def has_news(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server may have sent something that nobody has asked for, such as the end of the
    session. It is not asked, and nothing is read.

    :param connection: which waits for no answer
    """
    try:
        # psycopg, psycopg2 and mysqlclient have it; the first two raise when they are closed.
        descriptor = cast(Any, connection.connection).fileno()
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([descriptor], [], [], 0)[0])
    except Exception:
        return True


Kind = TypeVar("Kind", bound=OwnConnections)

_pools: dict[tuple[type[OwnConnections], str, tuple[str, ...]], OwnConnections] = {}
_pools_lock = threading.Lock()


def connections_of(kind: type[Kind], location: Location) -> Kind:
    """Return this process's connections to the database of a location.

    :param kind: each kind has separate limits
    """
    name = (kind, location.using, location.database)
    with _pools_lock:
        if name not in _pools:
            _pools[name] = kind(location.using)
            request_finished.connect(close_obsolete, dispatch_uid=__name__)
        return cast(Kind, _pools[name])


def own_connections(using: str) -> OwnConnections:
    """Return this process's connections that lock records beside their views, to the database that
    an alias now stands for."""
    return connections_of(OwnConnections, location_of(using))


def close_obsolete(**kwargs: Any) -> None:
    """Receiver of ``request_finished``: Django closes its own connections then, too."""
    for pool in list(_pools.values()):
        pool.close_obsolete()


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """A forked process must neither use its parent's connections nor close them."""
    global _pools, _pools_lock
    _inherited.append(_pools)
    _pools, _pools_lock = {}, threading.Lock()


_inherited: list[Any] = []
after_fork(_forget)


CLAIM_CONNECTIONS = 4
"""Connections per process. A claim takes a millisecond or two, so a few serve many threads."""

WAIT = 2.0
"""Seconds that a claim waits for one of them; after that the store is busy (503)."""


class ClaimConnections(OwnConnections):
    """Lends connections for single claims."""

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self._free = threading.BoundedSemaphore(CLAIM_CONNECTIONS)

    @contextmanager
    def lent(self, location: Location, waits: bool) -> Iterator[BaseDatabaseWrapper]:
        """Let this thread's queries run on a connection, in autocommit.

        :param location: see :meth:`lend`
        :param waits: the request will wait for a record, as long as policy says; the number of
            those is bounded elsewhere, and does not count here
        :raises Busy: if none is free in time, or the server takes no more
        """
        if not waits and not self._free.acquire(timeout=WAIT):
            raise Busy(waited=True)
        try:
            connection = self.lend(sys.maxsize, location)
            try:
                with in_place_of_usual(connection):
                    yield connection
            finally:
                self.take_back(connection)
        finally:
            if not waits:
                self._free.release()


def claim_connection(
    using: str, waits: bool = False
) -> AbstractContextManager[BaseDatabaseWrapper]:
    """Return a context in which this thread's queries run on a claim connection, in autocommit.

    :param waits: see :meth:`ClaimConnections.lent`
    :raises Busy: if none is free in time
    """
    location = location_of(using)
    return connections_of(ClaimConnections, location).lent(location, waits)
