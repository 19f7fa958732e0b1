"""One request under a key: claim its record, lock it, run the view, store the response."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from time import monotonic
from typing import Any, TypeVar

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.http.response import HttpResponseBase

from ..effects.errors import EffectError
from ..protocol.codecs import Owner
from ..protocol.keys import derived_uuid
from ..protocol.record import (
    Claim,
    Claimed,
    Expired,
    Mismatch,
    Replay,
    Snapshot,
    StoredResponse,
    Tombstone,
    decide,
)
from ..stores.base import Busy, Claims, Gone
from ..threads import after_fork, on_request_thread
from .errors import LostRecord, StepError

TRIES = 5
"""How often a claim starts over after losing a race against rivals or the purge."""

TRIES_WAITING = 50
"""The same for a duplicate that waits: of those that wait together, each may withdraw its record in
turn."""

NOT_DONE = "_idempotency_not_done"
"""Attribute of a response that :meth:`Operation.not_done` has marked."""

NO_RESPONSE = (
    "not_done() takes the response that the view returns, not {!r}. To raise an exception whose "
    "answer is not stored, use do_not_remember() (django_idempotency.remember)."
)

Response = TypeVar("Response", bound=HttpResponseBase)

AT_ONCE = timedelta(0)


@dataclass(frozen=True, slots=True)
class Wait:
    """Whether a duplicate waits for the attempt in flight.

    :param timeout: how long at most; zero: it does not wait
    :param limit: how many duplicates of this process wait at the same time, at most
    """

    timeout: timedelta = AT_ONCE
    limit: int = 0


NO_WAIT = Wait()

_lock = threading.Lock()
_waiting = 0


@contextmanager
def waiting_place(limit: int) -> Iterator[bool]:
    """Take a place among the waiting requests of this process, if one is free."""
    global _waiting
    with _lock:
        free = _waiting < limit
        _waiting += free
    try:
        yield free
    finally:
        with _lock:
            _waiting -= free


def _forget() -> None:  # pragma: no cover  (runs in a child, which coverage does not follow)
    """Requests that wait in the parent take no place in a forked process."""
    global _lock, _waiting
    _lock, _waiting = threading.Lock(), 0


after_fork(_forget)


@dataclass(frozen=True, slots=True)
class Started:
    """The record is locked by this attempt: run the view."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """Another attempt has locked the record."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The store is too busy to tell."""


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """An attempt was interrupted, and it is not known what it did."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The view's resolver has a response that is not stored: the record stays as it is.

    :ivar response: the resolver's response, for this caller alone
    """

    response: Any


@dataclass(frozen=True, slots=True)
class Retry:
    """The record has changed hands meanwhile: claim again."""


BeginResult = (
    OutcomeUnknown | Answered | Started | Replay | Mismatch | Tombstone | InFlight | Unavailable
)


class Ending(Enum):
    """What becomes of the writes of a view that has raised, before the exception is handled."""

    UNDO = auto()
    """They are undone: a server error, or an exception that may not become a response."""
    STORE = auto()
    """They are undone, and the response will be stored: keep the record locked until then."""
    KEEP = auto()
    """A refusal that is not stored: the writes stay that would have stayed without a key."""
    OPEN = auto()
    """The project makes a response of it, whose status is not known yet: nothing is undone until it
    is, and everything if there is no response."""


class Operation(ABC):
    """The current operation; views find it as ``request.idempotency``.

    A subclass per mode says how an attempt locks its record while the view runs, and what becomes
    of the view's effects when it ends.

    :ivar key: the caller's key
    :ivar attempt: number of this execution under the record, from 1
    :ivar recovered: an earlier attempt had claimed the record and did not complete it
    """

    undoes = False
    """Whether what an attempt did is undone if it is not stored, but for refusals."""
    waited = False
    """It has waited for another attempt, which may have freed the key."""
    before_storing: Callable[[str | None], None] | None = None
    """Called right before the response is stored, with the alias of the database whose transaction
    stores it, if one is open. What it raises, the view has raised."""

    def __init__(self, store: Claims, claim: Claim, wait: Wait = NO_WAIT) -> None:
        self.key = claim.key
        self.attempt = 0
        self.recovered = False
        self.owner = Owner(claim.scope, claim.key)  # for us: only it can decrypt what is stored
        self._store = store
        self._claim = claim
        self._wait = wait
        self._waits_until: float | None = None
        self._retention = claim.retention
        self._record: Snapshot  # set when the attempt starts
        # What an attempt's statements, and the commit of its claim, must be surrounded with. Mostly
        # nothing: entering that takes three calls, so it is not done where it is easily avoided.
        self._leaving_request_block: Callable[..., AbstractContextManager[Any]] = nullcontext
        self._on_claim_connection: Callable[[], AbstractContextManager[Any]] = nullcontext

    def derive_key(self, purpose: str) -> str:
        """Return a key for another system: the same in every attempt of this operation.

        A UUID that looks random: without the app's secret it does not tell whose key it comes from.
        Other purposes and other operations have other keys; so has the same key after its
        retention.

        The record then outlives a crash of the database server. In atomic mode on PostgreSQL that
        takes a further statement, so an async view calls :meth:`aderive_key`.

        :param purpose: what the key is for, such as ``"charge"``
        :raises ValueError: if there is none
        :raises RuntimeError: if the record cannot be made to last
        """
        if not purpose:
            raise ValueError("derive_key() needs a purpose, such as 'charge'")
        return derived_uuid(self._claim, (str(self._record.id), purpose))

    async def aderive_key(self, purpose: str) -> str:
        """The same for an async view."""
        return await on_request_thread(self.derive_key, purpose)

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a step of the operation once.

        The function's writes and its result are one commit. A later attempt gets the stored
        result, and continues with the first step that has not completed.

        :param name: the same in every attempt, as the order of the steps; at most 100 bytes
        :param function: called with the other arguments; returns plain data (what JSON can say)
        :param args: for the function; :data:`.KEY` among them, or among those by name, is replaced
            by ``derive_key(name)``
        :raises StepError: in atomic mode, inside of ``atomic()`` or another step, for data that is
            not plain, and if the steps are not those that an earlier attempt has stored
        :raises LostRecord: if a later attempt has started
        """
        raise StepError(
            "step() needs atomic=False. In atomic mode the whole view, or function, is one step."
        )

    async def astep(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """The same for an async view. The function may be async: its queries join the step.

        It is awaited to its end, also if the view is cancelled meanwhile.
        """
        call = async_to_sync(function) if iscoroutinefunction(function) else function
        return await on_request_thread(self.step, name, call, *args, **kwargs)

    def not_done(self, response: Response) -> Response:
        """Say that nothing was done, and return the response: it is sent and not stored, and the
        key is free at once, also for another body.

        What the view has written stays, as without a key, and is one commit with the end of the
        record. A server error (5xx) leaves nothing behind, as ever.

        :raises TypeError: if it is no response
        :raises StepError: with ``atomic=False``, if a step of the operation is done
        """
        if not isinstance(response, HttpResponseBase):
            raise TypeError(NO_RESPONSE.format(response))
        setattr(response, NOT_DONE, True)
        return response

    def after_commit(self, effect: Any, /, *args: Any, **kwargs: Any) -> str:
        """Stage an effect: it is committed with the response, or with its step, and runs then, at
        least once, under a key that stays the same (I19). It is dropped with the writes that were
        made beside it.

        :param effect: declared with ``@effect``; ``effect.named("receipt")`` has a name of its own
            in this operation, others are numbered
        :param args: for the effect: plain data, and :data:`.KEY` for its key
        :return: the effect's key, a UUID
        :raises EffectError: outside of a step where the view owns its transactions
            (``atomic=False``), and for what cannot be staged
        """
        return self.stage(effect, args, kwargs, at_once=True)

    async def aafter_commit(self, effect: Any, /, *args: Any, **kwargs: Any) -> str:
        """The same for an async view. There :meth:`after_commit` works, too."""
        return await on_request_thread(self.after_commit, effect, *args, **kwargs)

    def stage(
        self, effect: Any, args: tuple[Any, ...], kwargs: dict[str, Any], at_once: bool = False
    ) -> str:
        """Stage an effect; return its key.

        :param at_once: if the transaction has ended, and no other is open: store it in a commit of
            its own, and run it
        """
        raise EffectError("after_commit() needs records in a database.")

    def _derive_effect_key(self, parts: tuple[str, ...]) -> str:
        """Of the attempt, too: one whose refusal was not stored may have committed effects."""
        place = ("effect", str(self._record.id), str(self.attempt))
        return derived_uuid(self._claim, (*place, *parts))

    @property
    def transaction_on(self) -> str | None:
        """Alias of the database whose transaction is open for the view, if one is."""
        return None

    @property
    def is_remembered(self) -> bool:
        """Whether :meth:`finish`, or :meth:`withdraw`, has committed, although it raised: a hook of
        the view's that runs after the commit can do that."""
        return False

    def begin(self) -> BeginResult:
        """Claim the record and lock it, or say what stands in the way.

        :raises Outage: if the store is out of reach
        """
        known = self._store.cached(self._claim)
        if known is not None:
            match decide(known, self._claim.fingerprint):
                case Replay() | Mismatch() as answer:
                    return answer
        with self._leaving_request_block():
            for _ in range(TRIES_WAITING if self._wait.timeout else TRIES):
                try:
                    if self._on_claim_connection is nullcontext:
                        record = self._store.claim(self._claim)
                    else:
                        with self._on_claim_connection():
                            record = self._store.claim(self._claim)
                except Busy as busy:
                    if busy.waited:
                        break
                    continue
                begun = Retry() if record is None else self._proceed(record)
                if not isinstance(begun, Retry):
                    return begun
        return Unavailable()

    def _proceed(self, record: Snapshot) -> BeginResult | Retry:
        """Decide about a record that was found or created, and lock it if it is not completed."""
        match decide(record, self._claim.fingerprint):
            case Claimed():
                try:
                    begun = self._lock(record)
                    if not isinstance(begun, InFlight) or not self._wait.timeout:
                        return begun
                    # Wait for the attempt in flight: its response replays, or its death makes us
                    # run.
                    with waiting_place(self._wait.limit) as free:
                        self.waited = free
                        return self._lock(record, self._time_left()) if free else begun
                except Gone:
                    return Retry()
            case Expired():
                try:
                    with self._on_claim_connection():
                        return Retry() if self._store.evict(record.id) else InFlight()
                except Busy:
                    return InFlight()
            case answer:
                return answer

    def _time_left(self) -> timedelta:
        """Return for how long this request may still wait."""
        if self._waits_until is None:
            self._waits_until = monotonic() + self._wait.timeout.total_seconds()
        return max(AT_ONCE, timedelta(seconds=self._waits_until - monotonic()))

    @abstractmethod
    def _lock(self, claimed: Snapshot, wait: timedelta = AT_ONCE) -> BeginResult | Retry:
        """Lock a claimed record.

        :param wait: how long to wait for another attempt's lock
        :raises Gone: if the record was withdrawn meanwhile, as far as can be told
        """

    def _decide_locked(self, record: Snapshot) -> BeginResult | Retry:
        """Decide again, now that no other request can change the record."""
        if record.key and (record.scope, record.key) != (self._claim.scope, self._claim.key):
            raise LostRecord(
                "The number of the claimed record belongs to another one where it was locked. Is "
                "a router or a search_path another one than a moment before?"
            )
        match decide(record, self._claim.fingerprint):
            case Claimed():
                self._record = record
                self.attempt = record.attempt
                return Started()
            case Expired():
                return Retry()
            case answer:
                return answer

    @abstractmethod
    def fail(self, error: BaseException, ending: Ending = Ending.UNDO) -> None:
        """The view raised. Its response, if there will be one, comes with :meth:`finish`."""

    def abandon(self, error: BaseException) -> None:  # noqa: B027
        """The view raised, and no response of it will be seen: end what :meth:`fail` left open.

        :param error: it goes on to the caller of the view
        """

    @abstractmethod
    def finish(
        self,
        response: StoredResponse | None,
        retention: timedelta | None = None,
        nothing_done: bool = False,
        keeps_writes: bool = False,
    ) -> bool:
        """Store the response, or end without.

        :param response: ``None`` if it is not to be stored
        :param retention: how long this response replays, if not as long as the claim says
        :param nothing_done: a response that is not stored means "not now", not a failure
        :param keeps_writes: commit the view's writes although the response is not stored
        :return: whether the response is stored
        """

    @abstractmethod
    def withdraw(self, keeps_writes: bool) -> bool:
        """End without a response, and remove the record: nothing was done.

        :param keeps_writes: commit the view's writes
        :return: whether the record is removed
        """

    def on_end(self, committed: Callable[[], None]) -> bool:
        """Call a function when what the end has written is committed, if it is not yet.

        :return: whether it is still to be
        """
        return False
