"""Counts replays in the memory of each process; a thread adds the sums to the table."""

import logging
from collections import Counter as Counts
from contextlib import suppress
from typing import Any

from django.core import mail
from django.db import connections

from ...stores.database.location import Location, location_of
from ...threads import Background
from .models import ReplayCount

logger = logging.getLogger("django_idempotency")

INTERVAL = 5
"""Seconds from a replay to the statement that counts it, with all others since."""

EXIT_TIMEOUT = 3
"""Seconds that the exit of a process waits for that statement."""


class Counter(Background):
    """Numbers that wait to be written, one for each location. A request never waits for them.

    The thread lives for as long as a number waits.
    """

    def __init__(self) -> None:
        super().__init__("idempotency-replays")

    def _forget(self) -> None:
        self._waiting: Counts[Location] = Counts()
        self._is_hurried = False
        self._failing: set[Location] = set()

    @property
    def waiting(self) -> int:
        """How many replays are not in the table yet."""
        return self._waiting.total()

    def add(self) -> None:
        """Count one replay at the location of this thread: the writing thread has no tenant."""
        location = location_of(ReplayCount.alias())
        with self._changed:
            self._waiting[location] += 1
            self._start()

    def flush(self, timeout: float | None = None) -> None:
        """Write the numbers now, and wait until they are written or an error occurs.

        :param timeout: in seconds
        """
        with self._changed:
            self._is_hurried = bool(self._waiting) and self._start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_running, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_hurried, INTERVAL)
                waiting = self._waiting.copy()
            written = Counts(
                {at: number for at, number in waiting.items() if self._added(at, number)}
            )
            with suppress(Exception):  # the server may be gone, and the thread goes on
                connections.close_all()  # those of this thread
            with self._changed:
                self._waiting -= written  # drops zeros
                if not self._waiting or (self._is_hurried and not written):
                    self._is_hurried = False
                    self._end()
                    return

    def _added(self, location: Location, number: int) -> bool:
        """Add a number to the table, and log an error."""
        try:
            location.enter(connections[location.using])
            ReplayCount.add(number, location.using)
        except Exception as error:
            if location not in self._failing:
                logger.warning(
                    "Replays could not be counted; the next try includes them: %s", error
                )
            self._failing.add(location)
            return False
        self._failing.discard(location)
        return True


counter = Counter()
"""This process's."""


def count(**kwargs: Any) -> None:
    """Receive ``replayed``.

    Count nothing under Django's test runner, which has an outbox: no project expects a thread to
    write into its test database.
    """
    if not hasattr(mail, "outbox"):
        counter.add()


def flush_at_exit() -> None:
    """Write the waiting numbers before the process exits."""
    counter.flush(EXIT_TIMEOUT)
