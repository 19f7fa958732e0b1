"""Putting things on a shelf in the background: no request waits for it."""

import logging
import os
import threading
from contextlib import suppress
from functools import cache

from .base import Outage
from .shelf import Entry, shelf_of

logger = logging.getLogger("django_idempotency")

LINGER = 1.0
"""Seconds that the thread waits for more to do: starting one for each request costs a tenth of the
first requests that a worker could serve."""

LIMIT = 16 * 1024 * 1024
"""Bytes that may wait in this process. What comes on top is left out: its replay costs a read."""


class Writer:
    """Adds entries to a shelf, as many as wait in one round trip.

    Its thread ends when nothing has come for a while.

    :param alias: of the cache
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._begin()
        if hasattr(os, "register_at_fork"):  # pragma: no branch  (Windows has no forks)
            # A thread does not survive a fork, and neither does what it waits for.
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Entry] = []
        self._size = 0
        self._is_busy = False
        self._has_thread = False

    def add(self, entry: Entry) -> None:
        """Have an entry added soon, or not at all."""
        with self._changed:
            if self._size + len(entry[1]) > LIMIT:
                return
            self._size += len(entry[1])
            self._waiting.append(entry)
            if self._has_thread:
                self._changed.notify_all()
            else:
                self._has_thread = True
                threading.Thread(target=self._run, name="idempotency-writer", daemon=True).start()

    def flush(self) -> None:
        """Wait until nothing waits any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_busy)

    def _run(self) -> None:
        try:
            while entries := self._taken():
                with suppress(Outage):  # which is in the log already
                    shelf_of(self._alias).add(entries)
        except Exception:
            logger.exception("Completed records could not be cached")
            self._give_up()

    def _give_up(self) -> None:
        with self._changed:
            self._waiting, self._size = [], 0
            self._is_busy = self._has_thread = False
            self._changed.notify_all()

    def _taken(self) -> list[Entry]:
        """Take what waits; nothing if nothing comes, and then the thread ends."""
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting, LINGER)
            entries, self._waiting, self._size = self._waiting, [], 0
            self._is_busy = self._has_thread = bool(entries)
        return entries


@cache
def writer_of(alias: str) -> Writer:
    """Return this process's writer for a cache."""
    return Writer(alias)
