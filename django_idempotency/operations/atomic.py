"""Atomic mode: the view's writes and the stored response are one commit."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, Error, connections

from ..protocol.record import Claim, Snapshot, State, StoredResponse
from ..stores.base import Busy, Store
from ..stores.database.dialects import dialect_of
from .base import (
    IMPATIENT,
    TRIES,
    Begun,
    Ending,
    InFlight,
    Operation,
    Patience,
    Started,
    Unavailable,
)
from .errors import LostRecord, LostWrites, explain
from .transaction import AttemptTransaction, RequestBlock

logger = logging.getLogger("django_idempotency")

HIDDEN = (
    "The view runs in the transaction of ATOMIC_REQUESTS on database {!r}, which does not see the "
    "record that was claimed for it on another connection. Either that transaction is isolated "
    "above READ COMMITTED and has read something before the guard began, or its search_path leads "
    "to another table. Put @transaction.non_atomic_requests on the view (on dispatch() of a "
    "class): a guarded view runs in one transaction anyway."
)
NOT_DURABLE = (
    "derive_key() cannot promise the same key to a later attempt here: on SQLite something was "
    "written in the transaction of ATOMIC_REQUESTS before the guard began, so the claim commits "
    "with the view, and a crash forgets it. Put @transaction.non_atomic_requests on the view (on "
    "dispatch() of a class)."
)


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
        self._transaction = AttemptTransaction(using, request_block, self._undo_and_hold)
        self._ending: Ending | None = None
        self._is_held = False
        self._has_stored = False

    @property
    def transaction_on(self) -> str | None:
        """Alias of the database whose transaction is open for the view, if one is."""
        return self._transaction.using if self._transaction.is_open else None

    def derive_key(self, purpose: str) -> str:
        if self._transaction.claims_inside:
            raise ImproperlyConfigured(NOT_DURABLE)
        key = super().derive_key(purpose)
        try:
            # A claim that a crash loses is claimed anew, under another number: the retry would
            # bring the other system another key, and be a second operation there (decision 0063).
            self._locks.make_durable()
        except (Busy, Error) as error:
            raise RuntimeError(
                f"derive_key({purpose!r}) returns no key, because the key's record would not "
                "survive a crash of the database server: there was no second connection to write "
                "it to disk before the view's transaction ends. A retry runs again."
            ) from error
        return key

    @property
    def is_remembered(self) -> bool:
        return self._has_stored and self._transaction.is_committed

    def on_end(self, committed: Callable[[], None]) -> bool:
        return self._has_stored and self._transaction.on_handed_over(committed)

    def _begin(self) -> Begun:
        with self._transaction.outside_request_block():
            return super()._begin()

    def _apart(self) -> AbstractContextManager[Any]:
        return self._transaction.apart()

    def fail(self, error: BaseException, ending: Ending = Ending.UNDO) -> None:
        """The view raised: undo its writes now, before anybody handles the exception, unless they
        stay if that makes a refusal of it. Called again when an open end is decided."""
        attempt = self._transaction
        if not attempt.is_open or self._ending not in {None, Ending.OPEN}:
            return
        if ending is Ending.OPEN and not attempt.is_usable:
            ending = Ending.UNDO  # whoever handles the exception may want to ask the database
        if self._ending is None:
            explain(error, attempt.loss)
        self._ending = ending
        if ending not in {Ending.KEEP, Ending.OPEN}:
            with attempt.outside_request_block(error):
                self._undo_and_hold() if ending is Ending.STORE else attempt.rollback()

    def abandon(self, error: BaseException) -> None:
        """Commit what would have stayed without us: a refusal's writes, and what was written by
        those who handled the exception."""
        with self._transaction.outside_request_block(error):
            self._end(keeps_writes=self._ending is Ending.KEEP)

    def finish(
        self,
        response: StoredResponse | None,
        retention: timedelta | None = None,
        nothing_done: bool = False,
        keeps_writes: bool = False,
    ) -> bool:
        """Store the response and commit, or end without."""
        self._retention = retention or self._claim.retention
        attempt = self._transaction
        with attempt.outside_request_block():
            if response is None:
                if keeps_writes and self._ending is None:
                    self._warn_of_lost_writes()
                self._end(keeps_writes)
                return False
            if attempt.is_open:
                accident = "" if self._ending else attempt.accident()
                if accident and response.status < 400:
                    attempt.rollback()
                    raise LostWrites(
                        f"The view answered {response.status}, but what it did cannot be "
                        f"remembered. Nothing is stored; a retry runs again. {accident}"
                    )
                if self._ending in {Ending.KEEP, Ending.OPEN}:
                    # Somebody made a result of what looked like a refusal.
                    self._undo_and_hold()
                if self._is_held and attempt.is_usable and not accident:
                    return self._complete(response)
                self._end(keeps_writes=False)
            return self._complete_late(response)

    def _warn_of_lost_writes(self) -> None:
        """A refusal is true without its writes, so it is no error of the server. But a lockout that
        counts nothing must be noticed."""
        accident = self._transaction.accident() if self._transaction.is_open else ""
        if accident:
            logger.error("What the view wrote for a refusal is lost. %s", accident)

    def _end(self, keeps_writes: bool) -> None:
        """End without storing. What was written after the view's writes were undone stays."""
        attempt = self._transaction
        if attempt.is_usable and (keeps_writes or self._ending is Ending.STORE):
            attempt.commit()
        else:
            attempt.rollback()

    def _undo_and_hold(self) -> None:
        """Undo the view's writes, and hold the record on, so that no rival runs until the answer
        is stored. There is a moment in which one could take it; then it is his."""
        attempt = self._transaction
        try:
            attempt.undo()
            self._is_held = self._is_still_ours(self._locks.lock(self._record.id))
        except Busy:
            self._is_held = False
        if attempt.is_open:
            attempt.watch()

    def _is_still_ours(self, record: Snapshot | None) -> bool:
        if record is None and self._transaction.claims_inside:
            # The claim has been undone with the rest; we have the write lock, so it is made again.
            claimed = self._store.claim(self._claim)
            is_ours = claimed is not None and claimed.fresh
            record = self._locks.lock(claimed.id) if claimed is not None and is_ours else None
        else:
            is_ours = record is not None and record.attempt == self.attempt
        if record is None or record.state is not State.CLAIMED or not is_ours:
            return False
        self._record = record
        return True

    def _hold(self, claimed: Snapshot, patience: timedelta = timedelta(0)) -> Begun | None:
        """Lock the record, and run under a number that only this attempt has (I12)."""
        known = claimed
        for _ in range(TRIES):
            if not known.fresh:
                numbered = self._take_number(known, patience)
                if not isinstance(numbered, Snapshot):
                    return numbered
                known = numbered
                if not known.fresh:
                    continue
            begun = self._lock(known.id, patience)
            if not isinstance(begun, Started):
                return begun
            if self.attempt == known.attempt:
                self._is_held = True
                self._transaction.watch()
                return begun
            # Somebody else counts, and is about to run: give way, and look again.
            self._transaction.give_up()
            known = replace(self._record, fresh=False)
        return InFlight()

    def _take_number(self, known: Snapshot, patience: timedelta) -> Snapshot | Begun | None:
        """Give this attempt a number of its own before it runs, in a commit of its own, so that
        its predecessor can store nothing any more, whatever becomes of this one (I12)."""
        try:
            with self._transaction.apart(bool(patience)) as numbering:
                begun = self._lock(known.id, patience, numbering)
                if not isinstance(begun, Started):
                    return begun
                if self.attempt != known.attempt:
                    numbering.give_up()
                    return replace(self._record, fresh=False)
                self.recovered = True
                try:
                    self._locks.bump_fencing_token(self._record)
                except BaseException:
                    numbering.rollback()
                    raise
                numbering.commit()
                return replace(self._record, attempt=self.attempt + 1, fresh=True)
        except Busy:
            return Unavailable()

    def _lock(
        self, record_id: int, patience: timedelta, where: AttemptTransaction | None = None
    ) -> Begun | None:
        transaction = where or self._transaction
        try:
            transaction.begin()
            with transaction.locking(bool(patience)):
                record = self._locks.lock(record_id, patience)
            begun = InFlight() if record is None else self._look_again(record)
        except BaseException as error:
            transaction.give_up()
            if not isinstance(error, Busy):
                raise
            if transaction.shares and dialect_of(
                connections[transaction.using]
            ).saw_an_old_snapshot(error.__cause__):
                raise ImproperlyConfigured(HIDDEN.format(transaction.using)) from error
            return InFlight()
        if not isinstance(begun, Started):
            transaction.give_up()
        if record is None and transaction.shares:
            self._refuse_if_hidden(record_id)
        return begun

    def _refuse_if_hidden(self, record_id: int) -> None:
        """What is not seen would be in flight for ever. InnoDB's locks see the latest version, but
        its other reads do not, so there nothing can be said."""
        connection = connections[self._transaction.using]
        if dialect_of(connection).reads_what_it_locks and not self._locks.exists(record_id):
            raise ImproperlyConfigured(HIDDEN.format(connection.alias))

    def _complete(self, response: StoredResponse) -> bool:
        try:
            stored = self._store_response(response)
        except DatabaseError:
            if self._ending is None:
                raise
            # Those who handled the exception have met an error of their own.
            return self._complete_late(response)
        if not stored and self._ending is None:
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
            held = self._is_still_ours(self._locks.lock(self._record.id))
        except BaseException as error:
            self._transaction.rollback()
            if isinstance(error, Busy):
                return False
            raise
        if not held:
            self._transaction.rollback()
            return False
        return self._store_response(response)

    def _store_response(self, response: StoredResponse) -> bool:
        try:
            stored = self._locks.complete(self._record, response, self._retention)
        except BaseException:
            self._transaction.rollback()
            raise
        self._has_stored = stored
        if stored:
            # An exception that goes on would undo what Django's block commits.
            self._transaction.commit(at_once=self._ending is not None)
        else:
            self._transaction.rollback()
        return stored
