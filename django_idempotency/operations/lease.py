"""Lock a record by a lease, where no lock ends with its process."""

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Protocol

from ..protocol.record import Snapshot, State, StoredResponse
from ..stores.base import Outage, Unusable
from ..stores.cache.store import CacheStore
from ..threads import Background

logger = logging.getLogger("django_idempotency")

AGAIN = 1.0
"""Seconds until a lease is renewed again after an unexpected error."""


class Renewable(Protocol):
    """A lease.

    :ivar named: how lines of the log name its operation
    """

    @property
    def named(self) -> str: ...

    def renew(self) -> float | None:
        """Prolong it; return in how many seconds to do so again, or ``None`` if it is lost."""


class Renewer(Background):
    """Renews the leases of this process in one thread, which runs as long as there are any."""

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
            logger.exception("%s: its lease could not be renewed", lease.named)
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

RENEWALS = 3
"""How often a lease is renewed within its length, so that it outlives two that fail."""

POLL = 0.1
"""Seconds until a duplicate that waits looks again, and until the store is told once more how an
attempt ended."""

PERSISTENCE = 10.0
"""Seconds for which an attempt tries to store its response, within its lease. Servers end workers
that are silent for much longer (gunicorn: 30 s)."""


class Lease:
    """Lapses by itself if its process dies, is stopped, or loses its store.

    A lease that has lapsed is not lost yet: only when another attempt has started, this one can
    store nothing any more (I12).

    :param store: where the record is
    """

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        self._record: Snapshot
        self._holder = 0  # counts the attempts that have locked the record, from 1
        self._is_first = False
        self._asked = monotonic()
        self._until = 0.0
        self._has_started = False
        self.interrupted = False

    def take(self, record: Snapshot, wait: timedelta) -> Snapshot | None:
        if record.fresh:
            self._is_first = True
            return self._held(record, 1)
        if record.held and not wait:
            return None
        return self._take_over(record, monotonic() + wait.total_seconds())

    def start(self) -> Snapshot | None:
        if self._is_first:
            # It has its fencing token from the claim.
            started = self.is_held() or self._store.renew(self._record, self._holder)
            now = self._record if started else None
        else:
            now = self._store.start(self._record, self._holder)
        if now is not None:
            self._record, self._has_started = now, True
        return now

    def is_held(self) -> bool:
        return monotonic() < self._until

    def complete(self, response: StoredResponse, retention: timedelta) -> bool:
        """The view's effects are done, so one failed try is no reason to lose the response."""
        renewer.drop(self)
        until = min(self._until, monotonic() + PERSISTENCE)
        self._until = 0.0
        while True:
            try:
                return self._store.complete(self._record, response, retention)
            except Outage as error:
                if isinstance(error, Unusable) or monotonic() + POLL > until:
                    raise
            threading.Event().wait(POLL)

    def withdraw(self) -> bool:
        try:
            removed = self._store.withdraw(self._record)
        except Outage:
            # As good, but for another body under this key.
            self.release(nothing_done=True)
            return False
        renewer.drop(self)
        self._until = 0.0
        return removed

    def release(self, nothing_done: bool = False) -> None:
        renewer.drop(self)
        if not self._holder:
            return
        # An attempt that has not started has done nothing, and says nothing of the one before.
        not_started = False if self._is_first else None
        is_open = not nothing_done if self._has_started else not_started
        release = _Release(self._store, self._record, self._holder, is_open, self._until)
        self._until = 0.0
        again = release.renew()
        if again is not None:
            renewer.keep(release, again)

    def renew(self) -> float | None:
        """Called by the renewer's thread."""
        asked = monotonic()
        try:
            is_ours = self._store.renew(self._record, self._holder)
        except Outage:
            return min(self._length / RENEWALS, 1.0)
        self._until = asked + self._length if is_ours else 0.0
        return self._length / RENEWALS if is_ours else None

    @property
    def named(self) -> str:
        return self._store.named

    @property
    def _length(self) -> float:
        return self._store.lease.total_seconds()

    def _take_over(self, record: Snapshot, deadline: float) -> Snapshot | None:
        self._asked = monotonic()
        while (taken := self._store.take(record)) is None:
            # A lease lapses silently, so the store is asked again and again.
            if monotonic() + POLL > deadline:
                return None
            threading.Event().wait(POLL)
            self._asked = monotonic()
        now, holder, self.interrupted = taken
        return self._held(now, holder) if now.state is State.CLAIMED else now

    def _held(self, record: Snapshot, holder: int) -> Snapshot:
        self._record, self._holder = record, holder
        self._until = self._asked + self._length
        renewer.keep(self, self._length / RENEWALS)
        return record


@dataclass(eq=False, slots=True)
class _Release:
    """How an attempt ended that stores no response. The request does not wait until the store knows
    it: the renewer tells it again, until the lease would have lapsed anyway."""

    store: CacheStore
    record: Snapshot
    holder: int
    is_open: bool | None
    until: float

    @property
    def named(self) -> str:
        return self.store.named

    def renew(self) -> float | None:
        try:
            self.store.release(self.record, self.holder, self.is_open)
        except Outage as error:
            if not isinstance(error, Unusable) and monotonic() + POLL <= self.until:
                return POLL
            logger.info("%s: it could not be released; its lease lapses by itself", self.named)
        return None
