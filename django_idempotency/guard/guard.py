"""One guarded request: from its key to its stored response."""

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any, assert_never, cast

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..conf.policy import Anonymous, OnOutage, Policy
from ..conf.settings import configuration
from ..http.fingerprint import BodyTooLarge
from ..http.principal import ANONYMOUS, scope_of
from ..http.problem_json import problem_of
from ..http.responses import (
    NOTHING_SAID,
    Memory,
    deserialize,
    keeps_writes,
    memory_of,
    says_not_now,
    serialize,
    stores_status,
)
from ..http.statuses import SERVER_ERROR, status_raised
from ..operations.base import (
    Answered,
    Ending,
    InFlight,
    Operation,
    OutcomeUnknown,
    Started,
    Unavailable,
)
from ..protocol.codecs import Owner, Unreadable
from ..protocol.fingerprint import Payload
from ..protocol.keys import InvalidKey, parse_key, short_digest
from ..protocol.problems import Code, Problem
from ..protocol.record import Claim, Mismatch, Omitted, Replay, StoredResponse, Tombstone
from ..signals import Outcome, Reporter
from ..stores.base import Outage
from .claim import claim_of, count, is_exhausted, next_hour
from .factory import operation_of, record_of, replay_of
from .no_operation import ANONYMOUS_CALLER, NO_STORE, without_operation

logger = logging.getLogger("django_idempotency")

Answer = HttpResponse | Problem
"""What the guard says instead of the view: a replay, or an error."""

UNPROTECTED = "Idempotency-Unprotected"
"""Header field of a response whose view ran without a record although a key was sent: a retry may
run again. The store was out of reach (``outage="open"``), the caller is anonymous, or the view is
not guarded."""

_REASONS = {Omitted.CSRF_TOKEN: "its page holds a CSRF token, which is a credential"}
"""Why a response cannot be replayed, where the name of the reason does not say enough."""

_OUTCOMES = {Code.IN_FLIGHT: Outcome.CONFLICT, Code.KEY_REUSED: Outcome.MISMATCH}
"""Error answers with an outcome of their own; the others are refusals."""


_RUNNING = "_idempotency_running"


def is_running(request: HttpRequest) -> bool:
    """Whether the view of a guard is running: what it calls in turn is guarded already."""
    return getattr(request, _RUNNING, False)


class Status(StrEnum):
    """What the status header says."""

    STORED = "stored"
    WITHOUT_RESPONSE = "stored-without-response"
    NOT_STORED = "not-stored"
    REPLAYED = "replayed"
    REFUSED = "refused"
    UNPROTECTED = "unprotected"
    IGNORED = "ignored"


def read_key(request: HttpRequest, policy: Policy) -> str | Problem | None:
    """Return the request's key; ``None`` if it has none and needs none. Costs no query."""
    value = request.META.get(policy.meta_key)
    if value is None:
        return problem_of(Code.KEY_MISSING, policy) if policy.required else None
    try:
        return parse_key(value, policy.key_format, policy.key_max_length, policy.key_pattern)
    except InvalidKey as error:
        return problem_of(Code.KEY_INVALID, policy, reason=str(error))


def tell(response: HttpResponseBase, policy: Policy, status: Status) -> None:
    """Set the status header, if policy wants one and nobody has set it."""
    if policy.status_header is not None and policy.status_header not in response:
        response[policy.status_header] = str(status)


class Guard:
    """Guards one request. An adapter starts it, and says how the view ended.

    :param request: Django's request
    :param policy: the view's policy
    :param key: what :func:`read_key` found
    :ivar has_failed: the view raised
    :ivar is_handled: whether code of the project makes an answer of an exception, which this guard
        will see; the exception's class alone does not say which then
    :ivar describe: leaves notes on the final response, for its replays
    :ivar will_store: it did, and the answer that will be made of the exception is to be stored
    """

    def __init__(self, request: HttpRequest, policy: Policy, key: str) -> None:
        self._request = request
        self._policy = policy
        self._key = key
        self._operation: Operation | None = None
        self._memory = NOTHING_SAID
        self.has_failed = False
        self.is_handled: Callable[[BaseException], bool] = _by_nobody
        self.describe: Callable[[HttpResponseBase], None] = _nothing_to_say
        self.will_store = False
        self._is_rest = False
        self._is_reported = False
        self._reporter = Reporter(request, policy, key)
        self._unrecorded: Status | None = None

    def start(
        self,
        caller: Any,
        parsed: Callable[[], Payload | None],
        view: Any = None,
    ) -> Answer | None:
        """Claim the key. ``None``: run the view; otherwise this is the answer.

        :param caller: the request that knows who sent it; in a DRF view, DRF's own
        :param parsed: digests what a framework has parsed, if it consumed the body
        :param view: the function view that Django calls next, if it has not yet
        """
        self._is_rest = hasattr(caller, "_request")
        answer = self._start(caller, parsed, view)
        return None if answer is None else self._told(answer)

    def _told(self, answer: Answer) -> Answer:
        if isinstance(answer, Problem):
            outcome = _OUTCOMES.get(answer.code, Outcome.REFUSED)
            self._reporter.send(outcome, answer.status, reason=str(answer.code))
        return answer

    def recall(self, caller: Any, parsed: Callable[[], Payload | None]) -> Answer | None:
        """Return the answer that is stored under the key, and claim nothing.

        :return: ``None`` if nobody has authenticated the caller yet, or nothing is completed
        """
        scope = scope_of(caller, self._policy)
        if scope is None:
            return None
        try:
            claim = claim_of(self._request, self._policy, self._key, scope, caller, parsed)
            found = replay_of(self._policy, claim)
        except (Outage, BodyTooLarge):
            return None  # whoever claims will find out
        if found is None:
            return None
        return self._told(self._replay(found.response, Owner(claim.scope, claim.key)))

    def _start(self, caller: Any, parsed: Callable[[], Payload | None], view: Any) -> Answer | None:
        shares = self._policy.anonymous is Anonymous.SHARE
        scope = scope_of(caller, self._policy, ANONYMOUS if shares else None)
        if scope is None:
            return self._anonymous()
        if self._policy.codec.encrypts:
            configuration().keyring.check()  # or nothing runs: its response could not be stored
        try:
            claim = claim_of(self._request, self._policy, self._key, scope, caller, parsed)
        except BodyTooLarge:
            return problem_of(Code.REQUEST_TOO_LARGE, self._policy)
        return self._claim(claim, operation_of(self._policy, claim, view, caller))

    def _claim(self, claim: Claim, operation: Operation) -> Answer | None:
        try:
            if is_exhausted(self._policy, claim.scope) and not record_of(self._policy, claim):
                return problem_of(Code.TOO_MANY_KEYS, self._policy, retry_after=next_hour())
            answer = self._begin(operation)
        except Outage:
            return self._without_store()
        except Exception as error:
            # A resolver, for example. Django logs the exception; this says which key it was.
            self._reporter.send(Outcome.INTERRUPTED, reason=type(error).__qualname__)
            raise
        if answer is None:
            if operation.attempt == 1:
                count(self._policy, claim.scope)
            self._operation = operation
            self._request.idempotency = operation  # type: ignore[attr-defined]
            setattr(self._request, _RUNNING, True)
        return answer

    def fail(self, error: BaseException) -> None:
        """The view raised, and nobody has handled that yet."""
        if self._operation is None or self.has_failed:
            return
        self.has_failed = True
        self._memory = memory_of(error) or NOTHING_SAID
        setattr(self._request, _RUNNING, False)
        ending = self._ending_of(status_raised(error, self._is_rest))
        if ending is Ending.UNDO and self._memory.stored is None and self.is_handled(error):
            ending = Ending.OPEN
        self.will_store = ending is Ending.STORE
        self._operation.fail(error, ending)

    def handled(self, error: BaseException, response: HttpResponseBase | None) -> None:
        """Somebody has handled what the view raised, and others go on with the response.

        :param response: ``None`` if there is none
        """
        if self._operation is not None:
            code = SERVER_ERROR if response is None else response.status_code
            self._operation.fail(error, self._ending_of(code))

    def _ending_of(self, status: int) -> Ending:
        """What is to become of the view's writes, by the status that becomes of an exception. The
        view's word comes first."""
        if stores_status(status, self._policy, self._memory):
            return Ending.STORE
        return Ending.KEEP if keeps_writes(status, self._memory) else Ending.UNDO

    def abandon(self, error: BaseException) -> None:
        """The view raised, and no response of it will be seen."""
        self.fail(error)
        operation, self._operation = self._operation, None
        if operation is not None:
            operation.abandon(error)
            self._reporter.send(Outcome.INTERRUPTED, attempt=operation.attempt)

    def finish(self, response: HttpResponseBase) -> None:
        """The response is rendered: store it and commit, or undo the view's writes."""
        operation, self._operation = self._operation, None
        if self._unrecorded is not None:
            response[UNPROTECTED] = "true"
            self.marked(response)
            tell(response, self._policy, self._unrecorded)
        if operation is None:
            return
        setattr(self._request, _RUNNING, False)
        memory = memory_of(response) or self._memory
        self.marked(response)
        try:
            status = self._store(operation, response, memory)
        except BaseException as error:
            operation.fail(error)
            operation.abandon(error)
            # A hook that fails after the commit changes the answer, but not what is stored.
            stored = operation.is_remembered
            code = response.status_code if stored else None
            self._reporter.send(_ended(operation, stored), code, operation.attempt)
            raise
        tell(response, self._policy, status)
        self._report(operation, status is not Status.NOT_STORED, response.status_code)

    def _report(self, operation: Operation, stored: bool, code: int) -> None:
        """Tell how the attempt has ended, now or when Django's block, which holds the stored
        response, has committed. If that never happens, nothing is stored."""

        def committed() -> None:
            self._is_reported = True
            self._reporter.send(_ended(operation, stored), code, operation.attempt)

        def closed() -> None:
            if not self._is_reported:
                self._is_reported = True
                self._reporter.send(Outcome.INTERRUPTED, attempt=operation.attempt)
            close()

        if not operation.on_end(committed):
            committed()
            return
        close = self._request.close
        self._request.close = closed  # type: ignore[method-assign]

    def _without_store(self) -> Answer | None:
        """Refuse the request, or let it run without a record, as policy says."""
        if self._policy.outage is OnOutage.CLOSED:
            return problem_of(Code.STORE_UNAVAILABLE, self._policy)
        self._unrecorded = Status.UNPROTECTED
        without_operation(self._request, NO_STORE)
        self._reporter.send(Outcome.FAILED_OPEN, reason=str(Code.STORE_UNAVAILABLE))
        return None

    def _anonymous(self) -> Answer | None:
        """Nobody owns the key: refuse it, or let the view run without a record. Where a key is
        required, running would pretend that the key protects something."""
        if self._policy.anonymous is Anonymous.REFUSE:
            return problem_of(Code.ANONYMOUS, self._policy)
        if self._policy.required:
            return problem_of(Code.CALLER_REQUIRED, self._policy)
        logger.warning("Key %s of an anonymous caller ignored", self._name)
        self._unrecorded = Status.IGNORED
        without_operation(self._request, ANONYMOUS_CALLER)
        return None

    def marked(self, response: HttpResponseBase) -> HttpResponseBase:
        """Echo the key, if policy wants that."""
        if self._policy.key_header is not None:
            response[self._policy.key_header] = self._key
        return response

    @property
    def _name(self) -> str:
        return short_digest(self._key)

    def forget(self) -> None:
        """The attempt's transaction has ended without us."""
        operation, self._operation = self._operation, None
        if operation is not None:
            self._reporter.send(Outcome.INTERRUPTED, attempt=operation.attempt)

    @property
    def is_open(self) -> bool:
        """Started, and neither failed for good nor finished."""
        return self._operation is not None

    @property
    def transaction_on(self) -> str | None:
        """Alias of the database whose transaction the attempt holds, if it holds one."""
        return None if self._operation is None else self._operation.transaction_on

    def _store(self, operation: Operation, response: HttpResponseBase, memory: Memory) -> Status:
        policy = self._policy
        if not stores_status(response.status_code, policy, memory):
            operation.finish(
                None,
                nothing_done=says_not_now(response.status_code, memory),
                keeps_writes=keeps_writes(response.status_code, memory),
            )
            return Status.NOT_STORED
        retention = memory.retention or policy.retention
        stored = serialize(response, policy, memory, operation.owner, retention, self._request.META)
        if operation.finish(stored, retention):
            return Status.WITHOUT_RESPONSE if stored.omitted else Status.STORED
        if policy.expires_header is not None:
            del response[policy.expires_header]
        return Status.NOT_STORED

    def _begin(self, operation: Operation) -> Answer | None:
        match operation.begin():
            case Started():
                return None
            case Replay(response):
                return self._replay(response, operation.owner)
            case Answered(response):
                tell(response, self._policy, Status.NOT_STORED)
                self._reporter.send(Outcome.INTERRUPTED, response.status_code)
                return cast(HttpResponse, response)
            case obstacle:
                return _problem_of(obstacle, self._policy)

    def _replay(self, stored: StoredResponse, owner: Owner) -> Answer:
        if stored.omitted is Omitted.REFUSED:
            return problem_of(Code.OPERATION_REFUSED, self._policy)
        if stored.omitted:
            reason = _REASONS.get(stored.omitted, stored.omitted.replace("_", " "))
            return problem_of(
                Code.RESPONSE_UNAVAILABLE,
                self._policy,
                reason=reason,
                original_status=stored.status,
            )
        try:
            response = deserialize(stored, self._policy, owner)
        except Unreadable as error:
            logger.error(
                "Key %s: a response (%s) cannot be replayed: %s", self._name, error.codec, error
            )
            return problem_of(
                Code.RESPONSE_UNAVAILABLE,
                self._policy,
                reason=str(error),
                original_status=stored.status,
            )
        tell(response, self._policy, Status.REPLAYED)
        self._reporter.send(Outcome.REPLAYED, response.status_code)
        return response


def _problem_of(
    obstacle: Mismatch | Tombstone | InFlight | OutcomeUnknown | Unavailable, policy: Policy
) -> Problem:
    match obstacle:
        case Mismatch():
            return problem_of(Code.KEY_REUSED, policy)
        case Tombstone():
            return problem_of(Code.KEY_EXPIRED, policy)
        case InFlight():
            return problem_of(Code.IN_FLIGHT, policy)
        case OutcomeUnknown():
            return problem_of(Code.OUTCOME_UNKNOWN, policy)
        case Unavailable():
            return problem_of(Code.STORE_BUSY, policy)
    assert_never(obstacle)


def _by_nobody(error: BaseException) -> bool:
    return False


def _nothing_to_say(response: HttpResponseBase) -> None:
    pass


def _ended(operation: Operation, stored: bool) -> Outcome:
    if not stored:
        return Outcome.INTERRUPTED
    return Outcome.RECOVERED if operation.recovered else Outcome.EXECUTED
