"""The memory of one process, for development and tests. Other processes see nothing of it."""

import threading
from collections.abc import Iterable
from copy import copy
from datetime import timedelta
from time import time
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import default_key_func
from django.core.cache.backends.locmem import LocMemCache

from ...protocol.envelope import prefix_of
from ...protocol.record import Claim, State
from ...threads import after_fork
from ..base import Gone
from .backends import (
    DELETED,
    DELETED_FOR,
    EPOCH,
    RECORD,
    CacheRecord,
    Entry,
    HeldRecord,
    Lookup,
    new_epoch,
)


def is_local(alias: str) -> bool:
    """Whether a cache is in the memory of this process."""
    return isinstance(caches[alias], LocMemCache)


def _local_cache(alias: str) -> Any:
    """Return a cache on the memory of ``alias`` that leaves its ``KEY_FUNCTION`` alone.

    Why: see :meth:`.redis.Redis.key`.
    """
    cache: Any = copy(caches[alias])
    cache.key_func = default_key_func
    return cache


_lock = threading.Lock()


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """A thread of the parent may hold the lock at the moment of the fork."""
    global _lock
    _lock = threading.Lock()


after_fork(_forget)

Fields = dict[str, Any]
"""A record, by the names of the fields that it has in Redis."""


class LocalBackend:
    """Keeps records.

    :param alias: of a cache with Django's local-memory backend
    """

    def __init__(self, alias: str) -> None:
        self._cache = _local_cache(alias)

    def claim(self, name: str, record_id: int, claim: Claim, lease: timedelta) -> CacheRecord:
        with _lock:
            known: Fields | None = self._cache.get(name)
            if known is not None:
                found = _record(known)
                is_tombstone = found.expires + claim.tombstone.total_seconds() > time()
                if not found.is_expired or (is_tombstone and found.response is not None):
                    return found
            new = {
                "id": record_id,
                "state": State.CLAIMED,
                "attempt": 1,
                "holders": 1,
                "holder": 1,
                "fingerprint": claim.fingerprint,
                "response": None,
                "is_open": True,
                "lease": _in(lease),
                "expires": _in(claim.retention),
                "tombstone": claim.tombstone.total_seconds(),
            }
            self._keep(name, new)
            return _record(new)

    def look(self, name: str) -> CacheRecord | None:
        known: Fields | None = self._cache.get(name)
        return None if known is None else _record(known)

    def take(self, name: str, record_id: int, lease: timedelta) -> CacheRecord | None:
        with _lock:
            known: Fields | None = self._cache.get(name)
            if known is None or known["id"] != record_id:
                raise Gone
            if known["lease"] > time():
                return None
            if known["state"] is State.CLAIMED:
                number = known["holders"] + 1
                known |= {"holders": number, "holder": number, "lease": _in(lease)}
                self._keep(name, known)
            return _record(known)

    def start(self, held: HeldRecord, lease: timedelta) -> int | None:
        with _lock:
            known = self._claimed(held)
            if known is None or (known["attempt"], known["holder"]) != (held.attempt, held.holder):
                return None
            started = {"attempt": held.attempt + 1, "is_open": True, "lease": _in(lease)}
            self._keep(held.name, known | started)
            return held.attempt + 1

    def renew(self, held: HeldRecord, lease: timedelta) -> bool:
        with _lock:
            known = self._claimed(held)
            if known is None:
                return False
            is_free = known["attempt"] == held.attempt and known["lease"] <= time()
            if known["holder"] != held.holder and not is_free:
                return False
            self._keep(held.name, known | {"holder": held.holder, "lease": _in(lease)})
            return True

    def complete(self, held: HeldRecord, response: bytes, retention: timedelta) -> bool:
        done = {"state": State.COMPLETED, "response": response, "is_open": False, "lease": 0.0}
        with _lock:
            known = self._claimed(held)
            if known is None or known["attempt"] != held.attempt:
                return False
            self._keep(held.name, known | done | {"expires": _in(retention)})
            return True

    def withdraw(self, held: HeldRecord) -> bool:
        with _lock:
            known = self._claimed(held)
            if known is None or known["attempt"] != held.attempt:
                return False
            self._cache.delete(held.name)
            return True

    def release(self, held: HeldRecord, is_open: bool | None) -> bool:
        with _lock:
            known = self._claimed(held)
            if known is None or known["attempt"] != held.attempt:
                return False
            if is_open is not None:
                known |= {"is_open": is_open}
            if known["holder"] == held.holder:
                known |= {"lease": 0.0}
            self._keep(held.name, known)
            return True

    def let_time_pass(self, by: timedelta) -> None:
        prefix = prefix_of(RECORD)
        start = self._cache.make_key(prefix)
        for key in [each for each in self._cache._cache if each.startswith(start)]:
            name = prefix + key.removeprefix(start)
            known: Fields | None = self._cache.get(name)
            if known is not None:
                self._keep(name, known | {"expires": known["expires"] - by.total_seconds()})

    def _claimed(self, held: HeldRecord) -> Fields | None:
        known: Fields | None = self._cache.get(held.name)
        is_it = known and (known["id"], known["state"]) == (held.record_id, State.CLAIMED)
        return known if is_it else None

    def _keep(self, name: str, known: Fields) -> None:
        end = max(known["lease"], known["expires"]) + known["tombstone"]
        self._cache.set(name, known, end - time())


def _record(known: Fields) -> CacheRecord:
    is_held = known["state"] is State.CLAIMED and known["lease"] > time()
    return CacheRecord(
        known["id"],
        known["state"],
        known["attempt"],
        known["fingerprint"],
        known["response"],
        known["holder"],
        known["is_open"],
        known["expires"],
        is_held,
        is_expired=not is_held and known["expires"] <= time(),
    )


def _in(duration: timedelta) -> float:
    return time() + duration.total_seconds()


class LocalReplayCache:
    """Keeps copies.

    :param alias: of a cache with Django's local-memory backend
    """

    def __init__(self, alias: str) -> None:
        self._cache = _local_cache(alias)

    def get(self, name: str) -> Lookup:
        epoch = self._cache.get_or_set(EPOCH, new_epoch, None)
        return Lookup(name, self._cache.get(name), int(time() * 1000), epoch.decode())

    def add(self, entries: Iterable[Entry]) -> None:
        for name, value, expires in entries:
            self._cache.add(name, value, expires / 1000 - time())

    def mark_deleted(self, names: Iterable[str]) -> None:
        self._cache.set_many(dict.fromkeys(names, DELETED), DELETED_FOR.total_seconds())

    def begin_epoch(self) -> None:
        self._cache.set(EPOCH, new_epoch(), None)
