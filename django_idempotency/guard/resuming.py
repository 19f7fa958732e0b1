"""Finishing interrupted operations for clients that never come back."""

import logging
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..conf.policy import Policy
from ..conf.settings import configuration
from ..context import as_running
from ..http.responses import Render, serialize, storage_choices, stores_status
from ..operations.base import NOT_DONE, Started
from ..operations.errors import NotResumable
from ..operations.resumed import Prepare, ResumedOperation
from ..protocol.keys import name_in_logs
from ..protocol.record import Claim, Replay
from ..signals import Outcome, Subject, report
from ..stores.database.interrupted import ResumableOperation
from .factory import resumed_operation

logger = logging.getLogger("django_idempotency")


class Resumed(StrEnum):
    """What became of an operation that was to be resumed."""

    DONE = "done"
    FAILED = "failed"
    IMPOSSIBLE = "impossible"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Substitute:
    """What takes the place of the request that was interrupted.

    :ivar request: for receivers of signals: which view it was, and nothing that was sent to it
    :ivar render: renders what a handler or a resolver returns
    :ivar prepare: returns the handler to run, whose response is rendered
    """

    request: HttpRequest
    render: Render
    prepare: Prepare


def resume(
    found: ResumableOperation, policy: Policy, using: str, substitute: Substitute
) -> Resumed:
    """Run the handler of an interrupted operation, and store its response as a request's.

    An operation that fails or cannot start stays interrupted, and is logged. One that is in flight,
    resolved meanwhile, or still unknown to the view's resolver is skipped.

    :param policy: of the view; it names the handler that the operation does
    :param using: alias of the database of the record
    """
    claim = _claim(found, policy)
    try:
        operation = resumed_operation(policy, claim, using, found.attempt, substitute.render)
        begun = operation.resume(found.record_id, found.handler, substitute.prepare)
    except NotResumable as error:
        logger.error("%s: not resumed: %s", name_in_logs(found.key, found.scope), error)
        return Resumed.IMPOSSIBLE
    except Exception:
        logger.exception("%s: not resumed", name_in_logs(found.key, found.scope))
        return Resumed.IMPOSSIBLE
    if isinstance(begun, Started):
        try:
            return _run(operation, policy, substitute.request)
        except Exception:
            logger.exception("%s: not resumed", name_in_logs(found.key, found.scope))
            return Resumed.FAILED
    # The resolver has returned a response; without our lock, a retry was faster.
    return Resumed.DONE if isinstance(begun, Replay) and operation.attempt else Resumed.SKIPPED


def _run(operation: ResumedOperation, policy: Policy, request: HttpRequest) -> Resumed:
    owner = operation.owner
    subject = Subject(request, policy, owner.key, perf_counter(), owner.scope)
    try:
        with as_running(operation):
            response = operation.work(operation)
        subject.away = perf_counter() - subject.started
        outcome = _store(operation, response, policy)
    except BaseException as error:
        operation.fail(error)
        operation.abandon(error)
        cause = f"the handler raised {type(error).__qualname__}"
        report(subject, Outcome.INTERRUPTED, attempt=operation.attempt, cause=cause)
        raise
    cause = "the response is not stored" if outcome is Outcome.INTERRUPTED else ""
    report(subject, outcome, response.status_code, operation.attempt, cause=cause)
    return Resumed.FAILED if outcome is Outcome.INTERRUPTED else Resumed.DONE


def _store(operation: ResumedOperation, response: HttpResponseBase, policy: Policy) -> Outcome:
    if hasattr(response, NOT_DONE):
        is_free = operation.withdraw(keeps_writes=True)
        return Outcome.NOT_DONE if is_free else Outcome.INTERRUPTED
    choices = storage_choices(response)
    if not stores_status(response.status_code, policy, choices):
        # Even "not now" leaves it interrupted: the next run tries again.
        logger.error(
            "%s: not resumed: the handler answered %d, which is not stored",
            name_in_logs(operation.key, operation.owner.scope),
            response.status_code,
        )
        operation.finish(None)
        return Outcome.INTERRUPTED
    retention = choices.retention or policy.retention
    if policy.key_header is not None:
        response[policy.key_header] = operation.key
    stored = serialize(response, policy, choices, operation.owner, retention)
    return Outcome.RECOVERED if operation.finish(stored, retention) else Outcome.INTERRUPTED


def _claim(found: ResumableOperation, policy: Policy) -> Claim:
    """The claim of the request that was interrupted, as far as the record knows it."""
    return Claim(
        scope=found.scope,
        key=found.key,
        fingerprint=found.fingerprint,
        method=found.method,
        path=found.path,
        retention=policy.retention,
        tombstone=policy.tombstone,
        codec=str(policy.codec),
        secret=configuration().secret,
    )
