"""Circuit breaker: after a failure, probe the server at most once a second."""

import logging
import threading
from functools import cache
from time import monotonic

from ..threads import after_fork
from .base import Outage

logger = logging.getLogger("django_idempotency")

PAUSE = 1.0
"""Seconds between two probes of a server that does not answer."""


class Breaker:
    """One per server and process, so that an outage costs one timeout per second.

    The first failure is logged, and the first answer after it; nothing between.

    :param name: what to call the server in log lines
    :ivar ticket: of a question that is asked now. :meth:`answered` ignores tickets that are older
        than the last failure
    :ivar is_open: the last question failed
    """

    def __init__(self, name: str) -> None:
        self.ticket = 0
        self.is_open = False
        self._name = name
        self._lock = threading.Lock()
        self._next_probe = 0.0
        self._cause = ""

    def enter(self) -> int:
        """Return a ticket, if the server answers or a probe is due.

        :raises Outage: while the server is known not to answer
        """
        with self._lock:
            if self.is_open:
                if monotonic() < self._next_probe:
                    raise Outage(self._cause)
                # One thread probes; the others wait for its result.
                self._next_probe = monotonic() + PAUSE
            return self.ticket

    def failed(self, cause: str, waiting_helps: bool = True) -> Outage:
        """Open: a question was not answered.

        :param cause: what the server says, without passwords; or what is missing, and what to do
            about it
        :return: what to raise
        """
        with self._lock:
            is_first, self.is_open = not self.is_open, True
            self._cause = f"{self._name}: {cause}"
            self.ticket += 1
            self._next_probe = monotonic() + PAUSE
        if is_first and waiting_helps:
            logger.warning("%s does not answer (%s)", self._name, cause)
        elif is_first:
            logger.error("%s: %s", self._name, cause)
        return Outage(self._cause)

    def answered(self, ticket: int) -> None:
        """Close: the question with this ticket was answered."""
        if not self.is_open:
            return
        with self._lock:
            if not self.is_open or ticket != self.ticket:
                return
            self.is_open = False
        logger.warning("%s answers again", self._name)


@cache
def breaker_of(name: str) -> Breaker:
    """Return this process's breaker for a server."""
    return Breaker(name)


after_fork(breaker_of.cache_clear)
