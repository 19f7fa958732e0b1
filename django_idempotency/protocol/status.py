"""What a caller may know about an operation of its own, without sending the request again."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .record import Omitted, State, StoredResponse


class Standing(StrEnum):
    """How an operation stands.

    ``claimed`` is in flight or interrupted, where the database does not say which.
    """

    IN_FLIGHT = "in_flight"
    INTERRUPTED = "interrupted"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class OperationStatus:
    """A record as its caller sees it.

    :ivar outcome_unknown: an attempt outside of a transaction ended without saying what it did
    :ivar response: of a completed operation; a store may leave headers and body out
    :ivar scope: of the record, without which an encrypted response does not open
    :ivar created_at: ``None`` if the store does not keep it; so is ``completed_at``
    """

    standing: Standing
    outcome_unknown: bool
    expires_at: datetime
    created_at: datetime | None = None
    completed_at: datetime | None = None
    response: StoredResponse | None = None
    scope: str = field(default="", repr=False)


def standing_of(
    state: State, response: StoredResponse | None, held: bool | None, expired: bool
) -> Standing:
    """Return how a record stands; what is held never counts as expired.

    :param held: whether an attempt holds it; ``None`` if nobody can say
    """
    if state is State.CLAIMED and held:
        return Standing.IN_FLIGHT
    if expired:
        return Standing.EXPIRED
    if response is not None:
        refused = response.omitted is Omitted.REFUSED
        return Standing.REFUSED if refused else Standing.COMPLETED
    return Standing.CLAIMED if held is None else Standing.INTERRUPTED
