"""Holding a record by its row lock, in a session of its own."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from django.db import Error

from ..protocol.record import Snapshot, State, StoredResponse
from ..stores.base import Busy
from ..stores.db import DatabaseStore
from ..stores.journal import NOBODY, Journal, Note
from .session import Session
from .waiting import IMPATIENT

logger = logging.getLogger("django_idempotency")

NoteOf = Callable[[Snapshot], Note | None]
"""What to note when an attempt starts under a record; ``None`` leaves what is noted."""


def nobody(record: Snapshot) -> Note:
    """Only a retry can go on."""
    return NOBODY


def keep(record: Snapshot) -> None:
    """This attempt was itself started from the note."""


class RowLockHold:
    """The lock lives and dies with a transaction of the database, and so with this process: a
    crash is known at once. It is kept beside the view, whose own transactions come and go.

    :param store: where the record is
    :param journal: what attempts say about their start and end
    :param note_of: asked when an attempt starts
    """

    def __init__(
        self,
        store: DatabaseStore,
        journal: Journal,
        session: Session,
        note_of: NoteOf = nobody,
    ) -> None:
        self._store = store
        self._journal = journal
        self._session = session
        self._note_of = note_of
        self._record: Snapshot
        self._asking = threading.Lock()
        self._is_fresh = False
        self._has_started = False
        self._has_ended = False
        self.interrupted = False

    def take(self, record: Snapshot, patience: timedelta) -> Snapshot | None:
        locked = self._lock(record.id, patience)
        if locked is None:
            return None
        # Another may have come and gone between our claim and our lock.
        self._record = locked
        self._is_fresh = record.fresh and record.attempt == locked.attempt
        self.interrupted = not self._is_fresh and self._journal.is_open(record.id)
        return locked

    def start(self) -> Snapshot | None:
        if not self._is_fresh and not self._renumber():
            return None
        note = self._note_of(self._record)
        if not self._journal.start(self._record.id, self._record.attempt, note):
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
                logger.warning("The lock of record %d was lost: %s", self._record.id, error)
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
            with self._session.entered():
                stored = self._store.complete(self._record, response, retention)
            self._session.commit()
        finally:
            self._session.close()
        return stored

    def release(self, nothing_done: bool = False) -> None:
        self._has_ended = True
        try:
            if nothing_done and self._has_started:
                self._journal.end(self._record.id, self._record.attempt)
        finally:
            self._session.close()

    def _lock(self, record_id: int, patience: timedelta = IMPATIENT.timeout) -> Snapshot | None:
        locked = None
        try:
            locked = self._session.lock(self._store, record_id, patience)
        finally:
            if locked is None:
                self._session.close()
        return locked

    def _renumber(self) -> bool:
        """Commit a number of our own, so that a predecessor can store nothing any more (I12)."""
        with self._session.entered():
            self._store.renumber(self._record)
        self._session.commit()
        locked = self._lock(self._record.id)
        # Others may be faster now. They do the same, so somebody runs.
        if locked is None or locked.state is not State.CLAIMED:
            self._session.close()
            return False
        self._record = locked
        return True

    def _take_back(self) -> State | None:
        """Lock the record again, in a new session, after the old one has ended.

        A number is given to one attempt only. So while the record has ours, no other attempt has
        started, and what we did is still the only thing that was done.

        :return: the state of the record; ``None`` if it belongs to another attempt now, is gone, or
            is locked by somebody. Held only if claimed.
        """
        self._session.close()
        try:
            locked = self._lock(self._record.id)
        except (Busy, Error):
            return None
        if locked is not None and locked.attempt == self._record.attempt:
            self._record = locked
            if locked.state is not State.CLAIMED:
                self._session.close()
            return locked.state
        self._session.close()
        return None
