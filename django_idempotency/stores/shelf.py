"""Where completed records lie for those who replay them: a cache that may forget at any time.

Beside them lies the epoch, a random text. A copy is believed in the epoch in which its request
looked, and in no other: a new epoch makes all copies forgotten, those that are on their way, too.
An epoch that the cache has lost is followed by another one, which no old copy belongs to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex
from time import time
from typing import Protocol

from ..extras import require
from .local_cache import is_local, local_cache

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


class Shelf(Protocol):
    """All may raise :class:`~.base.Outage`."""

    def get(self, name: str) -> Found: ...

    def add(self, entries: Iterable[Entry]) -> None:
        """Put things where nothing lies."""

    def bury(self, names: Iterable[str]) -> None:
        """Remove what lies there, and let nothing be added for a while."""

    def begin_epoch(self) -> None:
        """Let nobody believe what lies there now, or was on its way before."""


# The time comes first: an entry that is added later, for as long as a record has left, must not
# outlive it, however long the way took.
_LOOK = """
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1] * 1000 + math.floor(time[2] / 1000)}
"""


class RedisShelf:
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

    def bury(self, names: Iterable[str]) -> None:
        self._redis.set(names, BURIED, BURIAL)

    def begin_epoch(self) -> None:
        self._redis.set_forever(EPOCH, _new_epoch())


class LocalShelf:
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

    def bury(self, names: Iterable[str]) -> None:
        self._cache.set_many(dict.fromkeys(names, BURIED), BURIAL.total_seconds())

    def begin_epoch(self) -> None:
        self._cache.set(EPOCH, _new_epoch(), None)


def shelf_of(alias: str) -> Shelf:
    """Return the shelf in a cache."""
    return LocalShelf(alias) if is_local(alias) else RedisShelf(alias)


def _new_epoch() -> bytes:
    # Random rather than counted: after a loss, a counter would come back to where it was.
    return token_hex(16).encode()


def _now() -> int:
    return int(time() * 1000)
