"""What people may do about an interrupted operation, when nobody else knows what it did."""

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum

from django.db import connections

from ..protocol.codecs import Codec, Keyring, Owner, encode
from ..protocol.record import Omitted, Snapshot, State, StoredResponse
from ..stores.base import Busy
from ..stores.database.contention import contention_is_busy
from ..stores.database.file_locks import is_held_by_file
from ..stores.database.step_log import StepLog
from ..stores.database.store import DatabaseStore
from ..stores.database.transactions import write_transaction

REFUSED = StoredResponse(409, omitted=Omitted.REFUSED)
"""Stored for an operation that is refused for good."""


class Settled(StrEnum):
    """What became of a person's decision."""

    DONE = "done"
    IN_FLIGHT = "in flight"
    GONE = "gone"
    NOT_INTERRUPTED = "not interrupted"


class ManualResolution:
    """Settles interrupted operations of non-atomic mode, one at a time, beside live traffic.

    Whoever settles holds the record as an attempt would. So an operation in flight is left alone,
    and of two decisions one counts.

    :param using: alias of the database
    :param keyring: encrypts answers
    :param codec: what answers are written down with, at least
    """

    def __init__(
        self, using: str, keyring: Keyring | None = None, codec: Codec = Codec.PLAIN
    ) -> None:
        self.using = using
        self._keyring = keyring or Keyring()
        self._codec = codec
        self._store = DatabaseStore(using)
        self._step_log = StepLog(using)

    def rerun(self, record_id: int) -> Settled:
        """Let the operation run again, from the first step that is not done."""
        return self._settle(record_id, self._end)

    def answer(self, record_id: int, response: StoredResponse, retention: timedelta) -> Settled:
        """Give the operation a result, which replays.

        It is compressed and encrypted as its view's policy said when the record was claimed, and
        encrypted if the desk's codec does that.

        :param retention: how long, from now
        :raises NoKeys: if it is to be encrypted and cannot be
        """

        def complete(record: Snapshot) -> bool:
            codec = Codec(self._store.codec_of(record.id) or self._codec)
            if self._codec.encrypts and not codec.encrypts:
                codec = self._codec
            owner = Owner(record.scope, record.key)
            encoded = encode(response, codec, self._keyring, owner)
            return self._store.complete(record, encoded, retention)

        return self._settle(record_id, complete)

    def refuse(self, record_id: int, retention: timedelta) -> Settled:
        """Never run the operation again; its caller is told so."""
        return self.answer(record_id, REFUSED, retention)

    def _settle(self, record_id: int, act: Callable[[Snapshot], object]) -> Settled:
        try:
            with contention_is_busy(), write_transaction(self.using):
                if is_held_by_file(connections[self.using], record_id):
                    return Settled.IN_FLIGHT
                record = self._store.lock(record_id)
                if record is None:
                    return Settled.IN_FLIGHT if self._store.exists(record_id) else Settled.GONE
                if record.state is not State.CLAIMED or not self._step_log.is_open(record_id):
                    return Settled.NOT_INTERRUPTED
                if not self._step_log.is_free(record_id):
                    return Settled.IN_FLIGHT
                act(record)
                return Settled.DONE
        except Busy:
            return Settled.IN_FLIGHT

    def _end(self, record: Snapshot) -> None:
        self._step_log.end(record.id, record.attempt)
