"""Connections that were cut while nobody used them."""

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import Error, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from .contention import is_contention

logger = logging.getLogger("django_idempotency")

Answer = TypeVar("Answer")


def on_live_connection(connection: BaseDatabaseWrapper, ask: Callable[[], Answer]) -> Answer:
    """Ask the database; once more on a fresh connection, if the one at hand turns out to be dead.

    A server that was restarted, a proxy and a firewall end idle connections without a word. Django
    notices by ``CONN_HEALTH_CHECKS``, if a project has set that, and else by the error of the first
    statement: the database is up, so this is no outage. Inside of a transaction nothing is asked
    again, because what came before would be missing.

    :param ask: may be called twice, and changes nothing that a second call does not find
    """
    was_idle = connection.connection is not None and not connection.in_atomic_block
    try:
        return ask()
    except Error as error:
        is_rivalry = isinstance(error, OperationalError) and is_contention(error)
        if not was_idle or is_rivalry or connection.is_usable():
            raise
        logger.info('Database "%s": an idle connection was cut (%s)', connection.alias, error)
    connection.close()
    pool = getattr(connection, "pool", None)
    if pool is not None:
        pool.check()  # or the next one that it gives may be as dead
    return ask()
