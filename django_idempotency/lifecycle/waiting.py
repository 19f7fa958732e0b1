"""Duplicates that wait occupy workers, so their number is bounded, too."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from ..background import after_fork


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a duplicate waits for the attempt in flight, and how many may.

    :param timeout: at most so long; nothing means not at all
    :param limit: at most so many at once in this process
    """

    timeout: timedelta = timedelta(0)
    limit: int = 0


IMPATIENT = Patience()

_lock = threading.Lock()
_waiting = 0


@contextmanager
def place(limit: int) -> Iterator[bool]:
    """Take a place among the waiting requests of this process, if one is free."""
    global _waiting
    with _lock:
        free = _waiting < limit
        _waiting += free
    try:
        yield free
    finally:
        with _lock:
            _waiting -= free


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """Who waits in the parent takes no place in a forked process."""
    global _lock, _waiting
    _lock, _waiting = threading.Lock(), 0


after_fork(_forget)
