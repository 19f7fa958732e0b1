"""Holding a record by its row lock, in a session of its own."""

from collections.abc import Callable
from datetime import timedelta

from ..protocol.record import Snapshot, State, StoredResponse
from ..stores.db import DatabaseStore
from ..stores.journal import NOBODY, Journal, Note
from .session import Session
from .waiting import IMPATIENT

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
        self._is_fresh = False
        self._has_started = False
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
        return self._session.is_alive()

    def complete(self, response: StoredResponse, retention: timedelta) -> bool:
        if not self._session.is_open and not self._is_still_ours():
            return False
        try:
            with self._session.entered():
                stored = self._store.complete(self._record, response, retention)
            self._session.commit()
        finally:
            self._session.close()
        return stored

    def release(self, nothing_done: bool = False) -> None:
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

    def _is_still_ours(self) -> bool:
        locked = self._lock(self._record.id)
        if locked is None:
            return False
        if (locked.state, locked.attempt) == (State.CLAIMED, self._record.attempt):
            self._record = locked
            return True
        self._session.close()
        return False
