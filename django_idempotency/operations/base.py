"""One request under a key: claim, hold, run, store. What all modes share."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction

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
from ..stores.base import Busy, Claims
from ..threads import after_fork, on_request_thread
from .errors import LostRecord, StepError


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a duplicate waits for the attempt in flight, and how many may.

    :param timeout: at most so long; nothing means not at all
    :param limit: at most so many at once in this process
    """

    timeout: timedelta = timedelta(0)
    limit: int = 0


IMPATIENT = Patience()

_lock = threading.Lock()
_waiting = 0


@contextmanager
def place(limit: int) -> Iterator[bool]:
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
    """Who waits in the parent takes no place in a forked process."""
    global _lock, _waiting
    _lock, _waiting = threading.Lock(), 0


after_fork(_forget)


TRIES = 5
"""How often a claim starts over after losing a race against rivals or the purge."""


@dataclass(frozen=True, slots=True)
class Started:
    """The record is ours and held: run the view."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """Another attempt holds the record."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The store is too busy to say."""


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """An attempt was interrupted, and nobody knows what it did."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The view's resolver has an answer that is not stored: the record stays as it is.

    :ivar response: the resolver's response, for this caller alone
    """

    response: Any


Begun = OutcomeUnknown | Answered | Started | Replay | Mismatch | Tombstone | InFlight | Unavailable


class Ending(Enum):
    """What is to become of the writes of a view that has raised, before anybody handles it."""

    UNDO = auto()
    """Nothing stays: an error of the server, or nobody knows what will become of the exception."""
    STORE = auto()
    """Nothing stays, and the answer will be stored: go on holding the record until then."""
    KEEP = auto()
    """A refusal that is not stored: what stays is what would have stayed without us."""
    OPEN = auto()
    """The project makes an answer of it, nobody knows which: nothing is undone until that is seen,
    and nothing stays if none is."""


class Operation(ABC):
    """The current operation; views find it as ``request.idempotency``.

    A subclass per mode says how an attempt holds its record while the view runs, and what becomes
    of the view's effects when it ends.

    :ivar key: the caller's key
    :ivar attempt: number of this execution under the record, from 1
    :ivar recovered: an earlier attempt had claimed the record and did not complete it
    """

    def __init__(self, store: Claims, claim: Claim, patience: Patience = IMPATIENT) -> None:
        self.key = claim.key
        self.attempt = 0
        self.recovered = False
        self.owner = Owner(claim.scope, claim.key)  # for us: what is encrypted opens for it only
        self._store = store
        self._claim = claim
        self._patience = patience
        self._retention = claim.retention
        self._record: Snapshot  # from the moment it is started

    def derive_key(self, purpose: str) -> str:
        """Return a key for another system: the same in every attempt of this operation.

        A UUID that looks random: without our secret nobody can tell whose key it comes from. Other
        purposes, and other operations, have others; so has the same key after its retention.

        The record outlives a crash of the database server from then on. In atomic mode on
        PostgreSQL that takes a statement of its own, so an async view asks :meth:`aderive_key`.

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
        """Run a step of the operation once, whatever becomes of this attempt after it.

        What the function writes and what it returns are one commit. A later attempt gets the
        stored result, and goes on with the first step that is not done.

        :param name: the same in every attempt, as the order of the steps; at most 100 bytes
        :param function: called with the other arguments; returns plain data (what JSON can say)
        :raises StepError: in atomic mode, inside of ``atomic()`` or another step, for data that is
            not plain, and if the steps are not those that an earlier attempt has stored
        :raises LostRecord: if a later attempt has started
        """
        raise StepError(
            "step() needs a view with atomic=False. In atomic mode the whole view is one step."
        )

    async def astep(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """The same for an async view. The function may be async: its queries join the step.

        It is awaited to its end, also if the view is cancelled meanwhile.
        """
        call = async_to_sync(function) if iscoroutinefunction(function) else function
        return await on_request_thread(self.step, name, call, *args, **kwargs)

    @property
    def transaction_on(self) -> str | None:
        """Alias of the database whose transaction is open for the view, if one is."""
        return None

    @property
    def is_remembered(self) -> bool:
        """Whether :meth:`finish` has committed the response, although it raised: a hook of the
        view's that runs after the commit can do that."""
        return False

    def begin(self) -> Begun:
        """Claim the record and hold it, or say what stands in the way.

        :raises Outage: if the store is out of reach
        """
        known = self._store.cached(self._claim)
        if known is not None:
            match decide(known, self._claim.fingerprint):
                case Replay() | Mismatch() as answer:
                    return answer
        return self._begin()

    def _begin(self) -> Begun:
        for _ in range(TRIES):
            begun = self._try()
            if begun is not None:
                return begun
        return Unavailable()

    @abstractmethod
    def fail(self, error: BaseException, ending: Ending = Ending.UNDO) -> None:
        """The view raised. Its response, if somebody makes one, comes with :meth:`finish`."""

    def abandon(self, error: BaseException) -> None:  # noqa: B027
        """The view raised, and no response of it will be seen: end what :meth:`fail` left open.

        :param error: it goes on to whoever called the view
        """

    def on_end(self, committed: Callable[[], None]) -> bool:
        """Call a function when what :meth:`finish` has stored is committed, if it is not yet.

        :return: whether it is still to be
        """
        return False

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
        :param nothing_done: what is not stored says "not now", rather than that something broke
        :param keeps_writes: what is not stored keeps what the view has written
        :return: whether the response is remembered
        """

    @abstractmethod
    def _hold(self, claimed: Snapshot, patience: timedelta = timedelta(0)) -> Begun | None:
        """Get hold of a claimed record; ``None`` to start over.

        :param patience: how long to wait for whoever holds it
        """

    def _try(self) -> Begun | None:
        try:
            with self._apart():
                record = self._store.claim(self._claim)
        except Busy as busy:
            return Unavailable() if busy.waited else None
        if record is None:
            return None
        match decide(record, self._claim.fingerprint):
            case Claimed():
                begun = self._hold(record)
                return self._wait(record) if isinstance(begun, InFlight) else begun
            case Expired():
                return None if self._evict(record) else InFlight()
            case Replay() | Mismatch() | Tombstone() as answer:
                return answer

    def _wait(self, record: Snapshot) -> Begun | None:
        """Wait for the attempt in flight: its response replays, or its death makes us run."""
        if not self._patience.timeout:
            return InFlight()
        with place(self._patience.limit) as free:
            return self._hold(record, self._patience.timeout) if free else InFlight()

    def _evict(self, record: Snapshot) -> bool:
        try:
            with self._apart():
                return self._store.evict(record.id)
        except Busy:
            return False

    def _apart(self) -> AbstractContextManager[Any]:
        """Return where records are claimed, in a commit that rivals see at once."""
        return nullcontext()

    def _look_again(self, record: Snapshot) -> Begun | None:
        """Decide again, now that nobody else can change the record."""
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
                return None
            case Replay() | Mismatch() | Tombstone() as answer:
                return answer
