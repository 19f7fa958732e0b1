"""Records in one process's memory: for development and tests."""

import threading
from copy import copy
from datetime import timedelta
from time import time
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import default_key_func
from django.core.cache.backends.locmem import LocMemCache

from ...protocol.record import Claim, State
from ...threads import after_fork
from .backends import Cell, Seen, Taken


def is_local(alias: str) -> bool:
    """Whether a cache is in the memory of this process."""
    return isinstance(caches[alias], LocMemCache)


def local_cache(alias: str) -> Any:
    """Return a cache on the memory of ``alias`` that leaves its ``KEY_FUNCTION`` alone.

    Why: see :meth:`.redis.Redis._key`.
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

Known = dict[str, Any]


class LocalBackend:
    """What :class:`~.cells.RedisBackend` does. Other processes see nothing of it.

    :param alias: of a cache with Django's local-memory backend
    """

    def __init__(self, alias: str) -> None:
        self._cache = local_cache(alias)

    def claim(self, name: str, record_id: int, claim: Claim, lease: timedelta) -> Cell:
        with _lock:
            known: Known | None = self._cache.get(name)
            found = known and _found(known, claim.tombstone)
            if found and (not found.is_expired or found.is_tombstone):
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
            return _found(new, claim.tombstone)

    def look(self, name: str) -> Seen | None:
        known: Known | None = self._cache.get(name)
        if known is None:
            return None
        return Seen(_found(known, timedelta(0)), known["is_open"], known["expires"])

    def take(self, name: str, record_id: int, lease: timedelta) -> Taken | None:
        with _lock:
            known: Known | None = self._cache.get(name)
            if known is None or known["id"] != record_id or known["lease"] > time():
                return None
            if known["state"] is State.CLAIMED:
                number = known["holders"] + 1
                known |= {"holders": number, "holder": number, "lease": _in(lease)}
                self._keep(name, known)
            return Taken(
                known["state"],
                known["attempt"],
                known["holder"],
                known["is_open"],
                known["response"],
            )

    def start(
        self, name: str, record_id: int, attempt: int, holder: int, lease: timedelta
    ) -> int | None:
        with _lock:
            known = self._claimed(name, record_id)
            if known is None or (known["attempt"], known["holder"]) != (attempt, holder):
                return None
            number = attempt + 1
            self._keep(name, known | {"attempt": number, "is_open": True, "lease": _in(lease)})
            return number

    def renew(self, name: str, record_id: int, attempt: int, holder: int, lease: timedelta) -> bool:
        with _lock:
            known = self._claimed(name, record_id)
            if known is None:
                return False
            is_free = known["attempt"] == attempt and known["lease"] <= time()
            if known["holder"] != holder and not is_free:
                return False
            self._keep(name, known | {"holder": holder, "lease": _in(lease)})
            return True

    def complete(
        self, name: str, record_id: int, attempt: int, response: bytes, retention: timedelta
    ) -> bool:
        done = {"state": State.COMPLETED, "response": response, "is_open": False}
        with _lock:
            known = self._claimed(name, record_id)
            if known is None or known["attempt"] != attempt:
                return False
            self._keep(name, known | done | {"lease": 0.0, "expires": _in(retention)})
            return True

    def release(
        self, name: str, record_id: int, attempt: int, holder: int, is_open: bool | None
    ) -> bool:
        with _lock:
            known = self._claimed(name, record_id)
            if known is None or known["attempt"] != attempt:
                return False
            if is_open is not None:
                known |= {"is_open": is_open}
            if known["holder"] == holder:
                known |= {"lease": 0.0}
            self._keep(name, known)
            return True

    def _claimed(self, name: str, record_id: int) -> Known | None:
        known: Known | None = self._cache.get(name)
        is_it = known is not None and (known["id"], known["state"]) == (record_id, State.CLAIMED)
        return known if is_it else None

    def _keep(self, name: str, known: Known) -> None:
        end = max(known["lease"], known["expires"]) + known["tombstone"]
        self._cache.set(name, known, end - time())


def _found(known: Known, tombstone: timedelta) -> Cell:
    now = time()
    is_held = known["state"] is State.CLAIMED and known["lease"] > now
    is_expired = not is_held and known["expires"] <= now
    is_kept = known["expires"] + tombstone.total_seconds() > now and known["response"] is not None
    return Cell(
        known["id"],
        known["state"],
        known["attempt"],
        known["fingerprint"],
        known["response"],
        is_held,
        is_expired,
        is_expired and is_kept,
    )


def _in(duration: timedelta) -> float:
    return time() + duration.total_seconds()
