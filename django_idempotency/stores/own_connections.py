"""Connections of our own, beside the one that a view uses, bounded in number."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from time import monotonic
from typing import Any, TypeVar, cast

from django.core.signals import request_finished
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..background import after_fork
from .base import Busy
from .places import Place, place_of

logger = logging.getLogger("django_idempotency")

POOLED_AGE = timedelta(minutes=1)
"""How long an idle connection is kept where Django itself uses a pool, which forbids an age."""


class OwnConnections:
    """Lends connections of one database to one attempt each, and keeps them for the next as long as
    ``CONN_MAX_AGE`` says.

    They stay outside of Django's own pool (``OPTIONS["pool"]``): an attempt that held one of its
    places while its view waits for another could wait for ever.

    :param using: alias of the database
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._lock = threading.Lock()
        self._idle: list[BaseDatabaseWrapper] = []
        self._lent = 0

    def lend(self, limit: int, place: Place | None = None) -> BaseDatabaseWrapper:
        """Return a connection that works, and speaks for a tenant.

        :param limit: at most so many are lent at once in this process
        :param place: names the tenant; that of this thread's usual connection, if none is given
        :raises Busy: if all of them are, or if the server takes no more connections
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
            (place or place_of(self._using)).enter(connection)
            connection.ensure_connection()
        except BaseException as error:
            # Whatever it was: a place that is not given back is lost until the process ends.
            self._drop(connection)
            if not isinstance(error, Error):
                raise
            logger.warning("No connection to hold a record with: %s", error)
            raise Busy(waited=True) from error
        return connection

    def _close_if_dead(self, connection: BaseDatabaseWrapper) -> None:
        """Let a connection that does not work any more connect anew."""
        connection.close_if_unusable_or_obsolete()

    def take_back(self, connection: BaseDatabaseWrapper) -> None:
        """Keep a connection for the next attempt, or close it."""
        try:
            connection.close_if_unusable_or_obsolete()
        except BaseException:
            self._drop(connection)
            raise
        with self._lock:
            self._lent -= 1
            if connection.connection is not None:
                self._idle.append(connection)
        self.close_obsolete()

    def close_obsolete(self) -> None:
        """Close what has been idle for longer than ``CONN_MAX_AGE`` allows."""
        with self._lock:
            obsolete = [each for each in self._idle if _is_obsolete(each)]
            self._idle = [each for each in self._idle if each not in obsolete]
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
            settings["CONN_MAX_AGE"] = POOLED_AGE.total_seconds()
        # Nobody retries a request because an idle connection had died.
        settings["CONN_HEALTH_CHECKS"] = True
        connection.settings_dict = cast(Any, settings)
        connection.inc_thread_sharing()  # one thread after the other
        return connection


def _is_obsolete(connection: BaseDatabaseWrapper) -> bool:
    return connection.close_at is not None and connection.close_at <= monotonic()


Kind = TypeVar("Kind", bound=OwnConnections)

_pools: dict[tuple[type[OwnConnections], str, tuple[str, ...]], OwnConnections] = {}
_pools_lock = threading.Lock()


def connections_of(kind: type[Kind], using: str) -> Kind:
    """Return this process's connections of one kind, of the database that an alias now stands for.

    :param kind: what they are for: each kind has limits of its own
    """
    name = (kind, using, place_of(using).database)
    with _pools_lock:
        if name not in _pools:
            _pools[name] = kind(using)
            request_finished.connect(close_obsolete, dispatch_uid=__name__)
        return cast(Kind, _pools[name])


def own_connections(using: str) -> OwnConnections:
    """Return this process's connections that hold records beside their views."""
    return connections_of(OwnConnections, using)


def close_obsolete(**kwargs: Any) -> None:
    """At the end of a request, as Django closes its own."""
    for pool in list(_pools.values()):
        pool.close_obsolete()


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """A forked process must not speak on its parent's connections, nor close them."""
    global _pools, _pools_lock
    _inherited.append(_pools)
    _pools, _pools_lock = {}, threading.Lock()


_inherited: list[Any] = []
after_fork(_forget)


@contextmanager
def in_place_of_usual(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let queries of this thread that name the connection's alias use it."""
    alias = connection.alias
    usual = connections[alias]
    connections[alias] = connection
    try:
        yield
    finally:
        connections[alias] = usual
