"""Connections for claims of requests whose own connection is in a transaction already."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from django.db.backends.base.base import BaseDatabaseWrapper

from .base import Busy
from .own_connections import POOLED_AGE, OwnConnections, connections_of, in_place_of_usual

PLACES = 4
"""Connections per process. A claim takes a millisecond or two, so a few serve many threads."""

PATIENCE = 2.0
"""Seconds that a claim waits for one of them; after that the store is busy (503)."""

CHECKED_AFTER = 1.0
"""Seconds of rest after which a connection is asked whether it still works."""


class ClaimConnections(OwnConnections):
    """Lends connections for single claims.

    They are kept for a minute even where ``CONN_MAX_AGE`` is 0: Django then connects once per
    request, and a second time would cost more than the claim.
    """

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self._free = threading.BoundedSemaphore(PLACES)

    @contextmanager
    def lent(self, waits: bool) -> Iterator[BaseDatabaseWrapper]:
        """Lend a connection.

        :param waits: the request will wait for a record, as long as policy says; the number of
            those is bounded elsewhere, and they take none of the places
        :raises Busy: if none is free in time, or the server takes no more
        """
        if not waits and not self._free.acquire(timeout=PATIENCE):
            raise Busy(waited=True)
        try:
            connection = self.lend(sys.maxsize)
            try:
                with in_place_of_usual(connection):
                    yield connection
            finally:
                self.take_back(connection)
        finally:
            if not waits:
                self._free.release()

    def _close_if_dead(self, connection: BaseDatabaseWrapper) -> None:
        super()._close_if_dead(connection)
        used = vars(connection).get(_USED)
        has_rested = used is not None and monotonic() - used > CHECKED_AFTER
        if has_rested and connection.connection is not None and not connection.is_usable():
            connection.close()

    def take_back(self, connection: BaseDatabaseWrapper) -> None:
        vars(connection)[_USED] = monotonic()
        super().take_back(connection)

    def _create(self) -> BaseDatabaseWrapper:
        connection = super()._create()
        settings = connection.settings_dict
        settings["CONN_HEALTH_CHECKS"] = False
        if _is_under_test():
            # The runner drops the database, which nobody may be connected to.
            settings["CONN_MAX_AGE"] = 0
        elif settings["CONN_MAX_AGE"] == 0:
            settings["CONN_MAX_AGE"] = int(POOLED_AGE.total_seconds())
        return connection


_USED = "_idempotency_used"


def _is_under_test() -> bool:
    """Whether Django's test environment is set up. Its module is not loaded for this."""
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return hasattr(state, "saved_data")


@contextmanager
def claim_connection(using: str, waits: bool = False) -> Iterator[None]:
    """Let this thread's queries run on a connection of their own, in autocommit.

    :param waits: see :meth:`ClaimConnections.lent`
    :raises Busy: if none is to be had in bounded time
    """
    with connections_of(ClaimConnections, using).lent(waits):
        yield
