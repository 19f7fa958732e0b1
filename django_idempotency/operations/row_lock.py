"""Lock a record while its view runs outside of a transaction; here by the row lock of a session."""

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Protocol

from django.db import Error, connections

from ..protocol.keys import name_in_logs
from ..protocol.record import Snapshot, State, StoredResponse
from ..stores.base import Busy, Gone
from ..stores.causes import cause_of
from ..stores.database.step_log import NO_ATTEMPT, NO_PAYLOAD, ResumePayload, StepLog
from ..stores.database.store import DatabaseStore
from ..stores.database.transactions import write_transaction
from .base import AT_ONCE
from .sessions import Session

logger = logging.getLogger("django_idempotency")


class RecordLock(Protocol):
    """Locks at most one record, beside its view. Only the attempt that has locked a record may
    store its response, and a lost lock is noticed then (I12).

    The calls come in this order: ``take``, then ``start``, then ``complete``, ``withdraw`` or
    ``release``.
    """

    @property
    def interrupted(self) -> bool:
        """Whether an attempt before this one had started and never said how it ended.

        Valid after :meth:`take`.
        """

    def take(self, record: Snapshot, wait: timedelta) -> Snapshot | None:
        """Lock a claimed record; ``None`` if another attempt has locked it, or it is gone.

        :param record: what the claim found; ``fresh`` if it was created for this very request
        :param wait: how long to wait for another attempt's lock
        :return: the record as it is, now that no other request can change it
        :raises Busy: if the store cannot tell, or has no means left to lock it with
        :raises Gone: if it was withdrawn meanwhile, as far as can be told
        """

    def start(self) -> Snapshot | None:
        """Remember that an attempt starts, under its fencing token, before its view runs.

        :return: the record with that token; ``None`` if the lock was lost meanwhile
        """

    def is_held(self) -> bool:
        """Whether the record is still locked. The lock may be lost the moment after.

        A lost lock is taken back, if no other attempt has started since.
        """

    def complete(self, response: StoredResponse, retention: timedelta) -> bool:
        """Store the response and unlock; ``False`` if the record is not this attempt's now.

        After :meth:`release`, or if the lock was lost, it is taken again, unless another attempt
        has started.
        """

    def withdraw(self) -> bool:
        """Remove the record and unlock; ``False`` if it is not this attempt's now, or cannot be
        reached."""

    def release(self, nothing_done: bool = False) -> None:
        """Unlock without a response. Harmless if nothing is locked.

        :param nothing_done: the attempt says that it has no effect that is not accounted for;
            otherwise it counts as interrupted, if it had started
        """


PayloadOf = Callable[[Snapshot], ResumePayload | None]
"""Returns the payload that an attempt stores when it starts; ``None`` keeps the stored one."""


def no_payload(record: Snapshot) -> ResumePayload:
    """Only a retry can go on."""
    return NO_PAYLOAD


def keep_payload(record: Snapshot) -> None:
    """This attempt was itself started from the payload."""


class RowLock:
    """The lock lives and dies with a transaction of the database, and so with this process: a
    crash is known at once. It is kept beside the view, whose own transactions come and go.

    :param store: where the record is
    :param step_log: what attempts say about their start and end
    :param session: where the lock is taken
    :param payload_of: called when an attempt starts
    """

    def __init__(
        self,
        store: DatabaseStore,
        step_log: StepLog,
        session: Session,
        payload_of: PayloadOf = no_payload,
    ) -> None:
        self._store = store
        self._step_log = step_log
        self._session = session
        self._payload_of = payload_of
        self._record: Snapshot
        self._asking = threading.Lock()
        self._is_fresh = False
        self._last = NO_ATTEMPT
        self._has_started = False
        self._has_ended = False

    @property
    def interrupted(self) -> bool:
        return self._last.is_open

    def take(self, record: Snapshot, wait: timedelta) -> Snapshot | None:
        locked = self._lock(record.id, wait)
        if locked is None:
            return None
        # Another attempt may have come and gone between our claim and our lock.
        self._record = locked
        self._is_fresh = record.fresh and record.attempt == locked.attempt
        if not self._is_fresh:
            self._last = self._step_log.look(record.id)
        return locked

    def start(self) -> Snapshot | None:
        if not self._is_fresh and not self._bump_fencing_token():
            return None
        payload = self._payload_of(self._record)
        if not self._step_log.start(self._record.id, self._record.attempt, payload, self._last):
            self.release()
            return None
        self._has_started = True
        return self._record

    def is_held(self) -> bool:
        # Threads of the view may ask at once, and the session's connection has one user at a time.
        with self._asking:
            if self._has_ended:
                return False
            return self._session.is_alive() or self._take_back() is State.CLAIMED

    def complete(self, response: StoredResponse, retention: timedelta) -> bool:
        self._has_ended = True
        if self._session.is_open:
            try:
                return self._complete(response, retention)
            except Error as error:
                self._warn_of(error)
        match self._take_back():
            case State.CLAIMED:
                return self._complete(response, retention)
            case State.COMPLETED:
                # The session was lost while it committed: is it our response that is stored?
                return self._store.response(self._record.id) == response
            case None:
                return False

    def _complete(self, response: StoredResponse, retention: timedelta) -> bool:
        try:
            commits = self._session.commits_alone
            with self._session.entered():
                stored = self._store.complete(self._record, response, retention, commits)
            if stored:
                self._session.commit()
        finally:
            self._session.close()
        return stored

    def withdraw(self) -> bool:
        self._has_ended = True
        try:
            if self._session.is_open:
                return self._withdraw()
        except Error as error:
            logger.warning("The lock of record %d was lost: %s", self._record.id, error)
        return self._take_back() is State.CLAIMED and self._withdraw()

    def _withdraw(self) -> bool:
        try:
            using = self._store.using
            with self._session.entered():
                is_open = connections[using].in_atomic_block
                with nullcontext() if is_open else write_transaction(using):
                    removed = self._store.withdraw(self._record)
                    self._step_log.forget([self._record.id])
            if removed:
                self._session.commit()
        finally:
            self._session.close()
        return removed

    def release(self, nothing_done: bool = False) -> None:
        self._has_ended = True
        try:
            if nothing_done and self._has_started:
                self._end()
        finally:
            self._session.close()

    def _end(self) -> None:
        """Say in the step log that nothing was done, in the transaction of the lock if it is still
        there: then both end at once."""
        place = self._record.id, self._record.attempt
        if self._session.is_open:
            try:
                commits = self._session.commits_alone
                with self._session.entered():
                    self._step_log.end(*place, commits)
                return self._session.commit()
            except Error as error:
                self._warn_of(error)
                self._session.close()
        return self._step_log.end(*place)

    def _warn_of(self, error: Error) -> None:
        name = name_in_logs(self._record.key, self._record.scope)
        logger.warning("%s: its lock was lost: %s", name, cause_of(error))

    def _lock(self, record_id: int, wait: timedelta = AT_ONCE) -> Snapshot | None:
        locked = None
        try:
            locked = self._session.lock(self._store, record_id, wait)
        finally:
            if locked is None:
                self._session.close()
        return locked

    def _bump_fencing_token(self) -> bool:
        """Commit a new token, so that the previous attempt cannot store anything (I12)."""
        commits = self._session.commits_alone
        with self._session.entered():
            self._store.bump_fencing_token(self._record, commits)
        self._session.commit()
        locked = self._lock(self._record.id)
        # A rival may be faster now. It does the same, so one of them runs.
        if locked is None or locked.state is not State.CLAIMED:
            self._session.close()
            return False
        self._record = locked
        return True

    def _take_back(self) -> State | None:
        """Lock the record again, in a new session, after the old one has ended.

        A fencing token is given to one attempt only. So while the record has ours, no other attempt
        has started, and what we did is still the only thing that was done.

        :return: the state of the record; ``None`` if it belongs to another attempt now, is gone, or
            is locked. Locked by us only if claimed.
        """
        self._session.close()
        try:
            locked = self._lock(self._record.id)
        except (Busy, Gone, Error):
            return None
        is_ours = locked is not None and locked.attempt == self._record.attempt
        if locked is None or not is_ours or locked.state is not State.CLAIMED:
            self._session.close()
        if locked is None or not is_ours:
            return None
        self._record = locked
        return locked.state
