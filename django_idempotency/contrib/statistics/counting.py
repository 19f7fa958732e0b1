"""Counts in the memory of each process; a thread adds the numbers to the table."""

import logging
from contextlib import suppress

from django.db import connections

from ...stores.database.location import Location, location_of
from ...threads import Background
from .figures import OTHER, Batch, Reuse, count, day_of, nothing
from .models import LONGEST_NAME, IdempotencyStatistics, hour_now
from .writing import write

logger = logging.getLogger("django_idempotency")

INTERVAL = 5
"""Seconds from a request to the statement that counts it, with all others since."""

EXIT_TIMEOUT = 3
"""Seconds that the exit of a process waits for that statement."""

MOST_VIEWS = 200
"""Views that a process tells apart. A URLconf may have more, or make them as it goes."""

MOST_WAITING = 20_000
"""Rows that wait in memory while the table cannot be written: some megabytes."""

MOST_CALLERS = 1000
"""Callers with reused keys that a process tells apart in a day, for each view that they use."""


class Counter(Background):
    """Numbers that wait to be written, for each location. A request never waits for the database.

    The thread lives for as long as numbers wait.
    """

    def __init__(self) -> None:
        super().__init__("idempotency-statistics")

    def _forget(self) -> None:
        self._waiting: dict[Location, Batch] = {}
        self._being_written: dict[Location, Batch] = {}
        self._views: set[str] = set()
        self._callers: set[Reuse] = set()
        self._is_hurried = False
        self._failing: set[Location] = set()

    @property
    def waiting(self) -> int:
        """How many requests are not in the table yet."""
        batches = (*self._waiting.values(), *self._being_written.values())
        return sum(batch.requests for batch in batches)

    def count(
        self, view: str, name: str, seconds: float | None = None, reused_by: str | None = None
    ) -> None:
        """Count one request at the location of this thread: the writing thread has no tenant.

        :param view: name
        :param name: how it ended, one of :data:`.figures.REQUESTS`
        :param seconds: duration of the guard
        :param reused_by: digest of the caller, if the key was sent with another request before
        """
        location = location_of(IdempotencyStatistics.alias())
        hour = hour_now()
        with self._changed:
            view = self._told_apart(view)
            batch = self._waiting.get(location)
            if batch is None:
                batch = self._waiting[location] = Batch()
            numbers = batch.hours.get((hour, view))
            if numbers is None and batch.size < MOST_WAITING:
                numbers = batch.hours[hour, view] = nothing()
            if numbers is not None:
                count(numbers, name, seconds)
                if reused_by is not None:
                    self._count_reuse(batch, Reuse(day_of(hour), view, reused_by))
            self._start()

    def _told_apart(self, view: str) -> str:
        if view not in self._views:
            if len(self._views) >= MOST_VIEWS:
                return OTHER
            self._views.add(view)
        return view[:LONGEST_NAME]

    def _count_reuse(self, batch: Batch, reuse: Reuse) -> None:
        if reuse not in self._callers:
            self._callers = {each for each in self._callers if each.start == reuse.start}
            if len(self._callers) >= MOST_CALLERS:
                reuse = reuse._replace(scope="")
            else:
                self._callers.add(reuse)
        batch.reuses[reuse] = batch.reuses.get(reuse, 0) + 1

    def flush(self, timeout: float | None = None) -> None:
        """Write the numbers now, and wait until they are written or an error occurs.

        :param timeout: in seconds
        """
        with self._changed:
            self._is_hurried = bool(self._waiting or self._being_written) and self._start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_running, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_hurried, INTERVAL)
                self._being_written, self._waiting = self._waiting, {}
                written = self._being_written
            left = {at: batch for at, batch in written.items() if not self._wrote(at, batch)}
            with suppress(Exception):  # the server may be gone, and the thread goes on
                connections.close_all()  # those of this thread
            with self._changed:
                self._being_written = {}
                for location, batch in left.items():
                    batch.add(self._waiting.get(location, Batch()))
                    self._waiting[location] = batch
                if not self._waiting or (self._is_hurried and len(left) == len(written)):
                    self._is_hurried = False
                    self._end()
                    return

    def _wrote(self, location: Location, batch: Batch) -> bool:
        """Add numbers to the tables, and log an error."""
        try:
            location.enter(connections[location.using])
            write(batch, location.using)
        except Exception as error:
            if location not in self._failing:
                logger.warning(
                    "Statistics could not be written; the next try includes them: %s", error
                )
            self._failing.add(location)
            return False
        self._failing.discard(location)
        return True


counter = Counter()
"""This process's."""


def flush_at_exit() -> None:
    """Write the waiting numbers before the process exits."""
    counter.flush(EXIT_TIMEOUT)
