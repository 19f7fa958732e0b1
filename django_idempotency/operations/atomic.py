"""Atomic mode: the view's writes and the stored response are one commit."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from itertools import count
from time import monotonic
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..effects.staging import Stage, stage_alone
from ..protocol.codecs import Codec
from ..protocol.keys import name_in_logs
from ..protocol.record import Claim, Snapshot, State, StoredResponse
from ..stores.base import Busy, Gone
from ..stores.database.connections import claim_connection
from ..stores.database.dialects import dialect_of
from ..stores.database.store import DatabaseStore
from .base import (
    AT_ONCE,
    NO_WAIT,
    TRIES,
    BeginResult,
    Ending,
    InFlight,
    Operation,
    Retry,
    Started,
    Unavailable,
    Wait,
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
LOST_WRITES = (
    "The view, or function, ended with status {}, but what it did cannot be remembered. Nothing is "
    "stored; a retry runs again. {}"
)
NOT_OURS = (
    "The record of this attempt was removed or changed while it ran, or is not locked by this "
    "transaction any more; its writes are rolled back."
)

LastWrite = Callable[..., bool]
"""Writes the record for the last time: given the record, and ``commits`` if COMMIT comes next.
Returns whether the record was still this attempt's."""

_UNDECIDED = frozenset({Ending.KEEP, Ending.OPEN})
"""Nothing is undone yet."""


class AtomicOperation(Operation):
    """Runs the view in the transaction that locks its record.

    :param connection: of this thread, to the database that has the records and gets the writes
    :param request_block: where Django's block of ``ATOMIC_REQUESTS`` is
    """

    undoes = True
    _store: DatabaseStore

    def __init__(
        self,
        store: DatabaseStore,
        claim: Claim,
        connection: BaseDatabaseWrapper,
        wait: Wait = NO_WAIT,
        request_block: RequestBlock = RequestBlock.NONE,
    ) -> None:
        super().__init__(store, claim, wait)
        self._transaction = AttemptTransaction(
            connection, store.dialect, request_block, self._undo_and_lock
        )
        if self._transaction.leaves_request_block:
            self._leaving_request_block = self._transaction.outside_request_block
        if self._transaction.claims_on_other_connection:
            self._on_claim_connection = partial(claim_connection, connection.alias)
        self._ending: Ending | None = None
        self._is_locked = False
        self._has_ended = False
        self._connection = connection
        self._stage: Stage | None = None

    @property
    def transaction_on(self) -> str | None:
        """Alias of the database whose transaction is open for the view, if one is."""
        return self._transaction.using if self._transaction.block is not None else None

    def derive_key(self, purpose: str) -> str:
        if self._transaction.claims_in_request_block:
            raise ImproperlyConfigured(NOT_DURABLE)
        key = super().derive_key(purpose)
        try:
            # A claim that a crash loses is claimed anew, under another number: the retry would
            # bring the other system another key, and be a second operation there (decision 0063).
            self._store.make_durable()
        except (Busy, Error) as error:
            raise RuntimeError(
                f"derive_key({purpose!r}) returns no key, because the key's record would not "
                "survive a crash of the database server: there was no second connection to write "
                "it to disk before this transaction ends. A retry runs again."
            ) from error
        return key

    def stage(
        self, effect: Any, args: tuple[Any, ...], kwargs: dict[str, Any], at_once: bool = False
    ) -> str:
        if self._transaction.block is None:
            # A handler of the view's exception, or a hook after the commit: what it writes is not
            # part of the operation any more.
            return stage_alone(effect, args, kwargs, at_once)
        if self._stage is None:
            codec = Codec(self._claim.codec or Codec.PLAIN)
            self._stage = Stage(self._connection, self._derive_effect_key, codec)
        return self._stage.add(effect, args, kwargs)

    def _write_effects(self, record_id: int | None) -> None:
        """Store what was staged with the writes that are about to be committed.

        :param record_id: see :meth:`.Stage.write`
        """
        if self._stage is not None:
            self._write_last(partial(self._stage.write, record_id))

    def _write_last(self, write: Callable[[], None]) -> None:
        """Write what is committed with the response: if that fails, nothing is."""
        try:
            write()
        except BaseException:
            self._transaction.rollback()
            raise

    # --- Before the view ---

    def _lock(self, claimed: Snapshot, wait: timedelta = AT_ONCE) -> BeginResult | Retry:
        """Lock the record, and run under a fencing token that only this attempt has (I12)."""
        known, end = claimed, monotonic() + wait.total_seconds()
        for tried in count():
            if tried:
                wait = wait and max(AT_ONCE, timedelta(seconds=end - monotonic()))
            # A duplicate that waits does so until its time is over: when an attempt has died, those
            # that have waited for it compete.
            if tried >= TRIES and not wait:
                break
            if not known.fresh:
                bumped = self._bump_fencing_token(known, wait)
                if not isinstance(bumped, Snapshot):
                    return bumped
                known = bumped
                if not known.fresh:
                    continue
            begun = self._lock_in(self._transaction, known.id, wait)
            if not isinstance(begun, Started):
                return begun
            if self.attempt == known.attempt:
                self._is_locked = True
                self._transaction.watch(self._record.transaction)
                return begun
            # Another attempt has bumped the token, and is about to run: give way, and look again.
            is_stuck = self._transaction.claims_on_other_connection
            self._transaction.give_up()
            if is_stuck:
                # Until Django's block ends it has the lock, for which the connection that bumps the
                # token would wait in vain, and the other attempt with it.
                self._wait = NO_WAIT
                break
            known = self._record._replace(fresh=False)
        return InFlight()

    def _bump_fencing_token(
        self, known: Snapshot, wait: timedelta
    ) -> Snapshot | BeginResult | Retry:
        """Bump the token before this attempt runs, in a separate commit, so that the previous
        attempt can store nothing even if this one fails (I12)."""
        try:
            with self._transaction.separate_commit(bool(wait)) as separate:
                begun = self._lock_in(separate, known.id, wait)
                if not isinstance(begun, Started):
                    return begun
                if self.attempt != known.attempt:
                    separate.give_up()
                    return self._record._replace(fresh=False)
                self.recovered = True
                try:
                    self._store.bump_fencing_token(self._record, separate.commits_alone)
                except BaseException:
                    separate.rollback()
                    raise
                separate.commit()
                return self._record._replace(attempt=self.attempt + 1, fresh=True)
        except Busy:
            return Unavailable()

    def _lock_in(
        self, transaction: AttemptTransaction, record_id: int, wait: timedelta
    ) -> BeginResult | Retry:
        try:
            transaction.begin()
            if wait:
                with transaction.savepoint():
                    record = self._store.lock(record_id, wait)
            else:
                record = self._store.lock(record_id)
            begun = InFlight() if record is None else self._decide_locked(record)
        except BaseException as error:
            transaction.give_up()
            if not isinstance(error, Busy):
                raise
            dialect = dialect_of(connections[transaction.using])
            if transaction.claims_on_other_connection and dialect.saw_an_old_snapshot(
                error.__cause__
            ):
                raise ImproperlyConfigured(HIDDEN.format(transaction.using)) from error
            return InFlight()
        if not isinstance(begun, Started):
            transaction.give_up()
            if record is None:
                self._check_that_it_is_locked(transaction, record_id, bool(wait))
        return begun

    def _check_that_it_is_locked(
        self, transaction: AttemptTransaction, record_id: int, has_waited: bool
    ) -> None:
        """A record that could not be locked is in flight, if it is there and can be seen.

        :param transaction: the one that could not lock it. A separate one sees what is committed,
            and must not ask for one more connection: all that have one could wait for each other
        :param has_waited: for the lock, and was woken
        :raises Gone: if its attempt has withdrawn it
        :raises ImproperlyConfigured: if this transaction does not see it: it would be in flight for
            ever
        """
        connection = connections[transaction.using]
        dialect = dialect_of(connection)
        # InnoDB's locks see the latest version, but its other reads do not.
        if transaction.claims_on_other_connection and dialect.reads_what_it_locks:
            if self._store.exists(record_id):
                return
            with self._on_claim_connection():
                is_hidden = self._store.exists(record_id)
            if is_hidden:
                raise ImproperlyConfigured(HIDDEN.format(connection.alias))
            raise Gone
        # Who has waited, or has the only lock that there is, would have got it.
        if has_waited or not dialect.has_row_locks:
            raise Gone

    # --- After the view ---

    def fail(self, error: BaseException, ending: Ending = Ending.UNDO) -> None:
        """The view raised: undo its writes now, before the exception is handled, unless they stay
        if it becomes a refusal. Called again when an open end is decided."""
        attempt = self._transaction
        if attempt.block is None or self._ending not in {None, Ending.OPEN}:
            return
        found = attempt.inspect()
        if ending is Ending.OPEN and not found.is_usable:
            ending = Ending.UNDO  # handlers of the exception may want to ask the database
        if self._ending is None:
            explain(error, found.loss)
        self._ending = ending
        if ending not in _UNDECIDED:
            with self._leaving_request_block(error):
                if ending is not Ending.STORE:
                    attempt.rollback()
                elif not attempt.is_undone:
                    self._undo_and_lock()

    def abandon(self, error: BaseException) -> None:
        """Commit what would have stayed without a key: a refusal's writes, and what was written by
        handlers of the exception."""
        with self._leaving_request_block(error):
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
        if response is not None:
            if self._leaving_request_block is nullcontext:
                return self._complete(response)
            with self._leaving_request_block():
                return self._complete(response)
        with self._leaving_request_block():
            if keeps_writes and self._ending is None:
                unintended = self._transaction.inspect(asks_server=True).unintended
                if unintended:
                    self._report_loss(unintended)
            self._end(keeps_writes)
            return False

    def _report_loss(self, loss: str) -> None:
        """A refusal is true without its writes, so it is no error of the server. But a lockout that
        counts nothing must be noticed."""
        name = name_in_logs(self.owner.key, self.owner.scope)
        logger.error("%s: what the view wrote for a refusal is lost. %s", name, loss)

    def withdraw(self, keeps_writes: bool) -> bool:
        """Remove the record with the commit of the view's writes."""
        with self._leaving_request_block():
            return self._withdraw(keeps_writes)

    def _withdraw(self, keeps_writes: bool) -> bool:
        attempt = self._transaction
        # Removing asks the server, too, if the record names the transaction.
        asks_server = self._ending is None and self._record.transaction is None
        found = attempt.inspect(asks_server)
        loss = "" if self._ending or not keeps_writes else found.unintended
        stays = keeps_writes or self._ending is Ending.STORE
        if stays and self._is_locked and found.is_usable:
            if loss:
                self._report_loss(loss)
            try:
                removed = self._write_record(self._store.withdraw)
            except DatabaseError as error:
                loss = attempt.loss_by(error)
                if self._ending is None and not loss:
                    raise
            else:
                if not removed and self._ending is None:
                    raise LostRecord(NOT_OURS)
                return removed
        else:
            self._end(keeps_writes=False)
        if loss:
            self._report_loss(loss)
        return self._write_late(self._store.withdraw)

    def _complete(self, response: StoredResponse) -> bool:
        attempt = self._transaction
        store = partial(self._store.complete, response=response, retention=self._retention)
        if attempt.block is None:
            return self._write_late(store, response.status)
        # Storing asks the server, too, if the record names the transaction.
        asks_server = self._ending is None and self._record.transaction is None
        found = attempt.inspect(asks_server)
        unintended = "" if self._ending else found.unintended
        if unintended and response.status < 400:
            attempt.rollback()
            raise LostWrites(LOST_WRITES.format(response.status, unintended))
        if self._ending in _UNDECIDED:
            # The project's code has made a result of what looked like a refusal.
            self._undo_and_lock()
            found = attempt.inspect()
        if unintended or not self._is_locked or not found.is_usable:
            self._end(keeps_writes=False)
            return self._write_late(store, response.status)
        try:
            stored = self._write_record(store, response.status)
        except DatabaseError as error:
            loss = attempt.loss_by(error)
            if loss and response.status < 400:
                raise LostWrites(LOST_WRITES.format(response.status, loss)) from error
            if self._ending is None and not loss:
                raise
            # A failure whose writes are gone, or a handler of the exception has met an error that
            # it did not raise.
            return self._write_late(store, response.status)
        if not stored and self._ending is None:
            raise LostRecord(NOT_OURS)
        return stored

    def _write_late(self, write: LastWrite, status: int | None = None) -> bool:
        """Write the end of an attempt whose writes were rolled back: nothing depends on it."""
        connection = connections[self._transaction.using]
        if connection.in_atomic_block and connection.get_rollback():
            return False  # a surrounding transaction (a test case's) takes no more statements
        try:
            self._transaction.begin()
            is_ours = self._is_still_ours(self._store.lock(self._record.id))
        except BaseException as error:
            self._transaction.rollback()
            if isinstance(error, Busy):
                return False
            raise
        if not is_ours:
            self._transaction.rollback()
            return False
        return self._write_record(write, status)

    def _write_record(self, write: LastWrite, status: int | None = None) -> bool:
        """Write the end of the attempt, and commit.

        :param status: of the response that is stored; ``None`` if the record is removed
        """
        if self._stage is not None:
            self._write_effects(None if status is None else self._record.id)
        if self.before_storing is not None:
            self._write_last(partial(self.before_storing, self.transaction_on))
        is_success = status is not None and status < 400
        if self._ending is None and self._transaction.commits_together(is_success):
            self._has_ended = True
            together = partial(self._write_or_raise, write, status)
            self._transaction.commit(together=together)
            return True
        self._transaction.stop_watching()
        try:
            self._has_ended = write(self._record, commits=self._transaction.commits_alone)
        except BaseException:
            self._transaction.rollback()
            raise
        if self._has_ended:
            # An exception that goes on would undo what Django's block commits.
            self._transaction.commit(at_once=self._ending is not None)
        else:
            self._transaction.rollback()
        return self._has_ended

    def _write_or_raise(self, write: LastWrite, status: int | None, commits: bool) -> None:
        """Write the end with the commit of Django's block, or prevent that."""
        try:
            written = write(self._record, commits=commits)
        except DatabaseError as error:
            loss = self._transaction.loss_by(error)
            if not loss:
                raise
            raise LostWrites(LOST_WRITES.format(status, loss)) from error
        if not written:
            raise LostRecord(NOT_OURS)

    def _end(self, keeps_writes: bool) -> None:
        """End without storing. What was written after the view's writes were undone stays."""
        keeps_writes = keeps_writes or self._ending is Ending.STORE
        if keeps_writes and self._transaction.inspect().is_usable:
            self._write_effects(self._record.id)
            self._transaction.commit()
        else:
            self._transaction.rollback()

    def _undo_and_lock(self) -> None:
        """Undo the view's writes, and lock the record again, so that no rival runs until the
        response is stored. In between one could lock it; then it has it."""
        attempt = self._transaction
        try:
            attempt.undo()
            self._is_locked = self._is_still_ours(self._store.lock(self._record.id))
        except Busy:
            self._is_locked = False
        if attempt.block is not None:
            attempt.watch(self._record.transaction)

    def _is_still_ours(self, record: Snapshot | None) -> bool:
        if record is None and self._transaction.claims_in_request_block:
            # The claim has been undone with the rest; we have the write lock, so it is made again.
            claimed = self._store.claim(self._claim)
            is_ours = claimed is not None and claimed.fresh
            record = self._store.lock(claimed.id) if claimed is not None and is_ours else None
        else:
            is_ours = record is not None and record.attempt == self.attempt
        if record is None or record.state is not State.CLAIMED or not is_ours:
            return False
        self._record = record
        return True

    @property
    def is_remembered(self) -> bool:
        return self._has_ended and self._transaction.is_committed

    def on_end(self, committed: Callable[[], None]) -> bool:
        if not self._has_ended or not self._transaction.is_handed_over:
            return False
        return self._transaction.on_commit(committed)
