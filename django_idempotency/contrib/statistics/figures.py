"""What is counted, and how numbers add up. Neither Django nor a database is needed for that."""

from bisect import bisect_left
from typing import NamedTuple

from ...signals import Outcome

UNPROTECTED, WITHOUT_KEY = "unprotected", "without_key"

OUTCOMES = (*map(str, Outcome), UNPROTECTED)
"""How a request with a key can end: each ends in one way."""

REQUESTS = (*OUTCOMES, WITHOUT_KEY)
"""Each request that is counted has one of these."""

LIMITS = (1, 2, 5, 10, 20, 50, 200, 1000)
"""Milliseconds: upper limits of the ranges in which durations of the guard are counted."""

RANGES = (*(f"guard_{limit}ms" for limit in LIMITS), "guard_slower")
"""Each duration counts in the first range that it fits into."""

SUMS = (*REQUESTS, *RANGES, "guard_seconds")
"""Names of columns whose values add up."""

LARGEST = "guard_longest"
"""Name of the column with the longest duration, in seconds."""

COLUMNS = (*SUMS, LARGEST)

HOUR, DAY = 1, 24
"""How many hours a row is about."""

OTHER = "(other)"
"""Stands for the views beyond the most that a process tells apart."""

_INDEX = {name: index for index, name in enumerate(COLUMNS)}
_FIRST_RANGE = len(REQUESTS)
_SECONDS = tuple(limit / 1000 for limit in LIMITS)

Numbers = list[float]
"""One number for each of :data:`COLUMNS`."""


class Row(NamedTuple):
    """What a row is about.

    :param hours: :data:`HOUR` or :data:`DAY`
    :param start: hours since 1970 began (UTC)
    :param view: name of the view, as in events
    """

    hours: int
    start: int
    view: str


def nothing() -> Numbers:
    return [0] * len(COLUMNS)


def count(numbers: Numbers, name: str, seconds: float | None = None) -> None:
    """Count one request.

    :param name: one of :data:`REQUESTS`
    :param seconds: duration of the guard, if there was one
    """
    numbers[_INDEX[name]] += 1
    if seconds is not None:
        numbers[_FIRST_RANGE + bisect_left(_SECONDS, seconds)] += 1
        numbers[-2] += seconds
        numbers[-1] = max(numbers[-1], seconds)


def add(numbers: Numbers, more: Numbers) -> None:
    """Add numbers to others, in place."""
    longest = max(numbers[-1], more[-1])
    numbers[:] = [one + other for one, other in zip(numbers, more, strict=True)]
    numbers[-1] = longest


class Reuse(NamedTuple):
    """A caller who sends keys with other requests than before.

    :param start: first hour of the day, since 1970 (UTC)
    :param scope: digest of the caller, as in events; empty for those beyond the most
    """

    start: int
    view: str
    scope: str


class Batch:
    """Numbers of one location that wait to be written.

    :ivar hours: numbers by hour and view
    :ivar reuses: how often callers have reused keys
    """

    def __init__(self) -> None:
        self.hours: dict[tuple[int, str], Numbers] = {}
        self.reuses: dict[Reuse, int] = {}

    @property
    def size(self) -> int:
        """How much memory it takes, in rows."""
        return len(self.hours) + len(self.reuses)

    @property
    def requests(self) -> int:
        return round(sum(sum(numbers[: len(REQUESTS)]) for numbers in self.hours.values()))

    def add(self, other: "Batch") -> None:
        """Add the numbers of another batch."""
        for where, numbers in other.hours.items():
            add(self.hours.setdefault(where, nothing()), numbers)
        for reuse, times in other.reuses.items():
            self.reuses[reuse] = self.reuses.get(reuse, 0) + times

    def rows(self) -> list[tuple[Row, Numbers]]:
        """Return rows of hours and of their days, in the order in which everybody writes them."""
        found: dict[Row, Numbers] = {}
        for (hour, view), numbers in self.hours.items():
            for row in (Row(HOUR, hour, view), Row(DAY, day_of(hour), view)):
                add(found.setdefault(row, nothing()), numbers)
        return sorted(found.items())


def day_of(hour: int) -> int:
    """Return the first hour of the day (UTC) that an hour belongs to."""
    return hour - hour % DAY
