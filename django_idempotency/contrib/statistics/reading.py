"""What the table says, in few statements: none reads more than the rows of one period."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import F, Max, Min, Sum

from .figures import (
    COLUMNS,
    DAY,
    HOUR,
    LARGEST,
    LIMITS,
    OUTCOMES,
    RANGES,
    SUMS,
    WITHOUT_KEY,
    Numbers,
    add,
    nothing,
)
from .models import RECENT, IdempotencyStatistics, hour_now, time_of, today_now

HOURS = 24
"""Hours of the shorter period, the present one included."""

MOST_VIEWS = 10
"""Views that a list of the worst names."""

_TOTAL = "total_"


@dataclass(frozen=True, slots=True)
class Period:
    """What was counted in some hours or days that follow each other.

    :ivar bars: beginning of each, and its numbers in the order of :data:`.figures.COLUMNS`
    """

    bars: tuple[tuple[datetime, Numbers], ...]

    @property
    def total(self) -> Numbers:
        """The sums of all."""
        found = nothing()
        for _, numbers in self.bars:
            add(found, numbers)
        return found


class View(NamedTuple):
    """What a view had in the recent days.

    :param share: of its requests that had a key, from 0 to 1
    """

    name: str
    conflicts: int
    mismatches: int
    share: float | None


def last_hours() -> Period:
    """Return the last 24 hours, in one statement."""
    return _period(HOUR, hour_now(), HOURS)


def last_days() -> Period:
    """Return the last 30 days (UTC), in one statement."""
    return _period(DAY, today_now(), RECENT)


def _period(hours: int, last: int, count: int) -> Period:
    first = last - (count - 1) * hours
    rows = IdempotencyStatistics.rows().filter(hours=hours, start__gte=first, start__lte=last)
    sums: Any = {_TOTAL + name: Sum(name) for name in SUMS}
    sums[_TOTAL + LARGEST] = Max(LARGEST)
    found = {row["start"]: row for row in rows.values("start").annotate(**sums)}
    starts = range(first, last + 1, hours)
    return Period(tuple((time_of(start), _numbers(found.get(start))) for start in starts))


def _numbers(row: Any) -> Numbers:
    return nothing() if row is None else [row[_TOTAL + name] for name in COLUMNS]


def worst_views() -> list[View]:
    """Return the views with most conflicts and mismatches in the last 30 days, in one statement."""
    first = today_now() - (RECENT - 1) * DAY
    rows = IdempotencyStatistics.rows().filter(hours=DAY, start__gte=first)
    names = (*OUTCOMES, WITHOUT_KEY)
    sums: Any = {_TOTAL + name: Sum(name) for name in names}
    grouped = rows.values("view").annotate(bad=Sum(F("conflict") + F("mismatch")), **sums)
    found = grouped.filter(bad__gt=0).order_by("-bad", "view")[:MOST_VIEWS]
    return [
        View(
            row["view"],
            row[_TOTAL + "conflict"],
            row[_TOTAL + "mismatch"],
            share_with_key({name: row[_TOTAL + name] for name in names}),
        )
        for row in found
    ]


def counted_since() -> datetime | None:
    """Return the first day that was counted, in one statement; ``None`` if nothing was."""
    first = IdempotencyStatistics.rows().filter(hours=DAY).aggregate(first=Min("start"))["first"]
    return None if first is None else time_of(first)


def named(numbers: Numbers) -> dict[str, float]:
    """Return numbers by the names of their columns."""
    return dict(zip(COLUMNS, numbers, strict=True))


def share_with_key(numbers: dict[str, float]) -> float | None:
    """Return the share of requests that had a key, from 0 to 1; ``None`` if there were none."""
    keyed = sum(numbers[name] for name in OUTCOMES)
    every = keyed + numbers[WITHOUT_KEY]
    return keyed / every if every else None


def mean(numbers: dict[str, float]) -> float | None:
    """Return the mean duration of the guard, in seconds; ``None`` if none was measured."""
    count = sum(numbers[name] for name in RANGES)
    return numbers["guard_seconds"] / count if count else None


def limit_of(numbers: dict[str, float], part: float) -> int | None:
    """Return in how many milliseconds the guard was done for a part of the requests, at most.

    :param part: from 0 to 1: 0.5 asks for the median
    :return: one of :data:`.figures.LIMITS`; ``None`` if it took longer than all of them
    """
    wanted = part * sum(numbers[name] for name in RANGES)
    return next((limit for limit, done in _done(numbers) if done >= wanted), None)


def _done(numbers: dict[str, float]) -> Iterable[tuple[int, float]]:
    done = 0.0
    for limit, name in zip(LIMITS, RANGES, strict=False):
        done += numbers[name]
        yield limit, done
