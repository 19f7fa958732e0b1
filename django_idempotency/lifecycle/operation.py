"""One request under a key: claim, lock, run, store."""

from dataclasses import dataclass
from datetime import timedelta

from ..protocol.decision import Buried, Claimed, Expired, Mismatch, Replay, decide
from ..protocol.record import Claim, Snapshot, State, StoredResponse
from ..stores.base import Busy, Store
from .transaction import AttemptTransaction
from .waiting import IMPATIENT, Patience, place

TRIES = 5
"""How often a claim starts over after losing a race against rivals or the purge."""


@dataclass(frozen=True, slots=True)
class Started:
    """The record is ours and locked: run the view."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """Another attempt holds the lock."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The store is too busy to say."""


Begun = Started | Replay | Mismatch | Buried | InFlight | Unavailable


class Operation:
    """The current operation; views find it as ``request.idempotency``.

    :ivar key: the caller's key
    :ivar attempt: number of this execution under the record, from 1
    :ivar recovered: an earlier attempt had claimed the record and did not complete it
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        using: str,
        patience: Patience = IMPATIENT,
        has_request_block: bool = False,
    ) -> None:
        self.key = claim.key
        self.attempt = 0
        self.recovered = False
        self._store = store
        self._claim = claim
        self._patience = patience
        self._retention = claim.retention
        self._record: Snapshot  # from the moment it is started
        self._transaction = AttemptTransaction(using, has_request_block)

    def begin(self) -> Begun:
        """Claim the record and lock it, or say what stands in the way."""
        with self._transaction.outside_request_block():
            for _ in range(TRIES):
                begun = self._try()
                if begun is not None:
                    return begun
            return Unavailable()

    def fail(self, error: BaseException) -> None:
        """The view raised: undo its writes now, before anybody handles the exception."""
        if self._transaction.is_open:
            with self._transaction.outside_request_block(error):
                self._transaction.rollback()

    def finish(self, response: StoredResponse | None, retention: timedelta | None = None) -> bool:
        """Store the response and commit, or undo everything if it is not to be stored.

        :param retention: how long this response replays, if not as long as the claim says
        :return: whether the response is remembered
        """
        self._retention = retention or self._claim.retention
        attempt = self._transaction
        undone, accident = attempt.is_undone, attempt.is_accident
        with attempt.outside_request_block():
            if attempt.is_open:
                # Leaving Django's block may have undone the writes, too.
                undone, accident = undone or attempt.is_undone, accident or attempt.is_accident
                if response is not None and not undone:
                    return self._complete(response)
                attempt.rollback()
                if response is not None and accident and response.status < 400:
                    raise LostWrites(
                        f"The view answered {response.status}, but a database error had undone "
                        "its writes. Nothing is stored; a retry runs again. Let the error out, or "
                        "catch it outside of an atomic() block of its own."
                    )
            return response is not None and self._complete_late(response)

    def _try(self) -> Begun | None:
        try:
            record = self._store.claim(self._claim)
        except Busy as busy:
            return Unavailable() if busy.waited else None
        if record is None:
            return None
        match decide(record, self._claim.fingerprint):
            case Claimed():
                begun = self._lock(record)
                return self._wait(record) if isinstance(begun, InFlight) else begun
            case Expired():
                return None if self._evict(record) else InFlight()
            case Replay() | Mismatch() | Buried() as answer:
                return answer

    def _wait(self, record: Snapshot) -> Begun | None:
        """Wait for the attempt in flight: its response replays, or its death makes us run."""
        if not self._patience.timeout:
            return InFlight()
        with place(self._patience.limit) as free:
            return self._lock(record, self._patience.timeout) if free else InFlight()

    def _evict(self, record: Snapshot) -> bool:
        try:
            return self._store.evict(record.id)
        except Busy:
            return False

    def _lock(self, claimed: Snapshot, patience: timedelta = timedelta(0)) -> Begun | None:
        try:
            self._transaction.begin()
            record = self._store.lock(claimed.id, patience)
        except BaseException as error:
            self._transaction.rollback()
            if isinstance(error, Busy):
                return InFlight()
            raise
        begun = InFlight() if record is None else self._look_again(record)
        if not isinstance(begun, Started):
            self._transaction.rollback()
        elif not claimed.fresh and not self.recovered:
            return self._take_over(patience)
        else:
            self._transaction.watch()
        return begun

    def _take_over(self, patience: timedelta) -> Begun | None:
        """Give this attempt a number of its own before it runs, in a commit of its own, so that
        its predecessor can store nothing any more, whatever becomes of this one (I12)."""
        self.recovered = True
        try:
            self._store.renumber(self._record)
        except BaseException:
            self._transaction.rollback()
            raise
        self._transaction.commit()
        # Others who waited may be faster now. They do the same, so somebody runs.
        return self._lock(self._record, patience)

    def _look_again(self, record: Snapshot) -> Begun | None:
        """Decide again, now that nobody else can change the record."""
        match decide(record, self._claim.fingerprint):
            case Claimed():
                self._record = record
                self.attempt = record.attempt
                return Started()
            case Expired():
                return None
            case Replay() | Mismatch() | Buried() as answer:
                return answer

    def _complete(self, response: StoredResponse) -> bool:
        stored = self._store_response(response)
        if not stored:
            raise LostRecord(
                "The record of this attempt was removed or changed while it ran; "
                "its writes are rolled back."
            )
        return stored

    def _complete_late(self, response: StoredResponse) -> bool:
        """Store a response whose writes were rolled back: nothing depends on it any more."""
        if self._transaction.is_closed_to_us:
            return False
        try:
            self._transaction.begin()
            record = self._store.lock(self._record.id)
        except BaseException as error:
            self._transaction.rollback()
            if isinstance(error, Busy):
                return False
            raise
        if record is None or record.state is not State.CLAIMED:
            self._transaction.rollback()
            return False
        return self._store_response(response)

    def _store_response(self, response: StoredResponse) -> bool:
        try:
            stored = self._store.complete(self._record, response, self._retention)
        except BaseException:
            self._transaction.rollback()
            raise
        if stored:
            self._transaction.commit()
        else:
            self._transaction.rollback()
        return stored


class LostWrites(RuntimeError):
    """A view said that it succeeded after a database error had undone what it wrote."""


class LostRecord(RuntimeError):
    """A record vanished under the lock of its attempt."""
