"""Operations of non-atomic mode whose last attempt ended without a result."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import QuerySet

from ...models import IdempotencyRecord, IdempotencyStep
from ...protocol.record import State
from ..base import Busy
from .dialects import NOW, StoreTime
from .step_log import BEGINNING, StepLog
from .store import DatabaseStore
from .transactions import contention_is_busy, write_transaction


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An operation that has started, has no result, and is not locked.

    :ivar steps: names of the steps that are done
    """

    record_id: int
    attempt: int
    method: str
    path: str
    started_at: datetime
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResumableOperation:
    """An operation that a handler can finish for its caller.

    :ivar handler: the name that its last attempt has stored
    """

    record_id: int
    attempt: int
    handler: str
    scope: str = field(repr=False)
    key: str = field(repr=False)
    fingerprint: str = field(repr=False)
    method: str
    path: str


def resumable_operations(using: str, older_than: timedelta = NOW) -> Iterator[ResumableOperation]:
    """Yield operations whose last attempt has a handler, oldest first. Some may be in flight.

    Each is read again when its turn comes; those that others have resolved or tried since the
    iteration began are left out.

    :param older_than: how long ago the attempt must have started
    """
    resumable = open_attempts(using, older_than).exclude(name="")
    records = IdempotencyRecord.rows(using).filter(state=State.CLAIMED)
    names = ("scope", "key", "fingerprint", "method", "path")
    for row, record_id, started_at in list(resumable.values_list("pk", "record_id", "started_at")):
        handlers = resumable.filter(pk=row, started_at=started_at).values_list("name", flat=True)
        living = records.filter(pk=record_id, expires_at__gt=StoreTime())
        for handler, found in zip(handlers, living.values_list("attempt", *names), strict=False):
            attempt, *values = found
            yield ResumableOperation(record_id, attempt, handler, *values)


def open_attempts(
    using: str, older_than: timedelta = NOW, key: str | None = None
) -> QuerySet[IdempotencyStep]:
    """Return the attempts that have started and have not ended, oldest first.

    :param older_than: how long ago they must have started
    :param key: only those with this key
    """
    # An index finds those whose outcome is open; they are few.
    records = IdempotencyRecord.rows(using).filter(outcome_open=True, state=State.CLAIMED)
    claimed = records if key is None else records.filter(key=key)
    started = IdempotencyStep.rows(using).filter(
        position=BEGINNING, finished_at=None, record_id__in=claimed.values("pk")
    )
    return started.filter(started_at__lte=StoreTime(-older_than)).order_by("started_at", "pk")


def interrupted(using: str, limit: int, key: str | None = None) -> Iterator[Interrupted]:
    """Yield interrupted operations, oldest first.

    :param limit: maximum number of open attempts to read, with those in flight
    :param key: only those with this key
    """
    store = DatabaseStore(using)
    for attempt in open_attempts(using, key=key)[:limit]:
        if _is_locked(store, attempt.record_id):
            continue
        record_id, started_at = attempt.record_id, attempt.started_at
        record = IdempotencyRecord.rows(using).filter(pk=record_id)
        for method, path in record.values_list("method", "path"):
            steps = StepLog(using).step_names(record_id)
            yield Interrupted(record_id, attempt.attempt, method, path, started_at, steps)


def _is_locked(store: DatabaseStore, record_id: int) -> bool:
    """Whether an attempt has locked the record. Takes the lock for a moment to find out."""
    if store.dialect.has_file_lock(connections[store.using], record_id):
        return True
    try:
        with contention_is_busy(store.using), write_transaction(store.using):
            return store.lock(record_id) is None
    except Busy:
        return True
