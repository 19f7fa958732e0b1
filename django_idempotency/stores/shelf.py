"""Where completed records lie for those who replay them: a cache that may forget at any time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from time import time
from typing import Protocol

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache

from ..extras import require

BURIED = b"-"
"""Lies where nothing may be put for a while: an operator has deleted the record."""

BURIAL = timedelta(hours=1)
"""For longer than anybody may still be about to put there what was deleted."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies under a name.

    :ivar value: ``None`` if nothing does
    :ivar now: milliseconds by the clock that decides when things on this shelf expire
    """

    value: bytes | None
    now: int


Entry = tuple[str, bytes, int]
"""Name, value, and when it expires: milliseconds by the shelf's clock."""


class Shelf(Protocol):
    """All may raise :class:`~.base.Outage`."""

    def get(self, name: str) -> Found: ...

    def add(self, entries: Iterable[Entry]) -> None:
        """Put things where nothing lies."""

    def bury(self, name: str) -> None:
        """Remove what lies there, and let nothing be added for a while."""


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
        value, now = self._redis.run(_LOOK, name)
        return Found(value, now)

    def add(self, entries: Iterable[Entry]) -> None:
        self._redis.add(entries)

    def bury(self, name: str) -> None:
        self._redis.set(name, BURIED, BURIAL)


class LocalShelf:
    """In this process's memory: for development and tests.

    :param alias: of a cache with Django's local-memory backend
    """

    def __init__(self, alias: str) -> None:
        self._cache = caches[alias]

    def get(self, name: str) -> Found:
        return Found(self._cache.get(name), _now())

    def add(self, entries: Iterable[Entry]) -> None:
        for name, value, expires in entries:
            self._cache.add(name, value, (expires - _now()) / 1000)

    def bury(self, name: str) -> None:
        self._cache.set(name, BURIED, BURIAL.total_seconds())


def shelf_of(alias: str) -> Shelf:
    """Return the shelf in a cache."""
    local = isinstance(caches[alias], LocMemCache)
    return LocalShelf(alias) if local else RedisShelf(alias)


def _now() -> int:
    return int(time() * 1000)
