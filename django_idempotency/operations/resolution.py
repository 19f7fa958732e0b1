"""Resolve an interrupted operation by hand, where no code knows what it did."""

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum

from django.db import connections

from ..protocol.codecs import Codec, Keyring, Owner, encode
from ..protocol.record import Omitted, Snapshot, State, StoredResponse
from ..stores.base import Busy
from ..stores.database.step_log import StepLog
from ..stores.database.store import DatabaseStore
from ..stores.database.transactions import contention_is_busy, write_transaction

REFUSED = StoredResponse(409, omitted=Omitted.REFUSED)
"""Stored for an operation that is refused for good."""


class ResolutionOutcome(StrEnum):
    """What became of an operator's decision."""

    DONE = "done"
    IN_FLIGHT = "in flight"
    GONE = "gone"
    NOT_INTERRUPTED = "not interrupted"


class ManualResolution:
    """Resolves interrupted operations of non-atomic mode, one at a time, beside live traffic.

    It locks the record as an attempt would, so an operation in flight is left alone, and of two
    concurrent decisions one counts.

    :param using: alias of the database
    :param keyring: encrypts responses
    :param codec: the least that is done to a response: encrypted here means always encrypted
    """

    def __init__(
        self, using: str, keyring: Keyring | None = None, codec: Codec = Codec.PLAIN
    ) -> None:
        self.using = using
        self._keyring = keyring or Keyring()
        self._codec = codec
        self._store = DatabaseStore(using)
        self._step_log = StepLog(using)

    def rerun(self, record_id: int) -> ResolutionOutcome:
        """Let the next retry run the operation again, from the first step that is not done."""

        def end(record: Snapshot) -> None:
            # An attempt that has not started may have counted in the record, but not there.
            self._step_log.end(record.id, self._step_log.look(record.id).number)

        return self._resolve(record_id, end)

    def answer(
        self, record_id: int, response: StoredResponse, retention: timedelta
    ) -> ResolutionOutcome:
        """Give the operation a response, which replays.

        It is compressed and encrypted as the view's policy said when the record was claimed, and
        encrypted in any case if the codec of this object encrypts.

        :param retention: how long it replays, from now
        :raises NoKeys: if the response must be encrypted and there is no key
        """

        def complete(record: Snapshot) -> None:
            codec = Codec(self._store.codec_of(record.id) or self._codec)
            if self._codec.encrypts and not codec.encrypts:
                codec = self._codec
            owner = Owner(record.scope, record.key)
            encoded = encode(response, codec, self._keyring, owner)
            self._store.complete(record, encoded, retention)

        return self._resolve(record_id, complete)

    def refuse(self, record_id: int, retention: timedelta) -> ResolutionOutcome:
        """Never run the operation again; retries are told so."""
        return self.answer(record_id, REFUSED, retention)

    def _resolve(self, record_id: int, act: Callable[[Snapshot], None]) -> ResolutionOutcome:
        try:
            with contention_is_busy(self.using), write_transaction(self.using):
                if self._store.dialect.has_file_lock(connections[self.using], record_id):
                    return ResolutionOutcome.IN_FLIGHT
                record = self._store.lock(record_id)
                if record is None:
                    exists = self._store.exists(record_id)
                    return ResolutionOutcome.IN_FLIGHT if exists else ResolutionOutcome.GONE
                if record.state is not State.CLAIMED or not self._step_log.is_open(record_id):
                    return ResolutionOutcome.NOT_INTERRUPTED
                if not self._step_log.is_free(record_id):
                    return ResolutionOutcome.IN_FLIGHT
                act(record)
                return ResolutionOutcome.DONE
        except Busy:
            return ResolutionOutcome.IN_FLIGHT
