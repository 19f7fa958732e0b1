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
from ..lifecycle.resumed import ResumedOperation, sealed
from ..lifecycle.row_lock import NoteOf, RowLockHold, keep, nobody
from ..lifecycle.session import IN_A_TRANSACTION, refuse_transactions, session_of
from ..lifecycle.transaction import RequestBlock
from ..lifecycle.waiting import IMPATIENT, Patience
from ..models import IdempotencyRecord
from ..policy import InFlight, Interrupted, Policy
from ..policy import Store as Stores
from ..protocol.decision import Replay, decide
from ..protocol.record import Claim, Snapshot
from ..stores.base import Claims
from ..stores.db import DatabaseStore
from ..stores.journal import Journal, Note
from ..values import name_of
from .resolving import resolve_by
from .stores import cache_store_of, store_of


def operation_of(policy: Policy, claim: Claim, view: Any, caller: Any = None) -> Operation:
    """Return the operation of a claim, not begun.

    :param caller: the request that policy's own functions get: Django's, or DRF's around it
    :param view: the function view that Django calls next, if it has not yet
    """
    using = policy.using or router.db_for_write(IdempotencyRecord)
    if policy.store is Stores.CACHE:
        _refuse_request_blocks(view)
        return _leased(policy, claim)
    if not policy.atomic:
        _refuse_request_blocks(view)
        return _non_atomic(policy, claim, using, caller)
    return AtomicOperation(
        store_of(policy, using),
        claim,
        using,
        _patience(policy),
        _request_block(view, getattr(caller, "_request", caller), using),
    )


def record_of(policy: Policy, claim: Claim) -> Snapshot | None:
    """Return the record under a claim, and claim nothing; ``None`` if there is none.

    :raises Outage: if the store is out of reach
    """
    store: Claims
    if policy.store is Stores.CACHE:
        store = cache_store_of(policy)
    else:
        store = store_of(policy, policy.using or router.db_for_write(IdempotencyRecord))
    return store.recall(claim) or store.look(claim)


def replay_of(policy: Policy, claim: Claim) -> Replay | None:
    """Return what is stored under a claim, and claim nothing; ``None`` if it is not completed.

    :raises Outage: if the store is out of reach
    """
    known = record_of(policy, claim)
    found = None if known is None else decide(known, claim.fingerprint)
    return found if isinstance(found, Replay) else None


def _non_atomic(policy: Policy, claim: Claim, using: str, caller: Any) -> Operation:
    store, journal, hold = _held(policy, using, _note_of(policy, claim, caller))
    return NonAtomicOperation(store, claim, hold, _resolve(policy), _patience(policy), journal)


def resumed_operation(policy: Policy, claim: Claim, using: str, attempt: int) -> ResumedOperation:
    """Return an operation that goes on without its caller, not begun.

    Without a resolver it runs: the policy has a handler for just that.

    :param attempt: the one that was interrupted
    """
    asks = policy.resolver is not None and policy.on_interrupted is Interrupted.REFUSE
    store, journal, hold = _held(policy, using, keep)
    resolve = _resolve(policy) if asks else run_again
    return ResumedOperation(store, claim, hold, resolve, journal, attempt)


def _held(
    policy: Policy, using: str, note_of: NoteOf
) -> tuple[DatabaseStore, Journal, RowLockHold]:
    store = store_of(policy, using, is_durable=True)
    journal = Journal(using, Vault(policy.codec, configuration().keyring))
    session = session_of(using, policy.hold_limit)
    return store, journal, RowLockHold(store, journal, session, note_of)


def _note_of(policy: Policy, claim: Claim, caller: Any) -> NoteOf:
    handler, ask = policy.resumable, policy.resume_data
    if handler is None:
        return nobody

    def note_of(record: Snapshot) -> Note:
        data = None if ask is None else ask(caller)
        return sealed(claim, record, name_of(handler), data)

    return note_of


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


def _request_block(view: Any, request: Any, using: str) -> RequestBlock:
    """Return where the block of ``ATOMIC_REQUESTS`` is now, as ``BaseHandler`` decides about it."""
    if view is not None:
        return RequestBlock.LATER if _gets_request_block(view, using) else RequestBlock.NONE
    # A view that Django's handler has not called has no such block either.
    match = getattr(request, "resolver_match", None)
    gets_one = match is not None and _gets_request_block(match.func, using)
    return RequestBlock.AROUND if gets_one else RequestBlock.NONE


def _gets_request_block(view: Any, using: str) -> bool:
    """Whether Django runs a view in a block of its own on this database."""
    if view is None or not connections[using].settings_dict["ATOMIC_REQUESTS"]:
        return False
    return using not in getattr(view, "_non_atomic_requests", ())
