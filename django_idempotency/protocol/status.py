"""The status of an operation: as its caller sees it, and as a resolver finds it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .record import Omitted, State, StoredResponse


class OperationState(StrEnum):
    """State of an operation.

    ``claimed`` means in flight or interrupted, where the database does not say which.
    """

    IN_FLIGHT = "in_flight"
    INTERRUPTED = "interrupted"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    REFUSED = "refused"
    EXPIRED = "expired"


def operation_state(
    state: State, response: StoredResponse | None, held: bool | None, expired: bool
) -> OperationState:
    """Return the state of a record's operation. A record that an attempt holds is never expired.

    :param held: whether an attempt holds the record; ``None`` if the database does not say
    """
    if state is State.CLAIMED and held:
        return OperationState.IN_FLIGHT
    if expired:
        return OperationState.EXPIRED
    if response is not None:
        refused = response.omitted is Omitted.REFUSED
        return OperationState.REFUSED if refused else OperationState.COMPLETED
    return OperationState.CLAIMED if held is None else OperationState.INTERRUPTED


@dataclass(frozen=True, slots=True)
class OperationStatus:
    """A record as its caller sees it.

    :ivar outcome_unknown: an attempt in non-atomic mode ended without saying what it did
    :ivar response: of a completed operation; a store may leave headers and body out
    :ivar scope: of the record; an encrypted response opens with it only
    :ivar record_id: of the record, where it is a row of a database
    :ivar created_at: ``None`` if the store does not keep it; so is ``completed_at``
    """

    state: OperationState
    outcome_unknown: bool
    expires_at: datetime
    created_at: datetime | None = None
    completed_at: datetime | None = None
    response: StoredResponse | None = None
    scope: str = field(default="", repr=False)
    record_id: int | None = None


class ResolverAnswer(StrEnum):
    """What a resolver answers if it has no response."""

    RUN_AGAIN = "run again"
    STILL_UNKNOWN = "still unknown"
