"""Leases are renewed in the background, for as long as their attempts run."""

import logging
from time import monotonic
from typing import Protocol

from ..background import Background

logger = logging.getLogger("django_idempotency")

AGAIN = 1.0
"""Seconds until the next try, after a surprise."""


class Renewable(Protocol):
    """A lease."""

    def renew(self) -> float | None:
        """Prolong it; return in how many seconds to do so again, or ``None`` if it is lost."""


class Renewer(Background):
    """One thread per process, for all leases; it lives for as long as there are any."""

    def __init__(self) -> None:
        super().__init__("idempotency-leases")

    def _forget(self) -> None:
        """An attempt does not survive a fork."""
        self._due: dict[Renewable, float] = {}

    def keep(self, lease: Renewable, seconds: float) -> None:
        """Renew a lease from now on.

        :param seconds: until the first time
        """
        with self._changed:
            self._due[lease] = monotonic() + seconds
            self._start()
            self._changed.notify_all()

    def drop(self, lease: Renewable) -> None:
        """Renew a lease no more. Harmless if it is not renewed."""
        with self._changed:
            self._due.pop(lease, None)
            self._changed.notify_all()

    def _run(self) -> None:
        while (lease := self._next()) is not None:
            seconds = self._renewed(lease)
            with self._changed:
                if lease not in self._due:
                    continue  # its attempt has ended meanwhile
                if seconds is None:
                    del self._due[lease]
                else:
                    self._due[lease] = monotonic() + seconds

    @staticmethod
    def _renewed(lease: Renewable) -> float | None:
        try:
            return lease.renew()
        except Exception:  # the other leases must not end for it
            logger.exception("A lease could not be renewed")
            return AGAIN

    def _next(self) -> Renewable | None:
        """Wait until a lease is due; ``None`` when there are none left."""
        with self._changed:
            while self._due:
                lease = min(self._due, key=self._due.__getitem__)
                seconds = self._due[lease] - monotonic()
                if seconds <= 0:
                    return lease
                self._changed.wait(seconds)
            self._end()
            return None


renewer = Renewer()
