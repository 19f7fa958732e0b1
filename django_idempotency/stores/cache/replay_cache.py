"""The replay cache, and the thread that writes to it: no request waits for that."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache

from ...extras import require
from ...threads import Background
from ..base import Outage
from .backends import Entry, ReplayCache
from .local import LocalReplayCache, is_local

logger = logging.getLogger("django_idempotency")

LINGER = 1.0
"""Seconds that the thread waits for more to do: starting one for each request costs a tenth of the
first requests that a worker could serve."""

GATHER = 0.05
"""Seconds that a copy waits for others to travel with. A thread that is woken for each of them
takes the interpreter from the requests each time, and costs four times as much. A replay that comes
before its copy costs one read from the database."""

LIMIT = 16 * 1024 * 1024
"""Bytes that may wait in this process. The writer drops what exceeds them: a dropped copy costs its
replay one read from the database."""


def replay_cache_of(alias: str) -> ReplayCache:
    """Return the replay cache in a cache.

    :raises ModuleNotFoundError: if it needs django-redis, which is not installed
    """
    return LocalReplayCache(alias) if is_local(alias) else _redis_replay_cache()(alias)


@cache
def _redis_replay_cache() -> Callable[[str], ReplayCache]:
    """Return the class. Imported once: each request asks for it."""
    require("django_redis", "redis", 'The store "cached_db"')
    from .redis import RedisReplayCache

    return RedisReplayCache


class Writer(Background):
    """Adds entries to a replay cache, all that wait in one round trip.

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
        self._is_awaited = False

    def add(self, entry: Entry) -> None:
        """Have an entry added soon, or not at all."""
        with self._changed:
            if self._size + len(entry[1]) > LIMIT:
                return
            is_first = not self._waiting
            self._size += len(entry[1])
            self._waiting.append(entry)
            self._start()
            # The thread knows that some wait, and takes them all. Do not wake it once more.
            if is_first or self._is_urgent():
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until nothing waits any more, or cannot be added."""
        with self._changed:
            if self._waiting:
                self._start()
                self._is_awaited = True
                self._changed.notify_all()
            self._changed.wait_for(
                lambda: not self._is_running or not (self._waiting or self._is_busy)
            )

    def _is_urgent(self) -> bool:
        """Somebody waits for it, or there may soon be no room for more."""
        return self._is_awaited or self._size > LIMIT // 2

    def _run(self) -> None:
        try:
            while entries := self._taken():
                with suppress(Outage):  # which is in the log already
                    replay_cache_of(self._alias).add(entries)
        except Exception:
            logger.exception("Completed records could not be cached")
            with self._changed:
                self._forget()
                self._end()

    def _taken(self) -> list[Entry]:
        """Take all that waits. If nothing comes, return nothing, and the thread ends."""
        with self._changed:
            self._is_busy = False
            self._is_awaited = self._is_awaited and bool(self._waiting)
            self._changed.notify_all()
            if self._changed.wait_for(lambda: self._waiting, LINGER):
                self._changed.wait_for(self._is_urgent, GATHER)
            entries, self._waiting, self._size = self._waiting, [], 0
            self._is_busy = bool(entries)
            if not entries:
                self._end()
        return entries


@cache
def writer_of(alias: str) -> Writer:
    """Return this process's writer for a cache."""
    return Writer(alias)
