"""Putting things on a shelf in the background: no request waits for it."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from secrets import token_hex
from time import time
from typing import Protocol

from ...extras import require
from ...threads import Background
from ..base import Outage
from .local import is_local, local_cache

EPOCH = "idempotency:epoch"
"""Name of the epoch. It does not expire."""

BURIED = b"-"
"""Lies where nothing may be put for a while: an operator has deleted the record."""

BURIAL = timedelta(hours=1)
"""For longer than anybody may still be about to put there what was deleted."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies under a name.

    :ivar value: ``None`` if nothing does
    :ivar now: milliseconds by the clock that decides when things on this shelf expire
    :ivar epoch: the present one
    """

    value: bytes | None
    now: int
    epoch: str


Entry = tuple[str, bytes, int]
"""Name, value, and when it expires: milliseconds by the shelf's clock."""


class ReplayCache(Protocol):
    """All may raise :class:`~.base.Outage`."""

    def get(self, name: str) -> Found: ...

    def add(self, entries: Iterable[Entry]) -> None:
        """Put things where nothing lies."""

    def mark_deleted(self, names: Iterable[str]) -> None:
        """Remove what lies there, and let nothing be added for a while."""

    def begin_epoch(self) -> None:
        """Let nobody believe what lies there now, or was on its way before."""


# The time comes first: an entry that is added later, for as long as a record has left, must not
# outlive it, however long the way took.
_LOOK = """
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1] * 1000 + math.floor(time[2] / 1000)}
"""


class RedisReplayCache:
    """In Redis: shared by all processes.

    :param alias: of a cache made by django-redis
    """

    def __init__(self, alias: str) -> None:
        require("django_redis", "redis", 'The store "cached_db"')
        from .redis import Redis

        self._redis = Redis(alias)

    def get(self, name: str) -> Found:
        (value, now), epoch = self._redis.read(_LOOK, name, EPOCH)
        if epoch is None:
            epoch = self._redis.set_forever(EPOCH, _new_epoch(), if_absent=True)
        return Found(value, now, epoch.decode("ascii", "replace"))

    def add(self, entries: Iterable[Entry]) -> None:
        self._redis.add(entries)

    def mark_deleted(self, names: Iterable[str]) -> None:
        self._redis.set(names, BURIED, BURIAL)

    def begin_epoch(self) -> None:
        self._redis.set_forever(EPOCH, _new_epoch())


class LocalReplayCache:
    """In this process's memory: for development and tests.

    :param alias: of a cache with Django's local-memory backend
    """

    def __init__(self, alias: str) -> None:
        self._cache = local_cache(alias)

    def get(self, name: str) -> Found:
        epoch = self._cache.get_or_set(EPOCH, _new_epoch, None)
        return Found(self._cache.get(name), _now(), epoch.decode())

    def add(self, entries: Iterable[Entry]) -> None:
        for name, value, expires in entries:
            self._cache.add(name, value, (expires - _now()) / 1000)

    def mark_deleted(self, names: Iterable[str]) -> None:
        self._cache.set_many(dict.fromkeys(names, BURIED), BURIAL.total_seconds())

    def begin_epoch(self) -> None:
        self._cache.set(EPOCH, _new_epoch(), None)


def replay_cache_of(alias: str) -> ReplayCache:
    """Return the shelf in a cache."""
    return LocalReplayCache(alias) if is_local(alias) else RedisReplayCache(alias)


def _new_epoch() -> bytes:
    # Random rather than counted: after a loss, a counter would come back to where it was.
    return token_hex(16).encode()


def _now() -> int:
    return int(time() * 1000)


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
                    replay_cache_of(self._alias).add(entries)
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
