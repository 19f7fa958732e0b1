"""The SQL of the table of effects. Each function is one statement, unless it says more.

Who runs an effect takes it by comparing and setting: the update matches only while the number of
tries is the one that was read, so of two that take it one does, and neither waits for longer than
the other's statement.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, F, QuerySet

from ..stores.database.dialects import NOW, StoreTime
from .models import EffectState, IdempotencyEffect

KEPT = timedelta(days=7)
"""How long the row of an effect that has ended is kept."""

UNDECIDED = frozenset({EffectState.PENDING, EffectState.FAILED})
"""States that the purge never removes: the effect may still run."""

_ENDED = (EffectState.DONE, EffectState.GIVEN_UP)

Rows = QuerySet[IdempotencyEffect]


@dataclass(frozen=True, slots=True)
class NewRow:
    """An effect to insert.

    :ivar lease: how long no worker takes it; ``None``: a worker takes it at once
    """

    key: str
    record_id: int | None
    name: str
    arguments: str = field(repr=False)
    lease: timedelta | None


@dataclass(frozen=True, slots=True)
class DueRow:
    """An effect that was due when it was read.

    :ivar earlier: tries before an operator had it run again
    :ivar age: since it was staged
    """

    key: UUID
    name: str
    arguments: str = field(repr=False)
    tries: int
    earlier: int
    age: timedelta


def insert(using: str, rows: Iterable[NewRow]) -> None:
    """Store effects, in the open transaction if there is one."""
    # With the statements of bulk_create(): no signals, no savepoint.
    IdempotencyEffect.rows(using).bulk_create(
        [
            IdempotencyEffect(
                key=UUID(each.key),
                record_id=each.record_id,
                name=each.name,
                arguments=each.arguments,
                tries=0 if each.lease is None else 1,
                due_at=StoreTime(each.lease or NOW),
                staged_at=StoreTime(),
            )
            for each in rows
        ]
    )


def due(using: str, names: Collection[str], limit: int) -> list[DueRow]:
    """Return effects of these names that are due, the longest first."""
    found = _due(using).filter(name__in=names).order_by("due_at")
    values = ("key", "name", "arguments", "tries", "earlier_tries", "staged_at", StoreTime())
    return [
        DueRow(key, name, arguments, tries, earlier, now - staged)
        for key, name, arguments, tries, earlier, staged, now in found.values_list(*values)[:limit]
    ]


def unknown(using: str, names: Collection[str]) -> Counter[str]:
    """Return how many effects are due whose names are not among these, by name."""
    strangers = _due(using).exclude(name__in=names).order_by()
    return Counter(dict(strangers.values_list("name").annotate(number=Count("key"))))


def undecided(using: str, limit: int) -> dict[str, int]:
    """Return how many effects are pending, and how many have failed.

    :param limit: maximum number of effects to count, of both
    """
    # The index on purge_at finds them, and its order lets no planner read the table instead.
    found = IdempotencyEffect.rows(using).filter(purge_at=None, state__in=UNDECIDED)
    found = found.order_by("purge_at")
    states = Counter(found.values_list("state", flat=True)[:limit])
    return {str(state): states[state] for state in sorted(UNDECIDED)}


def lag(using: str) -> timedelta:
    """Return for how long the first effect that is due has waited."""
    first = _due(using).order_by("due_at").values_list(StoreTime(), "due_at")[:1]
    return next((now - due for now, due in first), NOW)


def take(using: str, row: DueRow, lease: timedelta) -> bool:
    """Count a try, and keep others away for a while; ``False`` if another one was faster."""
    return _take(_due(using).filter(key=row.key, tries=row.tries), lease)


def take_new(using: str, key: str, lease: timedelta) -> bool:
    """The same for an effect that was never tried."""
    return _take(_due(using).filter(key=UUID(key), tries=0), lease)


def done(using: str, keys: Collection[str], tries: int) -> int:
    """Mark effects that have run; return how many of them were still this try's."""
    values = _ended(EffectState.DONE) | {"purge_at": StoreTime(KEPT), "error": ""}
    return _taken(using, keys, tries).update(**values)


def again(using: str, key: str, tries: int, error: str, delay: timedelta) -> int:
    """Mark an effect that has failed, and is tried again."""
    return _taken(using, [key], tries).update(due_at=StoreTime(delay), error=error)


def failed(using: str, key: str, tries: int, error: str) -> int:
    """Mark an effect that is not tried again."""
    values = _ended(EffectState.FAILED)
    return _taken(using, [key], tries).update(**values, error=error)


def release(using: str, keys: Collection[str], tries: int) -> int:
    """Give back effects that were taken and have not begun."""
    rows = _taken(using, keys, tries)
    return rows.update(tries=F("tries") - 1, due_at=StoreTime())


def run_again(using: str, keys: Collection[Any]) -> int:
    """An operator wants effects to be tried again that have failed: as often, and for as long, as
    if they were new. Their tries are not numbered anew: one that is late must not be taken for one
    of these (I12)."""
    rows = IdempotencyEffect.rows(using).filter(pk__in=keys, state=EffectState.FAILED)
    fresh = {"state": EffectState.PENDING, "earlier_tries": F("tries"), "finished_at": None}
    return rows.update(**fresh, due_at=StoreTime(), staged_at=StoreTime())


def give_up(using: str, keys: Collection[Any]) -> int:
    """An operator decides that effects which have failed, or are pending, are not to run."""
    rows = IdempotencyEffect.rows(using).filter(pk__in=keys, state__in=UNDECIDED)
    return rows.update(**_ended(EffectState.GIVEN_UP), purge_at=StoreTime(KEPT))


def of_record(using: str, record_id: int) -> Rows:
    """Return the effects that an operation has staged, the oldest first, without arguments."""
    rows = IdempotencyEffect.rows(using).filter(record_id=record_id)
    return rows.defer("arguments").order_by("staged_at", "key")


def open_of_record(using: str, record_id: int) -> Rows:
    """Return those of them that are pending or have failed."""
    return of_record(using, record_id).filter(state__in=UNDECIDED)


def forget_ended(using: str, record_id: int) -> None:
    """Remove the rows of those of them that have ended."""
    IdempotencyEffect.rows(using).filter(record_id=record_id, state__in=_ENDED).delete()


def purgeable(using: str) -> Rows:
    """Return effects that have ended, and whose rows have been kept for long enough."""
    return IdempotencyEffect.rows(using).filter(purge_at__lte=StoreTime(), state__in=_ENDED)


def purge(using: str, size: int) -> Iterator[int]:
    """Remove the rows of such effects: two statements per batch.

    :param size: how many rows in a batch
    :return: the number of rows removed, batch by batch
    """
    removed = size
    while removed == size:
        oldest = purgeable(using).order_by("purge_at").values_list("pk", flat=True)
        keys = list(oldest[:size])
        removed, _ = purgeable(using).filter(pk__in=keys).delete() if keys else (0, {})
        if removed:
            yield removed


def _due(using: str) -> Rows:
    return IdempotencyEffect.rows(using).filter(due_at__lte=StoreTime(), state=EffectState.PENDING)


def _take(rows: Rows, lease: timedelta) -> bool:
    return bool(rows.update(tries=F("tries") + 1, due_at=StoreTime(lease)))


def _taken(using: str, keys: Collection[str], tries: int) -> Rows:
    rows = IdempotencyEffect.rows(using).filter(tries=tries, state=EffectState.PENDING)
    return rows.filter(key__in=[UUID(str(key)) for key in keys])


def _ended(state: EffectState) -> dict[str, Any]:
    return {"state": state, "finished_at": StoreTime(), "due_at": None}
