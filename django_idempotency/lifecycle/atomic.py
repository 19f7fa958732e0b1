"""Atomic mode: the view's writes and the stored response are one commit."""

from dataclasses import replace
from datetime import timedelta

from django.db import Error

from ..protocol.record import Claim, Snapshot, State, StoredResponse
from ..stores.base import Busy, Store
from .errors import LostRecord, LostWrites
from .explaining import explain
from .operation import TRIES, Begun, InFlight, Operation, Started
from .transaction import AttemptTransaction, RequestBlock
from .waiting import IMPATIENT, Patience


class AtomicOperation(Operation):
    """Runs the view in the transaction that locks its record.

    :param using: alias of the database that holds the records and gets the view's writes
    :param request_block: where Django's block of ``ATOMIC_REQUESTS`` is
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        using: str,
        patience: Patience = IMPATIENT,
        request_block: RequestBlock = RequestBlock.NONE,
    ) -> None:
        super().__init__(store, claim, patience)
        self._locks = store
        self._transaction = AttemptTransaction(using, request_block)
        self._has_stored = False

    @property
    def transaction_on(self) -> str | None:
        """Alias of the database whose transaction is open for the view, if one is."""
        return self._transaction.using if self._transaction.is_open else None

    def derive_key(self, purpose: str) -> str:
        key = super().derive_key(purpose)
        try:
            # A claim that a crash loses is claimed anew, under another number: the retry would
            # bring the other system another key, and be a second operation there (decision 0063).
            self._locks.make_durable()
        except (Busy, Error) as error:
            raise RuntimeError(
                f"derive_key({purpose!r}) gives no key away, because the record it comes from "
                "could not be made to survive a crash of the database server: no connection "
                "beside the view's was to be had. A retry runs again."
            ) from error
        return key

    @property
    def is_remembered(self) -> bool:
        return self._has_stored and self._transaction.is_committed

    def _begin(self) -> Begun:
        with self._transaction.outside_request_block():
            return super()._begin()

    def fail(self, error: BaseException) -> None:
        """The view raised: undo its writes now, before anybody handles the exception."""
        if self._transaction.is_open:
            explain(error, self._transaction.loss)
            with self._transaction.outside_request_block(error):
                self._transaction.rollback()

    def finish(
        self,
        response: StoredResponse | None,
        retention: timedelta | None = None,
        nothing_done: bool = False,
    ) -> bool:
        """Store the response and commit, or undo everything if it is not to be stored."""
        self._retention = retention or self._claim.retention
        attempt = self._transaction
        with attempt.outside_request_block():
            if attempt.is_open:
                accident = attempt.accident()
                if response is not None and accident and response.status < 400:
                    attempt.rollback()
                    raise LostWrites(
                        f"The view answered {response.status}, but what it did cannot be "
                        f"remembered. Nothing is stored; a retry runs again. {accident}"
                    )
                if response is not None and not attempt.is_undone:
                    return self._complete(response)
                attempt.rollback()
            return response is not None and self._complete_late(response)

    def _hold(self, claimed: Snapshot, patience: timedelta = timedelta(0)) -> Begun | None:
        """Lock the record, and run under a number that only this attempt has (I12)."""
        known = claimed
        for _ in range(TRIES):
            begun = self._lock(known.id, patience)
            if not isinstance(begun, Started):
                return begun
            if self.attempt != known.attempt:
                # Somebody else counts, and is about to run: give way, and look again.
                self._transaction.rollback()
                known = replace(self._record, fresh=False)
            elif known.fresh:
                self._transaction.watch()
                return begun
            else:
                known = self._take_over()
        return InFlight()

    def _lock(self, record_id: int, patience: timedelta) -> Begun | None:
        try:
            self._transaction.begin()
            record = self._locks.lock(record_id, patience)
            begun = InFlight() if record is None else self._look_again(record)
        except BaseException as error:
            self._transaction.rollback()
            if isinstance(error, Busy):
                return InFlight()
            raise
        if not isinstance(begun, Started):
            self._transaction.rollback()
        return begun

    def _take_over(self) -> Snapshot:
        """Give this attempt a number of its own before it runs, in a commit of its own, so that
        its predecessor can store nothing any more, whatever becomes of this one (I12)."""
        self.recovered = True
        try:
            self._locks.renumber(self._record)
        except BaseException:
            self._transaction.rollback()
            raise
        self._transaction.commit()
        return replace(self._record, attempt=self.attempt + 1, fresh=True)

    def _complete(self, response: StoredResponse) -> bool:
        stored = self._store_response(response)
        if not stored:
            raise LostRecord(
                "The record of this attempt was removed or changed while it ran, or is not locked "
                "by this transaction any more; its writes are rolled back."
            )
        return stored

    def _complete_late(self, response: StoredResponse) -> bool:
        """Store a response whose writes were rolled back: nothing depends on it any more."""
        if self._transaction.is_closed_to_us:
            return False
        try:
            self._transaction.begin()
            record = self._locks.lock(self._record.id)
        except BaseException as error:
            self._transaction.rollback()
            if isinstance(error, Busy):
                return False
            raise
        if record is None or record.state is not State.CLAIMED:
            self._transaction.rollback()
            return False
        self._record = replace(self._record, transaction=record.transaction)
        return self._store_response(response)

    def _store_response(self, response: StoredResponse) -> bool:
        try:
            stored = self._locks.complete(self._record, response, self._retention)
        except BaseException:
            self._transaction.rollback()
            raise
        self._has_stored = stored
        if stored:
            self._transaction.commit()
        else:
            self._transaction.rollback()
        return stored
