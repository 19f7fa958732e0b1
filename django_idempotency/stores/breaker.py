"""Asking a server that does not answer only now and then."""

import logging
import threading
from functools import cache
from time import monotonic

from ..threads import after_fork
from .base import Outage

logger = logging.getLogger("django_idempotency")

PAUSE = 1.0
"""Seconds for which nobody asks a server that did not answer."""


class Breaker:
    """One per server and process, so that an outage costs one request's patience per second.

    The first failure is logged, and the first answer after it; nothing between.

    :param name: what to call the server in log lines
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until: float | None = None

    @property
    def ticket(self) -> int:
        """For one question: by it :meth:`answered` knows what is older than a failure."""
        return self._failures

    def enter(self) -> int:
        """Return a ticket, if this is the time to ask.

        :raises Outage: while the server is known not to answer
        """
        with self._lock:
            if self._closed_until is not None:
                if monotonic() < self._closed_until:
                    raise Outage(f"{self._name} does not answer")
                # One asks; the others wait for what it hears.
                self._closed_until = monotonic() + PAUSE
            return self.ticket

    def failed(self, error: Exception, remedy: str = "") -> None:
        """The question was not answered.

        :param remedy: what is missing and what to do about it, if waiting does not help
        """
        with self._lock:
            first = self._closed_until is None
            self._failures += 1
            self._closed_until = monotonic() + PAUSE
        if first and remedy:
            logger.error("%s %s (%s: %s)", self._name, remedy, type(error).__name__, error)
        elif first:
            logger.warning("%s does not answer (%s: %s)", self._name, type(error).__name__, error)

    def answered(self, ticket: int) -> None:
        """The question with this ticket was answered. Answers to older ones do not count."""
        if self._closed_until is None:
            return
        with self._lock:
            if self._closed_until is None or ticket != self._failures:
                return
            self._closed_until = None
        logger.warning("%s answers again", self._name)


@cache
def breaker_of(name: str) -> Breaker:
    """Return this process's breaker for a server."""
    return Breaker(name)


after_fork(breaker_of.cache_clear)
