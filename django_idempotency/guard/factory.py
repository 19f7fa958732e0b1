"""Which kind of operation a policy asks for, on which store."""

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.http.response import HttpResponseBase

from ..compat.frameworks import has_request_block
from ..conf.policy import VIEW, OnInFlight, OnInterrupted, Policy, StoreKind
from ..conf.settings import configuration
from ..conf.values import dotted_path
from ..http.kept_request import NotKept, kept_request
from ..http.responses import Render, rendered, serialize, storage_choices, stores_status
from ..models import IdempotencyRecord
from ..operations.atomic import AtomicOperation
from ..operations.base import NO_WAIT, Answered, Operation, Wait
from ..operations.lease import Lease
from ..operations.non_atomic import (
    NonAtomicOperation,
    Resolve,
    Resolved,
    run_again,
    still_unknown,
)
from ..operations.resumed import ResumedOperation, signed_payload
from ..operations.row_lock import PayloadOf, RowLock, keep_payload, no_payload
from ..operations.sessions import IN_A_TRANSACTION, refuse_transactions, session_of
from ..operations.transaction import RequestBlock
from ..protocol.codecs import Cipher
from ..protocol.keys import name_in_logs
from ..protocol.record import Claim, Replay, Snapshot, decide
from ..protocol.status import ResolverAnswer
from ..stores.base import Claims
from ..stores.cache.cached_database import CachedDatabaseStore
from ..stores.cache.store import CacheStore
from ..stores.database.dialects import dialect_of
from ..stores.database.location import location_of
from ..stores.database.step_log import NO_PAYLOAD, ResumePayload, StepLog
from ..stores.database.store import DatabaseStore

logger = logging.getLogger("django_idempotency")


def store_of(policy: Policy, using: str, outcome_open: bool = False) -> DatabaseStore:
    """Return the store of one request.

    :param using: alias of the database
    :param outcome_open: see :class:`.DatabaseStore`
    """
    if policy.store is StoreKind.CACHED_DB:
        return CachedDatabaseStore(
            using, outcome_open, cache=cache_alias(policy), secret=configuration().secret
        )
    return DatabaseStore(using, outcome_open)


def cache_store_of(policy: Policy) -> CacheStore:
    """Return the store of one request whose records are in a cache alone."""
    # Not where the database is: a failover must not make records forgotten that are elsewhere.
    location = location_of(records_alias(policy))
    return CacheStore(
        cache_alias(policy), configuration().secret, policy.lease, (location.using, location.schema)
    )


def records_alias(policy: Policy) -> str:
    """Return the alias of the database where records lie; a router may choose by request."""
    return IdempotencyRecord.alias(policy.using)


def cache_alias(policy: Policy) -> str:
    """Return the alias of the cache.

    :raises ImproperlyConfigured: if there is none
    """
    alias = configuration().cache
    if alias is None:
        raise ImproperlyConfigured(
            f'The store "{policy.store}" needs a cache. Set IDEMPOTENCY["CACHE"] to its alias.'
        )
    return alias


def resolve_by(
    resolver: Callable[[Any], Any], policy: Policy, render: Render = rendered
) -> Resolve:
    """Return a function that resolves an interrupted operation by its view's resolver.

    :param resolver: returns ``RUN_AGAIN``, ``STILL_UNKNOWN``, or a response, which is stored like
        the view's: a 503, or a response marked with ``do_not_remember``, leaves the operation
        interrupted
    :param render: makes a response of what the view's handler could return
    """

    def resolve(operation: Any) -> Resolved | Answered | ResolverAnswer:
        answer = resolver(operation)
        response = answer if isinstance(answer, ResolverAnswer) else render(answer)
        if isinstance(response, HttpResponseBase):
            choices = storage_choices(response)
            if not stores_status(response.status_code, policy, choices):
                return Answered(response)
            retention = choices.retention or policy.retention
            return Resolved(serialize(response, policy, choices, operation.owner), retention)
        try:
            return ResolverAnswer(answer)
        except ValueError:
            raise TypeError(
                f"The resolver returned {answer!r}; it must return a response, RUN_AGAIN or "
                "STILL_UNKNOWN (django_idempotency.resolving)."
            ) from None

    return resolve


def operation_of(
    policy: Policy, claim: Claim, view: Any, view_request: Any = None, render: Render = rendered
) -> Operation:
    """Return the operation of a claim, not begun.

    :param view_request: the request that the view gets, and so do the policy's functions
    :param view: the function view that Django calls next, if it has not yet
    :param render: makes a response of what the view's resolver returns
    """
    wait = NO_WAIT
    if policy.in_flight is OnInFlight.WAIT:
        wait = Wait(policy.wait_timeout, policy.wait_limit)
    if policy.store is StoreKind.CACHE or not policy.atomic:
        return _beside_transactions(policy, claim, view, view_request, wait, render)
    using = policy.using or router.db_for_write(IdempotencyRecord)
    connection = connections[using]
    if policy.store is StoreKind.CACHED_DB:
        store = store_of(policy, using)
    else:
        store = DatabaseStore(using, dialect=dialect_of(connection))
    block = RequestBlock.NONE
    if connection.settings_dict["ATOMIC_REQUESTS"]:
        block = _request_block(view, getattr(view_request, "_request", view_request), using)
    return AtomicOperation(store, claim, connection, wait, block)


def _beside_transactions(
    policy: Policy, claim: Claim, view: Any, view_request: Any, wait: Wait, render: Render
) -> NonAtomicOperation:
    """Return an operation whose view owns its transactions."""
    for alias in connections:
        # As session_of() does, if Django has begun them already.
        has_blocks = connections[alias].settings_dict["ATOMIC_REQUESTS"]
        if has_blocks and _request_block(view, None, alias) is not RequestBlock.NONE:
            raise ImproperlyConfigured(IN_A_TRANSACTION.format(alias))
    if policy.store is StoreKind.CACHE:
        refuse_transactions()
        cached = cache_store_of(policy)
        return NonAtomicOperation(cached, claim, Lease(cached), _resolve(policy, render), wait)
    using = IdempotencyRecord.alias(policy.using)
    store, step_log, lock = _locked(policy, using, _payload_of(policy, claim, view_request))
    return NonAtomicOperation(store, claim, lock, _resolve(policy, render), wait, step_log)


def record_of(policy: Policy, claim: Claim) -> Snapshot | None:
    """Return the record under a claim, and claim nothing; ``None`` if there is none.

    :raises Outage: if the store is out of reach
    """
    store: Claims
    if policy.store is StoreKind.CACHE:
        store = cache_store_of(policy)
    else:
        store = store_of(policy, IdempotencyRecord.alias(policy.using))
    return store.cached(claim) or store.look(claim)


def replay_of(policy: Policy, claim: Claim) -> Replay | None:
    """Return the stored response of a claim, and claim nothing; ``None`` if there is none.

    :raises Outage: if the store does not answer
    """
    known = record_of(policy, claim)
    found = None if known is None else decide(known, claim.fingerprint)
    return found if isinstance(found, Replay) else None


def resumed_operation(
    policy: Policy, claim: Claim, using: str, attempt: int, render: Render
) -> ResumedOperation:
    """Return an operation that goes on without its caller, not begun.

    Without a resolver it runs: the policy has a handler for just that.

    :param attempt: the one that was interrupted
    :param render: makes a response of what the view's resolver returns
    """
    asks = policy.resolver is not None and policy.on_interrupted is OnInterrupted.REFUSE
    store, step_log, lock = _locked(policy, using, keep_payload)
    resolve = _resolve(policy, render) if asks else run_again
    return ResumedOperation(store, claim, lock, resolve, step_log, attempt)


def _locked(
    policy: Policy, using: str, payload_of: PayloadOf
) -> tuple[DatabaseStore, StepLog, RowLock]:
    store = store_of(policy, using, outcome_open=True)
    step_log = StepLog(using, Cipher(policy.codec, configuration().keyring))
    session = session_of(using, policy.lock_connections)
    return store, step_log, RowLock(store, step_log, session, payload_of)


def _payload_of(policy: Policy, claim: Claim, view_request: Any) -> PayloadOf:
    handler, ask = policy.resumable, policy.resume_data
    if handler is None or view_request is None:
        return no_payload

    def payload_of(record: Snapshot) -> ResumePayload:
        if handler is not True:
            data = None if ask is None else ask(view_request)
            return signed_payload(claim, record, dotted_path(handler), data)
        request = getattr(view_request, "_request", view_request)
        try:
            return signed_payload(claim, record, VIEW, kept_request(request, view_request))
        except NotKept as why:
            logger.warning(
                "%s: only its client's retry can go on, should this attempt be interrupted, "
                "because %s",
                name_in_logs(claim.key, claim.scope),
                why,
            )
            return NO_PAYLOAD

    return payload_of


def _resolve(policy: Policy, render: Render) -> Resolve:
    if policy.on_interrupted is OnInterrupted.RUN:
        return run_again
    return still_unknown if policy.resolver is None else resolve_by(policy.resolver, policy, render)


def _request_block(view: Any, request: Any, using: str) -> RequestBlock:
    """Return where the block of ``ATOMIC_REQUESTS`` is now, as ``BaseHandler`` decides about it.

    :param using: alias of a database that has ``ATOMIC_REQUESTS``
    """
    # A view that Django's handler has not called has no such block either.
    match = getattr(request, "resolver_match", None)
    called = view if match is None or view is not None else match.func
    if called is None or not has_request_block(called, using):
        return RequestBlock.NONE
    return RequestBlock.AROUND if view is None else RequestBlock.LATER
