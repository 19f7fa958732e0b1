"""Which kind of operation a policy asks for, on which store."""

from typing import Any

from django.db import connections, router

from ..lifecycle.atomic import AtomicOperation
from ..lifecycle.operation import Operation
from ..lifecycle.waiting import IMPATIENT, Patience
from ..models import IdempotencyRecord
from ..policy import InFlight, Policy
from ..protocol.record import Claim
from ..stores.db import DatabaseStore


def operation_of(policy: Policy, claim: Claim, view: Any) -> Operation:
    """Return the operation of a claim, not begun.

    :param view: the function view that Django calls next, if it has not yet
    """
    using = policy.using or router.db_for_write(IdempotencyRecord)
    return AtomicOperation(
        DatabaseStore(using), claim, using, _patience(policy), _gets_request_block(view, using)
    )


def _patience(policy: Policy) -> Patience:
    waits = policy.in_flight is InFlight.WAIT
    return Patience(policy.wait_timeout, policy.wait_limit) if waits else IMPATIENT


def _gets_request_block(view: Any, using: str) -> bool:
    """Whether Django will run a function view in a block of its own, inside our transaction."""
    if view is None or not connections[using].settings_dict["ATOMIC_REQUESTS"]:
        return False
    return using not in getattr(view, "_non_atomic_requests", ())
