"""Counting in the memory of each process; a thread adds the sums to the table."""

import logging
from typing import Any

from django.core import mail
from django.db import connections

from ...background import Background
from .models import ReplayCount

logger = logging.getLogger("django_idempotency")

INTERVAL = 5
"""Seconds from a replay to the statement that counts it, with all others since."""

PATIENCE = 3
"""Seconds that the end of a process waits for that statement."""


class Counter(Background):
    """A number that waits to be written. A request adds to it, and waits for nothing.

    Its thread lives for as long as something waits.
    """

    def __init__(self) -> None:
        super().__init__("idempotency-replays")

    def _forget(self) -> None:
        self._waiting = 0
        self._is_hurried = False
        self._has_failed = False

    @property
    def waiting(self) -> int:
        """How many replays are not in the table yet."""
        return self._waiting

    def add(self) -> None:
        """Count one replay."""
        with self._changed:
            self._waiting += 1
            self._start()

    def flush(self, patience: float | None = None) -> None:
        """Have it written now, and wait until it is, or cannot be.

        :param patience: wait so many seconds at most
        """
        with self._changed:
            self._is_hurried = bool(self._waiting) and self._start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_running, patience)

    def _run(self) -> None:
        while self._is_running_on(self._write(self._collected())):
            pass

    def _collected(self) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._is_hurried, INTERVAL)
            return self._waiting

    def _write(self, number: int) -> int:
        """Return how many were written. No error is worth more than a line in the log."""
        try:
            try:
                ReplayCount.add(number)
            finally:
                connections.close_all()  # those of this thread
        except Exception as error:
            if not self._has_failed:
                logger.warning("Replays could not be counted, and wait: %s", error)
            self._has_failed = True
            return 0
        self._has_failed = False
        return number

    def _is_running_on(self, written: int) -> bool:
        with self._changed:
            self._waiting -= written
            if not self._waiting or (self._is_hurried and not written):
                self._is_hurried = False
                self._end()
            return self._is_running


counter = Counter()
"""This process's."""


def count(**kwargs: Any) -> None:
    """A receiver of ``replayed``.

    Django's tests have an outbox, and no project expects a thread to write into their database:
    there, nothing is counted.
    """
    if not hasattr(mail, "outbox"):
        counter.add()


def flush_at_exit() -> None:
    """Write what waits before the process ends."""
    counter.flush(PATIENCE)
