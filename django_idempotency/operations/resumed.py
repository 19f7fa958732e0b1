"""Finish an interrupted operation without its caller."""

import json
from collections.abc import Callable
from typing import Any

from ..protocol.codecs import Unreadable
from ..protocol.record import PLAIN_DATA, Claim, Snapshot, State, plain_text
from ..protocol.signing import signed, verified
from ..stores.base import Claims, Gone
from ..stores.database.step_log import ResumePayload, StepLog
from .base import BeginResult, Retry, Started
from .errors import NotResumable
from .non_atomic import NonAtomicOperation, Resolve
from .row_lock import RecordLock

Work = Callable[["ResumedOperation"], Any]
"""Finishes an operation in place of its client, and returns the response."""

Prepare = Callable[[Any], Work]
"""Given what the interrupted attempt has stored, returns the work. It refuses what cannot be done
while nothing has run.

:raises NotResumable: to refuse it
"""


def signed_payload(claim: Claim, record: Snapshot, handler: str, data: Any) -> ResumePayload:
    """Return the payload from which :class:`ResumedOperation` goes on.

    :param data: plain data
    :raises TypeError: if it is not plain
    """
    text = plain_text(data)
    if text is None:
        raise TypeError(
            f"resume_data returned {type(data).__name__} that is not plain data: use {PLAIN_DATA}. "
            "Nothing has run."
        )
    return ResumePayload(handler, signed(text, claim.secret, _place(claim, record, handler)))


class ResumedOperation(NonAtomicOperation):
    """Takes the place of a retry that does not come: the same record, locked in the same way.

    :param claim: of the record, as it is stored
    :param step_log: where the interrupted attempt has left its payload
    :param attempt: the one that was interrupted
    :ivar work: finishes the operation, and returns its response
    """

    _step_log: StepLog
    work: Work

    def __init__(
        self,
        store: Claims,
        claim: Claim,
        lock: RecordLock,
        resolve: Resolve,
        step_log: StepLog,
        attempt: int,
    ) -> None:
        super().__init__(store, claim, lock, resolve, step_log=step_log)
        self._expected = attempt

    def resume(self, record_id: int, handler: str, prepare: Prepare) -> BeginResult | Retry:
        """Lock the record and start; :class:`Retry` if there is nothing to resume any more.

        :param handler: name of the handler that will be called
        :param prepare: called before anything starts
        :raises NotResumable: if the payload is not what an attempt of this operation wrote
        """
        self._handler = handler
        self._prepare = prepare
        fingerprint = self._claim.fingerprint
        try:
            return self._lock(Snapshot(record_id, State.CLAIMED, 0, fingerprint, False, None))
        except Gone:
            return Retry()

    def _after_interruption(self) -> BeginResult | Retry:
        if not self._record_lock.interrupted or self._record.attempt != self._expected:
            return Retry()
        # Before a key is derived: with another secret it would be another one.
        try:
            payload = self._step_log.payload(self._record.id)
        except Unreadable as error:
            raise NotResumable(f"its data cannot be read: {error}") from error
        place = _place(self._claim, self._record, self._handler)
        text = verified(payload.text, self._claim.secret, place)
        if text is None:
            raise NotResumable("its data was stored under another SECRET, or changed")
        begun = super()._after_interruption()
        if isinstance(begun, Started):
            self.work = self._prepare(json.loads(text))
        return begun


def _place(claim: Claim, record: Snapshot, handler: str) -> tuple[str, ...]:
    return ("resume", claim.scope, claim.key, str(record.id), handler)
