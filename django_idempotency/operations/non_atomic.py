"""Non-atomic mode: the view has effects that a rollback cannot undo."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import Error

from ..placeholders import filled
from ..protocol.record import Claim, Replay, Snapshot, StoredResponse
from ..protocol.status import ResolverAnswer
from ..stores.base import Busy, Claims, Outage
from ..stores.database.step_log import StepLog
from .base import (
    AT_ONCE,
    NO_WAIT,
    Answered,
    BeginResult,
    Ending,
    InFlight,
    Operation,
    OutcomeUnknown,
    Response,
    Retry,
    Started,
    Unavailable,
    Wait,
)
from .errors import LostRecord, StepError
from .row_lock import RecordLock
from .steps import Steps, check_step_name

LOST = (
    "The record of this attempt was lost while it ran. What the attempt did outside of the "
    "database, and what it committed, stays done; its response or result is not stored."
)

STEPS_ARE_DONE = (
    "not_done(): a step of this operation is done, and stays done. Return the response without it: "
    "a later attempt continues behind the step."
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The response that a resolver has found for an interrupted attempt.

    :ivar response: what to store
    :ivar retention: how long it replays
    """

    response: StoredResponse
    retention: timedelta


Resolve = Callable[["NonAtomicOperation"], Resolved | Answered | ResolverAnswer]


def still_unknown(operation: "NonAtomicOperation") -> ResolverAnswer:
    """Refuse, until an operator resolves the operation."""
    return ResolverAnswer.STILL_UNKNOWN


def run_again(operation: "NonAtomicOperation") -> ResolverAnswer:
    """Run, as if no attempt had been interrupted."""
    return ResolverAnswer.RUN_AGAIN


class NonAtomicOperation(Operation):
    """Runs the view outside of any transaction, while the record is locked beside it.

    An attempt that ends without saying how has left effects that are not known. No other attempt
    follows it, unless ``resolve`` says so (I11).

    :param lock: locks the record
    :param resolve: asked, while the record is locked, what became of an interrupted attempt
    :param step_log: where steps are stored, if the record is in a database
    """

    def __init__(
        self,
        store: Claims,
        claim: Claim,
        lock: RecordLock,
        resolve: Resolve = still_unknown,
        wait: Wait = NO_WAIT,
        step_log: StepLog | None = None,
    ) -> None:
        super().__init__(store, claim, wait)
        self._step_log = step_log
        self._steps: Steps | None = None
        self._past_steps: set[str] = set()
        self._record_lock = lock
        self._resolve = resolve
        self._has_failed = False

    def _lock(self, claimed: Snapshot, wait: timedelta = AT_ONCE) -> BeginResult | Retry:
        is_running = False
        try:
            record = self._record_lock.take(claimed, wait)
            begun = InFlight() if record is None else self._decide_locked(record)
            if isinstance(begun, Started):
                begun = self._after_interruption()
            if isinstance(begun, Started):
                begun = self._start()
            is_running = isinstance(begun, Started)
            return begun
        except Busy:
            return Unavailable()
        finally:
            if not is_running:
                self._record_lock.release()

    def _after_interruption(self) -> BeginResult | Retry:
        """Decide whether to run after the attempt before, if there was one."""
        if not self._record_lock.interrupted:
            return Started()
        match self._resolve(self):
            case ResolverAnswer.RUN_AGAIN:
                return Started()
            case ResolverAnswer.STILL_UNKNOWN:
                return OutcomeUnknown()
            case Answered() as answered:
                return answered
            case Resolved(response, retention):
                stored = self._record_lock.complete(response, retention)
                return Replay(response) if stored else InFlight()

    def _start(self) -> BeginResult:
        record = self._record_lock.start()
        if record is None:
            return InFlight()
        self._record, self.attempt = record, record.attempt
        self.recovered = record.attempt > 1
        if self._step_log is not None:
            is_first = not self.recovered
            self._steps = Steps(
                self._step_log, record.id, self.attempt, is_first, self._derive_effect_key
            )
        return Started()

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self._steps is None:
            raise StepError("step() needs records in a database, and an attempt that runs.")
        if self._has_failed or not self._record_lock.is_held():
            raise LostRecord(LOST)
        filled_args, filled_kwargs = filled(args, kwargs, partial(self._step_key, name))
        result = self._steps.run(name, partial(function, *filled_args, **filled_kwargs))
        self._past_steps.add(name)
        return result

    def _step_key(self, name: str) -> str:
        """Return what takes the place of ``KEY``: two steps of one name would share it.

        :raises StepError: if they do
        """
        check_step_name(name)
        if name in self._past_steps:
            raise StepError(
                f"An earlier step of this operation is named {name!r}, too: both would hand on the "
                "same key. Give a step that takes KEY a name of its own."
            )
        return self.derive_key(name)

    def not_done(self, response: Response) -> Response:
        if self._steps is not None and self._steps.is_any_done:
            raise StepError(STEPS_ARE_DONE)
        return super().not_done(response)

    def stage(
        self, effect: Any, args: tuple[Any, ...], kwargs: dict[str, Any], at_once: bool = False
    ) -> str:
        if self._steps is None:
            return super().stage(effect, args, kwargs, at_once)
        return self._steps.stage(effect, args, kwargs)

    def fail(self, error: BaseException, ending: Ending = Ending.UNDO) -> None:
        """The view raised: what it did until then is unknown, unless :meth:`finish` tells.

        The record is locked until then: a handler of the exception may be slow, and a duplicate
        that ran meanwhile would have a second effect. What ends the worker has no handler, and may
        never be abandoned, either.
        """
        self._has_failed = True
        if not isinstance(error, Exception):
            self._record_lock.release()

    def abandon(self, error: BaseException) -> None:
        self._record_lock.release()

    def withdraw(self, keeps_writes: bool) -> bool:
        """Remove the record. What the view has written is committed already.

        :raises StepError: if a step is done, also if an earlier attempt has taken it
        """
        if self._steps is not None and self._steps.are_any_stored():
            raise StepError(STEPS_ARE_DONE)
        return self._record_lock.withdraw()

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
            self._record_lock.release(nothing_done)
            return False
        if self.before_storing is not None:
            self.before_storing(None)
        try:
            stored = self._record_lock.complete(response, retention or self._claim.retention)
        except (Error, Outage) as error:
            raise LostRecord(LOST) from error
        if not stored and not self._has_failed:
            raise LostRecord(LOST)
        return stored
