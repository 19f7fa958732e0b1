"""Connections of our own, beside the one that a view uses, bounded in number."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .base import Busy

logger = logging.getLogger("django_idempotency")

POOLED_AGE = timedelta(minutes=1)
"""How long an idle connection is kept where Django itself uses a pool, which forbids an age."""


class OwnConnections:
    """Lends connections of one database alias to one attempt each, and keeps them for the next as
    long as ``CONN_MAX_AGE`` says.

    They stay outside of Django's own pool (``OPTIONS["pool"]``): an attempt that held one of its
    places while its view waits for another could wait for ever.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._lock = threading.Lock()
        self._idle: list[BaseDatabaseWrapper] = []
        self._lent = 0

    def lend(self, limit: int) -> BaseDatabaseWrapper:
        """Return a connection that works.

        :param limit: at most so many are lent at once in this process
        :raises Busy: if all of them are, or if the server takes no more connections
        """
        with self._lock:
            if self._lent >= limit:
                raise Busy(waited=True)
            self._lent += 1
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or self._create()
            connection.close_if_unusable_or_obsolete()
            connection.ensure_connection()
        except DatabaseError as error:
            self._return()
            logger.warning("No connection to hold a record with: %s", error)
            raise Busy(waited=True) from error
        return connection

    def take_back(self, connection: BaseDatabaseWrapper) -> None:
        """Keep a connection for the next attempt, or close it."""
        connection.close_if_unusable_or_obsolete()
        self._return(connection if connection.connection is not None else None)

    def _return(self, connection: BaseDatabaseWrapper | None = None) -> None:
        with self._lock:
            self._lent -= 1
            if connection is not None:
                self._idle.append(connection)

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


_pools: dict[str, OwnConnections] = {}
_pools_lock = threading.Lock()


def own_connections(using: str) -> OwnConnections:
    """Return this process's connections of an alias."""
    with _pools_lock:
        return _pools.setdefault(using, OwnConnections(using))


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """A forked process must not speak on its parent's connections, nor close them."""
    global _pools, _pools_lock
    _inherited.append(_pools)
    _pools, _pools_lock = {}, threading.Lock()


_inherited: list[dict[str, OwnConnections]] = []
if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_forget)


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
