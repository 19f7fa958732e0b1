"""The step log: attempts of non-atomic mode store there that they started, and their steps."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Exists, OuterRef, QuerySet

from ...models import IdempotencyRecord, IdempotencyStep
from ...protocol.codecs import Cipher, Codec
from ...protocol.record import State
from .dialects import StoreTime, dialect_of
from .dialects.sql import ADD_STEP, END
from .transactions import contention_is_busy, write_transaction

BEGINNING = 0
"""Position of the row that says which attempt runs; steps follow from 1."""

PLAIN = Cipher()


@dataclass(frozen=True, slots=True)
class ResumePayload:
    """What an attempt stores so that a handler can finish its operation.

    :param handler: name of the handler; empty if there is none
    :param text: what that handler needs
    """

    handler: str = ""
    text: str = field(default="", repr=False)


NO_PAYLOAD = ResumePayload()


class LastAttempt(NamedTuple):
    """What the step log says of the last attempt under a record.

    :ivar number: of that attempt; 0 if none has started
    :ivar is_open: it has started, and has not said how it ended. Otherwise it has ended without
        effects that are not accounted for
    """

    number: int = 0
    is_open: bool = False


NO_ATTEMPT = LastAttempt()


class StepLog:
    """Rows beside the records of a database, written on the view's own connection.

    Beside, not in them: an attempt has locked the row of its record for as long as the view runs.

    :param using: alias of the database
    :param cipher: encrypts the results of steps
    """

    def __init__(self, using: str, cipher: Cipher = PLAIN) -> None:
        self.using = using
        self._cipher = cipher

    @property
    def codec(self) -> Codec:
        """How the operation's data are stored."""
        return self._cipher.codec

    def look(self, record_id: int) -> LastAttempt:
        """Return the last attempt that has started."""
        found = self._beginning(record_id).values_list("attempt", "finished_at")
        for number, finished_at in found:
            return LastAttempt(number, finished_at is None)
        return NO_ATTEMPT

    def is_open(self, record_id: int) -> bool:
        """Whether an attempt has started and has not ended."""
        return self.look(record_id).is_open

    def unresolved(self, record_ids: Collection[int]) -> set[int]:
        """Return which of these records have no result, and an attempt that has not ended."""
        records = IdempotencyRecord.rows(self.using)
        claimed = records.filter(pk__in=record_ids, state=State.CLAIMED)
        open_attempts = self._rows().filter(position=BEGINNING, finished_at=None)
        found = open_attempts.filter(record_id__in=claimed.values("pk"))
        return set(found.values_list("record_id", flat=True))

    def is_free(self, record_id: int) -> bool:
        """Whether no step is being written; keeps them away until this transaction ends."""
        beginning = self._beginning(record_id).select_for_update(skip_locked=True)
        return bool(list(beginning.values_list("pk", flat=True)))

    def start(
        self,
        record_id: int,
        attempt: int,
        payload: ResumePayload | None = NO_PAYLOAD,
        last: LastAttempt = NO_ATTEMPT,
    ) -> bool:
        """Store that an attempt starts; ``False`` if another one has, or if a step of an earlier
        one is being written at this moment.

        One that has lost its lock before it started may start after all, unless a later one has.
        So what was decided about the last attempt holds only while that is still the last (I11).

        :param payload: committed with that; ``None`` leaves the payload of the attempt before
        :param last: what :meth:`look` has said
        :raises NoKeys: if it is to be encrypted and cannot be
        """
        values: list[str] | None = None
        if payload is not None:
            text = payload.handler and self._cipher.lock(payload.text, record_id, BEGINNING)
            values = [payload.handler, text]
        with contention_is_busy(self.using):
            if last.number:
                return self._follow(record_id, attempt, values, last.number)
            # In one statement, which commits by itself.
            connection = connections[self.using]
            first = values or ["", ""]
            return dialect_of(connection).start(connection, record_id, attempt, first)

    def _follow(self, record_id: int, attempt: int, payload: list[str] | None, last: int) -> bool:
        """Start after an earlier attempt, in its row."""
        values: dict[str, Any] = {"attempt": attempt, "started_at": StoreTime()}
        if payload is not None:
            values |= zip(("name", "result"), payload, strict=True)
        with write_transaction(self.using):
            # Without waiting, and by primary key, as records are locked.
            known = self._beginning(record_id).values_list("pk", flat=True).first()
            if known is None:
                return False
            row = self._rows().filter(pk=known)
            earlier = row.filter(attempt=last).select_for_update(skip_locked=True)
            if not list(earlier.values_list("pk", flat=True)):
                return False
            row.update(**values, finished_at=None)
            return True

    def payload(self, record_id: int) -> ResumePayload:
        """Return what the last attempt has stored for a handler.

        :raises Unreadable: if it is encrypted and its key is lost
        """
        for handler, text in self._beginning(record_id).values_list("name", "result"):
            return ResumePayload(handler, self._cipher.open(text, record_id, BEGINNING))
        return NO_PAYLOAD

    def end(self, record_id: int, attempt: int, commits: bool = False) -> None:
        """Store that an attempt ended without a result and without effects outside of its steps.

        :param commits: the caller commits the transaction next
        """
        connection = connections[self.using]
        dialect = dialect_of(connection)
        dialect.write(connection, END, (dialect.time(), record_id, attempt), commits)

    def lock_attempt(self, record_id: int, attempt: int) -> str | None:
        """Keep later attempts from starting until this transaction ends.

        :return: the time; ``None`` if a later attempt has started already
        """
        connection = connections[self.using]
        dialect = dialect_of(connection)
        values = (dialect.time(), record_id, attempt)
        row = dialect.first_row(connection, dialect.lock_attempt_sql, values)
        return None if row is None else str(row[0])

    def add(
        self,
        place: tuple[int, int, int],
        name: str,
        result: str,
        started_at: str,
        commits: bool = False,
    ) -> None:
        """Store a step that is done, in the transaction of its writes.

        :param place: its record's id, position and attempt
        :param started_at: what :meth:`lock_attempt` has returned
        :param commits: the caller commits the transaction next
        """
        record_id, position, _ = place
        connection = connections[self.using]
        dialect = dialect_of(connection)
        sealed = self._cipher.lock(result, record_id, position)
        values = (*place, name, sealed, started_at, dialect.time())
        dialect.write(connection, ADD_STEP, values, commits)

    def steps(self, record_id: int) -> list[tuple[str, str]]:
        """Return names and results of the steps that are done, in order.

        :raises Unreadable: if a result is encrypted and its key is lost
        """
        done = self._done(record_id).values_list("position", "name", "result")
        open_ = self._cipher.open
        return [(name, open_(result, record_id, position)) for position, name, result in done]

    def step_names(self, record_id: int) -> tuple[str, ...]:
        """Return the names of the steps that are done, in order."""
        return tuple(self._done(record_id).values_list("name", flat=True))

    def forget(self, record_ids: Collection[int]) -> None:
        """Remove the rows of those of these records that are gone."""
        records = IdempotencyRecord.rows(self.using).filter(pk=OuterRef("record_id"))
        orphans = self._rows().filter(~Exists(records), record_id__in=record_ids)
        # One by one, as records are removed; usually there are none.
        for pk in list(orphans.values_list("pk", flat=True)):
            self._rows().filter(pk=pk).delete()

    def _done(self, record_id: int) -> QuerySet[IdempotencyStep]:
        done = self._rows().filter(record_id=record_id, position__gt=BEGINNING)
        return done.order_by("position")

    def _beginning(self, record_id: int) -> QuerySet[IdempotencyStep]:
        return self._rows().filter(record_id=record_id, position=BEGINNING)

    def _rows(self) -> QuerySet[IdempotencyStep]:
        return IdempotencyStep.rows(self.using)
