"""Non-atomic mode: the view has effects that no transaction of ours can hold."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import Error

from ..protocol.record import Claim, Replay, Snapshot, StoredResponse
from ..protocol.status import ResolverAnswer
from ..stores.base import Busy, Claims, Outage
from ..stores.database.step_log import StepLog
from .base import (
    IMPATIENT,
    Answered,
    Begun,
    Ending,
    InFlight,
    Operation,
    OutcomeUnknown,
    Patience,
    Started,
    Unavailable,
)
from .errors import LostRecord, StepError
from .row_lock import RecordLock
from .steps import Steps

LOST = (
    "The record of this attempt was lost while it ran. What the view did outside of the database, "
    "and what it committed, stays done; its response is not stored."
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The result that a resolver has found for an interrupted attempt.

    :ivar response: what to store
    :ivar retention: how long it replays
    """

    response: StoredResponse
    retention: timedelta


Resolve = Callable[["NonAtomicOperation"], Resolved | Answered | ResolverAnswer]


def still_unknown(operation: "NonAtomicOperation") -> ResolverAnswer:
    """Refuse, until an operator says what happened."""
    return ResolverAnswer.STILL_UNKNOWN


def run_again(operation: "NonAtomicOperation") -> ResolverAnswer:
    """Run, as if nobody had been interrupted."""
    return ResolverAnswer.RUN_AGAIN


class NonAtomicOperation(Operation):
    """Runs the view outside of any transaction, while the record is held beside it.

    An attempt that ends without saying how has left effects that nobody knows. It is not followed
    by another one, unless ``resolve`` says so (I11).

    :param hold: how the record is held
    :param journal: where steps are stored, if the record is in a database
    :param resolve: asked, while the record is held, what became of an interrupted attempt
    """

    def __init__(
        self,
        store: Claims,
        claim: Claim,
        hold: RecordLock,
        resolve: Resolve = still_unknown,
        patience: Patience = IMPATIENT,
        step_log: StepLog | None = None,
    ) -> None:
        super().__init__(store, claim, patience)
        self._step_log = step_log
        self._steps: Steps | None = None
        self._holding = hold
        self._resolve = resolve
        self._has_failed = False

    def fail(self, error: BaseException, ending: Ending = Ending.UNDO) -> None:
        """The view raised: what it did until then is unknown, unless :meth:`finish` knows.

        The record is held until then: a handler of the exception may be slow, and a duplicate that
        ran meanwhile would have a second effect. What ends the worker has no handler, and may have
        nobody who abandons the attempt, either.
        """
        self._has_failed = True
        if not isinstance(error, Exception):
            self._holding.release()

    def abandon(self, error: BaseException) -> None:
        self._holding.release()

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self._steps is None:
            raise StepError("step() needs records in a database, and a view that is running.")
        if self._has_failed or not self._holding.is_held():
            raise LostRecord(LOST)
        return self._steps.run(name, partial(function, *args, **kwargs))

    def finish(
        self,
        response: StoredResponse | None,
        retention: timedelta | None = None,
        nothing_done: bool = False,
        keeps_writes: bool = False,
    ) -> bool:
        """Store the response, or say how the attempt ended without one.

        :raises LostRecord: if the record was lost while the view ran
        """
        if response is None:
            self._holding.release(nothing_done)
            return False
        try:
            stored = self._holding.complete(response, retention or self._claim.retention)
        except (Error, Outage) as error:
            raise LostRecord(LOST) from error
        if not stored and not self._has_failed:
            raise LostRecord(LOST)
        return stored

    def _hold(self, claimed: Snapshot, patience: timedelta = timedelta(0)) -> Begun | None:
        begun: Begun | None = None
        try:
            begun = self._take(claimed, patience)
        except Busy:
            begun = Unavailable()
        finally:
            if not isinstance(begun, Started):
                self._holding.release()
        return begun

    def _take(self, claimed: Snapshot, patience: timedelta) -> Begun | None:
        record = self._holding.take(claimed, patience)
        if record is None:
            return InFlight()
        begun = self._look_again(record)
        if isinstance(begun, Started):
            begun = self._consider()
        return self._start() if isinstance(begun, Started) else begun

    def _consider(self) -> Begun | None:
        """Decide what to do about the attempt before, if there was one."""
        return self._after_interruption() if self._holding.interrupted else Started()

    def _after_interruption(self) -> Begun:
        match self._resolve(self):
            case ResolverAnswer.RUN_AGAIN:
                return Started()
            case ResolverAnswer.STILL_UNKNOWN:
                return OutcomeUnknown()
            case Answered() as answered:
                return answered
            case Resolved(response, retention):
                stored = self._holding.complete(response, retention)
                return Replay(response) if stored else InFlight()

    def _start(self) -> Begun:
        record = self._holding.start()
        if record is None:
            return InFlight()
        self._record, self.attempt = record, record.attempt
        self.recovered = record.attempt > 1
        if self._step_log is not None:
            self._steps = Steps(self._step_log, record.id, self.attempt, not self.recovered)
        return Started()
