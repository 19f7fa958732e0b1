"""Records in one process's memory: for development and tests."""

import threading
from datetime import timedelta
from time import time
from typing import Any

from ..background import after_fork
from ..protocol.record import Claim, State
from .cells import Cell, Seen, Taken
from .local_cache import local_cache

_lock = threading.Lock()


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """A thread of the parent may hold the lock at the moment of the fork."""
    global _lock
    _lock = threading.Lock()


after_fork(_forget)

Known = dict[str, Any]


class LocalCells:
    """What :class:`~.cells.RedisCells` does. Other processes see nothing of it.

    :param alias: of a cache with Django's local-memory backend
    """

    def __init__(self, alias: str) -> None:
        self._cache = local_cache(alias)

    def claim(self, name: str, record_id: int, claim: Claim, lease: timedelta) -> Cell:
        with _lock:
            known: Known | None = self._cache.get(name)
            found = known and _found(known, claim.tombstone)
            if found and (not found.is_expired or found.is_buried):
                return found
            new = {
                "id": record_id,
                "state": State.CLAIMED,
                "attempt": 1,
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
            was_open = known["is_open"]
            if known["state"] is State.CLAIMED:
                number = known["attempt"] + 1
                known |= {"attempt": number, "is_open": True, "lease": _in(lease)}
                self._keep(name, known)
            return Taken(known["state"], known["attempt"], was_open, known["response"])

    def renew(self, name: str, record_id: int, attempt: int, lease: timedelta) -> bool:
        return self._change(name, record_id, attempt, lease=_in(lease))

    def complete(
        self, name: str, record_id: int, attempt: int, response: bytes, retention: timedelta
    ) -> bool:
        done = {"state": State.COMPLETED, "response": response, "is_open": False}
        return self._change(name, record_id, attempt, lease=0.0, expires=_in(retention), **done)

    def release(self, name: str, record_id: int, attempt: int, is_open: bool) -> bool:
        return self._change(name, record_id, attempt, lease=0.0, is_open=is_open)

    def _change(self, name: str, record_id: int, attempt: int, **changes: Any) -> bool:
        with _lock:
            known: Known | None = self._cache.get(name)
            wanted = (record_id, attempt, State.CLAIMED)
            if known is None or (known["id"], known["attempt"], known["state"]) != wanted:
                return False
            self._keep(name, known | changes)
            return True

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
