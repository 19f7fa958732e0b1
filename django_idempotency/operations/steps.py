"""Named steps of an operation in non-atomic mode. A completed step never runs again."""

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

from django.db import connections

from ..compat.django import AttemptBlock, own_blocks
from ..effects.errors import EffectError
from ..effects.running import Budget
from ..effects.staging import Stage
from ..protocol.record import MAX_STEP_NAME_LENGTH, PLAIN_DATA, plain_text
from ..stores.database.dialects import dialect_of
from ..stores.database.step_log import StepLog
from ..stores.database.transactions import write_transaction
from .errors import ChangedRecipe, LostRecord, LostWrites, StepError
from .watch import Watch

INSTEAD = (
    "A step is one commit with its result: leave the transaction alone, or do this outside of "
    "steps."
)

NO_STEP = (
    "after_commit() needs a transaction that commits with it: with atomic=False call it inside of "
    "a step, whose writes it is committed with."
)


class Steps:
    """The steps of one attempt.

    :param is_first: no earlier attempt can have left steps
    :param derive: makes a key of parts that are unique in the attempt
    """

    def __init__(
        self,
        step_log: StepLog,
        record_id: int,
        attempt: int,
        is_first: bool,
        derive: Callable[[tuple[str, ...]], str],
    ) -> None:
        self._step_log = step_log
        self._record_id = record_id
        self._attempt = attempt
        self._position = 0
        self._is_running = False
        self._may_stage = False
        self._known: list[tuple[str, str]] | None = [] if is_first else None
        self._derive = derive
        self._name = ""
        self._stage: Stage | None = None
        self._budget = Budget()

    def run(self, name: str, call: Callable[[], Any]) -> Any:
        """Return the stored result of the next step, or take it.

        :raises ChangedRecipe: if another step is stored at this place
        """
        check_step_name(name)
        self._check_place(name)
        if self._known is None:
            self._known = self._step_log.steps(self._record_id)
        if self._position < len(self._known):
            text = self._stored(name, *self._known[self._position])
        else:
            text = self._take(name, call)
        self._position += 1
        return json.loads(text)

    @property
    def is_any_done(self) -> bool:
        """Whether this attempt has taken a step, or has got the result of one."""
        return self._position > 0

    def are_any_stored(self) -> bool:
        """Whether a step of the operation is done, in whichever attempt."""
        if self._known is None and not self._position:
            self._known = self._step_log.steps(self._record_id)
        return self._position > 0 or bool(self._known)

    def stage(self, effect: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Stage an effect in the step that runs; return its key.

        :raises EffectError: if none does
        """
        if not self._may_stage:
            raise EffectError(NO_STEP)
        if self._stage is None:
            place = (str(self._position + 1), self._name)
            self._stage = Stage(
                self._connection,
                lambda parts: self._derive((*place, *parts)),
                self._step_log.codec,
                self._budget,
            )
        return self._stage.add(effect, args, kwargs)

    def _stored(self, name: str, stored_name: str, text: str) -> str:
        if name != stored_name:
            raise ChangedRecipe(
                f"Step {self._position + 1} of this operation is {stored_name!r}, and it is done; "
                f"now comes {name!r}. Steps must come in the same order with the same names in "
                "every attempt, so finish or resolve interrupted operations before their view or "
                "function changes."
            )
        return text

    def _take(self, name: str, call: Callable[[], Any]) -> str:
        self._is_running = True
        self._name = name
        self._connection = connections[self._step_log.using]
        commits = not self._connection.in_atomic_block  # as in a test case
        try:
            block = AttemptBlock(self._step_log.using, savepoint=True, durable=False)
            with write_transaction(self._step_log.using, block):
                started = self._step_log.lock_attempt(self._record_id, self._attempt)
                if started is None:
                    raise LostRecord(f"Step {name!r} is not taken: a later attempt has started.")
                dialect = dialect_of(self._connection)
                with closing(Watch(block, dialect, remedy=INSTEAD)) as watch:
                    self._may_stage = True
                    text = _plain(name, call())
                    self._may_stage = False  # hooks after the commit come too late
                    _check_writes(name, watch)
                if self._stage is not None:
                    self._stage.write(self._record_id)
                place = (self._record_id, self._position + 1, self._attempt)
                self._step_log.add(place, name, text, started, commits)
        finally:
            self._is_running = self._may_stage = False
            self._stage = None
        return text

    def _check_place(self, name: str) -> None:
        if self._is_running:
            raise StepError(f"Step {name!r} is inside of another step. Take one after the other.")
        if own_blocks(connections[self._step_log.using]):
            raise StepError(
                f"Step {name!r} is inside of transaction.atomic(), which could undo it. Each step "
                "is one transaction: take it outside of atomic()."
            )


def check_step_name(name: object) -> None:
    """
    :raises StepError: if it cannot be the name of a step
    """
    if not isinstance(name, str) or not 0 < len(name.encode()) <= MAX_STEP_NAME_LENGTH:
        raise StepError(
            f"The name of a step must be text of 1 to {MAX_STEP_NAME_LENGTH} bytes, not {name!r}."
        )


def _check_writes(name: str, watch: Watch) -> None:
    found = watch.inspect(asks_server=True)
    if found.unintended:
        raise LostWrites(
            f"Step {name!r} returned, but what it did cannot be remembered. Nothing of it is "
            f"stored. {found.unintended}"
        )
    if found.is_undone:
        raise StepError(
            f"Step {name!r} asked for the undoing of its writes by set_rollback(True), so there "
            "is nothing to remember. Raise an exception instead."
        )


def _plain(name: str, result: Any) -> str:
    text = plain_text(result)
    if text is not None:
        return text
    raise StepError(
        f"Step {name!r} returned {type(result).__name__} that is not plain data: use {PLAIN_DATA}. "
        "Its writes are rolled back."
    )
