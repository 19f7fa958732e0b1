"""Look an operation up for its caller, by plain reads that lock nothing others wait for."""

from datetime import datetime
from typing import Any, NamedTuple

from django.db import Error, connections
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, Value
from django.utils.timezone import is_aware

from ...models import IdempotencyRecord, IdempotencyStep
from ...protocol.record import Snapshot, State
from ...protocol.status import OperationStatus, operation_state
from ..base import Outage
from ..causes import cause_of
from .dialects import StoreTime, dialect_of
from .rows import COLUMNS, snapshot
from .step_log import BEGINNING

LOOKS = 3
"""How often to read again a record that changes while it is read."""


class _Look(NamedTuple):
    """One reading of a record."""

    record: Snapshot
    is_open: bool
    created_at: datetime
    completed_at: datetime | None
    expires_at: datetime

    @property
    def is_claimed(self) -> bool:
        return self.record.state is State.CLAIMED

    @property
    def version(self) -> tuple[int, State, int, bool]:
        return self.record.id, self.record.state, self.record.attempt, self.is_open


def look_up(using: str, scope: str, key: str) -> OperationStatus | None:
    """Return the status of the operation with a key of a scope; ``None`` if there is none.

    An unused key and another caller's key cost the same one statement.

    :param using: alias of the database
    :param scope: the digest of the caller
    :raises Outage: if the database is out of reach
    """
    try:
        look = _look(using, scope, key)
        for _ in range(LOOKS):
            if look is None or not look.is_claimed:
                break
            locked = _is_locked(using, look)
            # Only if the same attempt is seen before and after is it the one that was asked about.
            before, look = look, _look(using, scope, key)
            if look is not None and look.version == before.version:
                return _status(look, locked)
        return None if look is None else _status(look, None)
    except Error as error:
        raise Outage(cause_of(error)) from error


def _look(using: str, scope: str, key: str) -> _Look | None:
    attempts = IdempotencyStep._base_manager.filter(record_id=OuterRef("pk"), position=BEGINNING)
    expired = ExpressionWrapper(Q(expires_at__lte=StoreTime()), BooleanField())
    row = (
        IdempotencyRecord.rows(using)
        .filter(key=key, scope=scope)
        .values_list(
            *COLUMNS,
            expired,
            Value(0),
            Value(0),
            Exists(attempts.filter(finished_at=None)),
            "created_at",
            "completed_at",
            "expires_at",
        )
        .first()
    )
    if row is None:
        return None
    *columns, is_open, created, completed, expires = row
    moments: Any = [aware(using, each) for each in (created, completed, expires)]
    return _Look(snapshot(columns), bool(is_open), *moments)


def aware(using: str, moment: datetime | None) -> datetime | None:
    """Return a time of the database with its zone, whatever ``USE_TZ`` is."""
    if moment is None or is_aware(moment):
        return moment
    connection = connections[using]
    return moment.replace(tzinfo=dialect_of(connection).time_zone(connection))


def _is_locked(using: str, look: _Look) -> bool | None:
    """Whether an attempt has locked the record; ``None`` if the database cannot say."""
    pk, connection = look.record.id, connections[using]
    dialect = dialect_of(connection)
    if not dialect.has_row_locks:
        # Outside of a transaction it has a file lock; inside, the database's only write lock.
        return dialect.has_file_lock(connection, pk) or (False if look.is_open else None)
    locked = dialect.locked_ids(connection, [pk])
    return None if locked is None else pk in locked


def _status(look: _Look, locked: bool | None) -> OperationStatus:
    record = look.record
    return OperationStatus(
        operation_state(record.state, record.response, locked, record.expired),
        look.is_claimed and locked is False and look.is_open,
        look.expires_at,
        look.created_at,
        look.completed_at,
        record.response,
        record_id=record.id,
    )
