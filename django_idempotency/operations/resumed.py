"""Finishing an interrupted operation without its caller."""

import json
from typing import Any

from ..protocol.codecs import Unreadable
from ..protocol.keys import derived_uuid
from ..protocol.record import Claim, Snapshot, State, plain_text
from ..stores.base import Claims
from ..stores.database.step_log import ResumePayload, StepLog
from .base import Begun
from .errors import NotResumable
from .non_atomic import NonAtomicOperation, Resolve
from .row_lock import RecordLock


def sealed(claim: Claim, record: Snapshot, handler: str, data: Any) -> ResumePayload:
    """Return the note from which :class:`ResumedOperation` goes on.

    :param data: plain data
    :raises TypeError: if it is not plain
    """
    text = plain_text(data)
    if text is None:
        raise TypeError(
            f"resume_data returned {type(data).__name__} that is not plain data: use None, bool, "
            "numbers, text, lists, and dicts with text as keys. Nothing has run."
        )
    return ResumePayload(handler, f"{_seal(claim, record, handler, text)}:{text}")


class ResumedOperation(NonAtomicOperation):
    """Takes the place of a retry that does not come: the same record, held in the same way.

    :param claim: of the record, as it is stored
    :param journal: where the attempt before has left its note
    :param attempt: the one that was interrupted
    :ivar data: what that attempt's request was about
    """

    def __init__(
        self,
        store: Claims,
        claim: Claim,
        hold: RecordLock,
        resolve: Resolve,
        step_log: StepLog,
        attempt: int,
    ) -> None:
        super().__init__(store, claim, hold, resolve, step_log=step_log)
        self._notes = step_log
        self._expected = attempt
        self.data: Any = None

    def resume(self, record_id: int, handler: str) -> Begun | None:
        """RecordLock the record and start; ``None`` if there is nothing to resume any more.

        :param handler: name of the handler that will be called
        :raises NotResumable: if the note is not what an attempt of this operation wrote
        """
        self._handler = handler
        return self._hold(
            Snapshot(record_id, State.CLAIMED, 0, self._claim.fingerprint, False, None)
        )

    def _consider(self) -> Begun | None:
        if not self._holding.interrupted or self._record.attempt != self._expected:
            return None
        # Before anybody derives a key: with another secret it would be another one.
        self.data = self._opened(self._noted())
        return self._after_interruption()

    def _noted(self) -> ResumePayload:
        try:
            return self._notes.payload(self._record.id)
        except Unreadable as error:
            raise NotResumable(f"its data cannot be read: {error}") from error

    def _opened(self, note: ResumePayload) -> Any:
        seal, _, text = note.text.partition(":")
        if note.handler != self._handler or seal != _seal(
            self._claim, self._record, note.handler, text
        ):
            raise NotResumable("its data was stored under another SECRET, or changed")
        return json.loads(text)


def _seal(claim: Claim, record: Snapshot, handler: str, text: str) -> str:
    """Depends on our secret: proves that we wrote the note, and that derived keys are the same."""
    return derived_uuid(claim, (str(record.id), "resume", handler, text))
