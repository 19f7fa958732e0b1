"""Run effects: right after the commit, or later."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from random import shuffle, uniform
from time import monotonic
from typing import Any

from django.db import connections, transaction

from ..compat.django import autocommit_is_switched, close_broken_connections
from ..protocol.codecs import Unreadable
from ..stores.base import Busy
from ..stores.database.transactions import contention_is_busy
from . import rows
from .declaring import Effect, known_effects
from .errors import ChangedEffect, EffectError
from .running import Budget, CurrentEffect, Staged, call
from .sealing import arguments_of, opened

logger = logging.getLogger("django_idempotency")

PAGE = 50
"""Effects that are read at once."""

FIRST_DELAY = timedelta(seconds=30)
LONGEST_DELAY = timedelta(hours=12)
FACTOR = 4
"""Half a minute after the first try, then two, then eight: seven delays take about a day."""

LEFT_OPEN = (
    "it has left a transaction open: it has called set_autocommit(False), and not set it back. Use "
    "transaction.atomic()."
)

MARKS = 3
"""How often a mark is tried that loses against other statements."""


@dataclass
class RunSummary:
    """What a run of the command did.

    :ivar done: effects that have run
    :ivar failed: that have failed, and will be tried again
    :ivar failed_for_good: that are not tried again unless an operator says so
    :ivar unknown: effects that are due, by names that no declaration has: they stay as they are
    """

    done: int = 0
    failed: int = 0
    failed_for_good: int = 0
    unknown: Counter[str] = field(default_factory=Counter)


class Tried(Enum):
    """What a try has come to."""

    DONE = auto()
    FAILED = auto()
    FAILED_FOR_GOOD = auto()


def run_inline(using: str, staged: Iterable[Staged], budget: Budget, is_taken: bool) -> None:
    """Run effects after their commit. An effect that fails is logged; it stops neither the others
    nor the request.

    :param is_taken: they were staged with a lease for this process; otherwise each is taken first
    """
    begun, unmarked, left = monotonic(), [], []
    try:
        for each in staged:
            effect, key = each.effect, each.key
            if budget.is_spent(begun):
                left.append(key)
            elif (is_taken or _quietly(rows.take_new, using, key, effect.time_limit)) and _tried(
                using, effect, key, 1, partial(arguments_of, each.text)
            ) is Tried.DONE:
                unmarked.append(key)
    finally:
        budget.spend(begun)
        if unmarked:
            _quietly(rows.done, using, unmarked, 1)
        if left and is_taken:
            _quietly(rows.release, using, left, 1)


def run_due(
    using: str, *, limit: int = 1000, should_stop: Callable[[], bool] = lambda: False
) -> RunSummary:
    """Run effects that are due, the longest first, one after the other.

    Any number of processes may do that at once: each effect is taken by one of them.

    :param limit: how many at most
    :param should_stop: asked before each
    """
    summary, known = RunSummary(), known_effects()
    left, misses = limit, 0
    while left > 0 and misses < 2:
        page = rows.due(using, known, min(left, PAGE))
        shuffle(page)  # workers that read the same page do not run after each other
        taken = 0
        for row in page:
            if should_stop():
                break
            taken += _run_row(using, known[row.name], row, summary)
        left -= taken
        # Others have taken a whole page: they may be faster again, and will do the work, then.
        misses = 0 if taken else misses + 1
        if not page or should_stop():
            break
    summary.unknown = rows.unknown(using, known)
    return summary


def _run_row(using: str, effect: Effect[..., Any], row: rows.DueRow, summary: RunSummary) -> int:
    """Take an effect and run it; return how many were taken."""
    try:
        with contention_is_busy(using):
            if not rows.take(using, row, effect.time_limit):
                return 0
    except Busy:
        return 0
    key, tries = str(row.key), row.tries + 1
    problem = _obstacle(effect, row)
    if problem is not None:
        logger.error("Effect %s %s has failed for good: %s", row.name, key, problem)
        _quietly(rows.failed, using, key, tries, problem)
        summary.failed_for_good += 1
        return 1

    def arguments() -> Any:
        return arguments_of(opened(key, row.name, row.arguments))

    tried = _tried(using, effect, key, tries, arguments, row.earlier)
    if tried is Tried.DONE:
        if _quietly(rows.done, using, [key], tries) == 0:
            logger.warning(
                "Effect %s %s has run for longer than its time limit, and another process has "
                "taken it meanwhile",
                row.name,
                key,
            )
        summary.done += 1
    elif tried is Tried.FAILED_FOR_GOOD:
        summary.failed_for_good += 1
    else:
        summary.failed += 1
    close_broken_connections()
    return 1


def _obstacle(effect: Effect[..., Any], row: rows.DueRow) -> str | None:
    """Return why an effect is not tried any more."""
    if row.age >= effect.expires:
        return "Expired"
    # Each of its tries was interrupted.
    return "TooManyTries" if row.tries - row.earlier >= effect.max_tries else None


def _tried(
    using: str,
    effect: Effect[..., Any],
    key: str,
    tries: int,
    arguments: Callable[[], Any],
    earlier: int = 0,
) -> Tried:
    """Try an effect that was taken, and mark it if it fails."""
    connection = connections[using]
    # A test case's transaction must survive the error of a statement.
    is_inside = connection.in_atomic_block
    was_switched = autocommit_is_switched(connection)
    try:
        args, kwargs = arguments()
        with transaction.atomic(using=using) if is_inside else nullcontext():
            call(effect, CurrentEffect(key, effect.name, tries), args, kwargs)
        if autocommit_is_switched(connection) and not was_switched:
            # The marks of this effect, and of all that follow, would be undone with its writes.
            raise EffectError(LEFT_OPEN)
        return Tried.DONE
    except Exception as error:
        number = tries - earlier
        is_last = isinstance(error, ChangedEffect) or number >= effect.max_tries
        is_ours = isinstance(error, ChangedEffect | Unreadable)
        logger.error(
            "Effect %s %s has failed (try %d of %d)%s%s",
            effect.name,
            key,
            number,
            effect.max_tries,
            ", and is not tried again" if is_last else "",
            f": {error}" if is_ours else "",
            exc_info=not is_ours,
        )
        name = type(error).__name__[:200]
        close_broken_connections()
        if is_last:
            _quietly(rows.failed, using, key, tries, name)
        else:
            _quietly(rows.again, using, key, tries, name, backoff(number))
        return Tried.FAILED_FOR_GOOD if is_last else Tried.FAILED


def backoff(tries: int) -> timedelta:
    """Return how long after a failed try the next one comes: exponentially longer, and never at
    the same moment for effects that have failed together."""
    longest: timedelta = min(FIRST_DELAY * FACTOR ** min(tries - 1, 20), LONGEST_DELAY)
    return longest * uniform(0.5, 1.0)  # noqa: S311


def _quietly(mark: Callable[..., Any], *args: Any) -> Any:
    """Write to the table; what fails there is logged, and the effect runs once more later.

    :return: ``None`` if it failed
    """
    for _ in range(MARKS):
        try:
            return mark(*args)
        except Exception as error:
            problem = error
            close_broken_connections()
    logger.error("An effect could not be marked, and may run once more", exc_info=problem)
    return None
