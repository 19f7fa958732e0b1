"""Which kind of operation a policy asks for, on which store."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from ..codecs import Vault
from ..conf import configuration
from ..lifecycle.atomic import AtomicOperation
from ..lifecycle.lease import LeaseHold
from ..lifecycle.non_atomic import NonAtomicOperation, Resolve, run_again, still_unknown
from ..lifecycle.operation import Operation
from ..lifecycle.row_lock import RowLockHold
from ..lifecycle.session import IN_A_TRANSACTION, refuse_transactions, session_of
from ..lifecycle.waiting import IMPATIENT, Patience
from ..models import IdempotencyRecord
from ..policy import InFlight, Interrupted, Policy
from ..policy import Store as Stores
from ..protocol.record import Claim
from ..stores.journal import Journal
from .resolving import resolve_by
from .stores import cache_store_of, store_of


def operation_of(policy: Policy, claim: Claim, view: Any) -> Operation:
    """Return the operation of a claim, not begun.

    :param view: the function view that Django calls next, if it has not yet
    """
    using = policy.using or router.db_for_write(IdempotencyRecord)
    if policy.store is Stores.CACHE:
        _refuse_request_blocks(view)
        return _leased(policy, claim)
    if not policy.atomic:
        _refuse_request_blocks(view)
        return _non_atomic(policy, claim, using)
    return AtomicOperation(
        store_of(policy, using),
        claim,
        using,
        _patience(policy),
        _gets_request_block(view, using),
    )


def _non_atomic(policy: Policy, claim: Claim, using: str) -> Operation:
    store = store_of(policy, using, is_durable=True)
    journal = Journal(using, Vault(policy.codec, configuration().keyring))
    hold = RowLockHold(store, journal, session_of(using, policy.hold_limit))
    return NonAtomicOperation(store, claim, hold, _resolve(policy), _patience(policy), journal)


def _leased(policy: Policy, claim: Claim) -> Operation:
    refuse_transactions()
    store = cache_store_of(policy)
    return NonAtomicOperation(store, claim, LeaseHold(store), _resolve(policy), _patience(policy))


def _refuse_request_blocks(view: Any) -> None:
    """As :func:`session_of` does, if Django has begun them already."""
    for alias in connections:
        if _gets_request_block(view, alias):
            raise ImproperlyConfigured(IN_A_TRANSACTION.format(alias))


def _resolve(policy: Policy) -> Resolve:
    if policy.on_interrupted is Interrupted.RUN:
        return run_again
    return still_unknown if policy.resolver is None else resolve_by(policy.resolver, policy)


def _patience(policy: Policy) -> Patience:
    waits = policy.in_flight is InFlight.WAIT
    return Patience(policy.wait_timeout, policy.wait_limit) if waits else IMPATIENT


def _gets_request_block(view: Any, using: str) -> bool:
    """Whether Django will run a function view in a block of its own, inside our transaction."""
    if view is None or not connections[using].settings_dict["ATOMIC_REQUESTS"]:
        return False
    return using not in getattr(view, "_non_atomic_requests", ())
