"""Putting things on a shelf in the background: no request waits for it."""

import logging
from contextlib import suppress
from functools import cache

from ..background import Background
from .base import Outage
from .shelf import Entry, shelf_of

logger = logging.getLogger("django_idempotency")

LINGER = 1.0
"""Seconds that the thread waits for more to do: starting one for each request costs a tenth of the
first requests that a worker could serve."""

LIMIT = 16 * 1024 * 1024
"""Bytes that may wait in this process. What comes on top is left out: its replay costs a read."""


class Writer(Background):
    """Adds entries to a shelf, as many as wait in one round trip.

    Its thread ends when nothing has come for a while.

    :param alias: of the cache
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        super().__init__("idempotency-writer")

    def _forget(self) -> None:
        self._waiting: list[Entry] = []
        self._size = 0
        self._is_busy = False

    def add(self, entry: Entry) -> None:
        """Have an entry added soon, or not at all."""
        with self._changed:
            if self._size + len(entry[1]) > LIMIT:
                return
            self._size += len(entry[1])
            self._waiting.append(entry)
            self._start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until nothing waits any more, or cannot be added."""
        with self._changed:
            if self._waiting:
                self._start()
            self._changed.wait_for(lambda: self._is_idle or not self._is_running)

    @property
    def _is_idle(self) -> bool:
        return not self._waiting and not self._is_busy

    def _run(self) -> None:
        try:
            while entries := self._taken():
                with suppress(Outage):  # which is in the log already
                    shelf_of(self._alias).add(entries)
        except Exception:
            logger.exception("Completed records could not be cached")
            with self._changed:
                self._forget()
                self._end()

    def _taken(self) -> list[Entry]:
        """Take what waits; nothing if nothing comes, and then the thread ends."""
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting, LINGER)
            entries, self._waiting, self._size = self._waiting, [], 0
            self._is_busy = bool(entries)
            if not entries:
                self._end()
        return entries


@cache
def writer_of(alias: str) -> Writer:
    """Return this process's writer for a cache."""
    return Writer(alias)
