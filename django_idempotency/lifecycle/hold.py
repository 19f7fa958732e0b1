"""How an attempt keeps its record while its view runs in transactions of its own."""

from datetime import timedelta
from typing import Protocol

from ..protocol.record import Snapshot, StoredResponse


class Hold(Protocol):
    """Holds at most one record. Only who holds it may store, and losing it is noticed then (I12).

    The calls come in this order: ``take``, then ``start``, then ``complete`` or ``release``.
    """

    @property
    def interrupted(self) -> bool:
        """Whether an attempt before us had started and never said how it ended.

        Valid after :meth:`take`.
        """

    def take(self, record: Snapshot, patience: timedelta) -> Snapshot | None:
        """Hold a claimed record, if nobody else does; ``None`` if somebody does, or it is gone.

        :param record: what the claim found; ``fresh`` if it was created for this very request
        :param patience: how long to wait for another's hold
        :return: the record as it is, now that nobody else can change it
        :raises Busy: if the store cannot say, or has no means left to hold it with
        """

    def start(self) -> Snapshot | None:
        """Remember that an attempt starts, under a number of its own, before its view runs.

        :return: the record with that number; ``None`` if the hold was lost meanwhile
        """

    def is_held(self) -> bool:
        """Whether the record is still held. It may be lost the moment after.

        What was lost is taken back, if no other attempt has started since.
        """

    def complete(self, response: StoredResponse, retention: timedelta) -> bool:
        """Store the response and let go; ``False`` if the record is not this attempt's now.

        After :meth:`release`, or if the record was lost, it is taken again, unless another attempt
        has started.
        """

    def release(self, nothing_done: bool = False) -> None:
        """Let go without a response. Harmless if nothing is held.

        :param nothing_done: the attempt says that it has no effect that is not accounted for;
            otherwise it counts as interrupted, if it had started
        """
