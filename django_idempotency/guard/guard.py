"""One guarded request: from its key to its stored response."""

import logging
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..conf.policy import Anonymous, OnOutage, Policy
from ..conf.settings import configuration
from ..context import running
from ..http.claim import BodyTooLarge, claim_of, read_ahead
from ..http.principal import ANONYMOUS, Parts, scope_of
from ..http.problem_json import problem_of
from ..http.responses import (
    NO_CHOICES,
    Render,
    deserialize,
    did_nothing,
    keeps_writes,
    rendered,
    serialize,
    storage_choices,
    stores_status,
)
from ..http.session import SessionKeeper
from ..http.statuses import SERVER_ERROR, status_raised
from ..operations.base import (
    NOT_DONE,
    Answered,
    Ending,
    Operation,
    Started,
)
from ..protocol.codecs import Owner, Unreadable
from ..protocol.fingerprint import Payload
from ..protocol.keys import InvalidKey, name_in_logs, parse_key
from ..protocol.problems import Code, Problem
from ..protocol.record import Omitted, Replay, StoredResponse
from ..signals import Outcome, Subject, report, tell, unprotected
from ..stores.base import Outage
from .factory import operation_of, record_of, replay_of
from .new_keys import count, count_no_more, is_exhausted, next_hour
from .refusals import Obstacle, checked_key, code_of
from .status import (
    ANONYMOUS_CALLER,
    NO_KEY,
    NO_STORE,
    UNPROTECTED,
    Status,
    set_status_header,
)

logger = logging.getLogger("django_idempotency")

Answer = HttpResponse | Problem
"""What the guard says instead of the view: a replay, or an error."""

_REASONS = {Omitted.CSRF_TOKEN: "its page holds a CSRF token, which is a credential"}
"""Why a response cannot be replayed, where the name of the reason does not say enough."""

NOT_STORED = "the response is not stored"
"""Cause of an interruption: policy or the view wants it so, or the view's writes are gone."""

_OUTCOMES = {Code.IN_FLIGHT: Outcome.CONFLICT, Code.KEY_REUSED: Outcome.MISMATCH}
"""Error answers with a separate outcome; the others are refusals."""


NOT_FOUND_YET = ""
"""Instead of a key: there is no header, and :meth:`Guard.find_key` asks the policy's function."""

_RAISED = "_idempotency_raised"
"""Attribute of a request: the policy's function, and what it raised before the view's checks."""


def read_key(request: HttpRequest, policy: Policy) -> str | Problem | None:
    """Return the key in the request's header; ``None`` if it has none and needs none. Costs no
    query.

    :return: :data:`NOT_FOUND_YET` where the policy's function may still find a key
    """
    value = request.META.get(policy.meta_key)
    if value is None:
        if policy.key_from is not None:
            return NOT_FOUND_YET
        return problem_of(Code.KEY_MISSING, policy) if policy.required else None
    try:
        return parse_key(value, policy.key_format, policy.key_max_length, policy.key_pattern)
    except InvalidKey as error:
        return problem_of(Code.KEY_INVALID, policy, reason=str(error))


class Guard:
    """Guards one request. An adapter starts it, and says how the view ended.

    :param request: Django's request
    :param policy: the view's policy
    :param key: what :func:`read_key` found
    :ivar key: empty as long as there is none: nothing is guarded then
    :ivar is_running: the view runs: what it calls in turn is guarded already
    :ivar has_failed: the view raised
    :ivar will_store: it did, and the answer that will be made of the exception is to be stored
    :ivar is_handled: set by the adapter: whether code of the project makes an answer of an
        exception, which this guard will see; the exception's class alone does not say which then
    :ivar render: set by the adapter: makes a response of what the view's resolver returns
    :ivar describe: leaves notes on the final response, for its replays
    """

    is_running = False
    has_failed = False
    will_store = False
    is_handled: Callable[[BaseException], bool]
    render: Render = staticmethod(rendered)
    describe: Callable[[HttpResponseBase], None] | None = None
    _left_at = 0.0
    _operation: Operation | None = None
    _session: SessionKeeper | None = None
    _outer: Operation | None = None
    _choices = NO_CHOICES
    _counted_as: str | None = None
    _unrecorded: Status | None = None
    _is_rest = False
    _is_reported = False
    _has_asked_for_key = False
    _key_problem: Problem | None = None

    def __init__(self, request: HttpRequest, policy: Policy, key: str) -> None:
        self._request: Any = request
        self._policy = policy
        self.key = key
        self._subject = Subject(request, policy, key, perf_counter())

    def find_key(self, view_request: Any) -> Problem | None:
        """Ask the policy's function for the key, once. The view can still read the whole body.

        :param view_request: the request that the view gets: DRF's knows who sent it
        :return: what is wrong with the key, or that one is missing
        """
        policy = self._policy
        if policy.key_from is not None and not self._has_asked_for_key:
            asked, error = vars(self._request).pop(_RAISED, (None, None))
            if error is not None and asked is policy.key_from:
                raise error
            with read_ahead(self._request):
                value = policy.key_from(view_request)
            found = checked_key(policy, value, self.key)
            self._has_asked_for_key = True
            if isinstance(found, Problem):
                self._key_problem = found
            else:
                self.key = self._subject.key = found
        return self._key_problem

    def start(
        self,
        view_request: Any,
        parsed: Callable[[], Payload | None],
        view: Any = None,
    ) -> Answer | None:
        """Claim the key. ``None``: run the view; otherwise this is the answer.

        Without a :attr:`key` afterwards the request has none, and nothing is guarded.

        :param view_request: the request that the view gets: DRF's knows who sent it
        :param parsed: digests what a framework has parsed, if it consumed the body
        :param view: the function view that Django calls next, if it has not yet
        """
        policy = self._policy
        self._is_rest = hasattr(view_request, "_request")
        answer: Answer | None = None
        if policy.key_from is not None:
            answer = self.find_key(view_request)
            if answer is None and not self.key:
                self._request.idempotency = NO_KEY
                return None
        if answer is None:
            shares = policy.anonymous is Anonymous.SHARE
            scope = scope_of(view_request, policy, ANONYMOUS if shares else None)
            answer = (
                self._anonymous()
                if scope is None
                else self._claim(view_request, scope, parsed, view)
            )
        if isinstance(answer, Problem):
            self._refused(answer)
        return answer

    def _refused(self, problem: Problem) -> None:
        outcome = _OUTCOMES.get(problem.code, Outcome.REFUSED)
        reason, cause = str(problem.code), problem.cause
        report(self._subject, outcome, problem.status, reason=reason, cause=cause)

    def replay_before_checks(
        self, view_request: Any, parsed: Callable[[], Payload | None]
    ) -> Answer | None:
        """Return the answer that is stored under the key, and claim nothing.

        :return: ``None`` if the caller is not authenticated yet, or nothing is completed
        """
        policy = self._policy
        scope = scope_of(view_request, policy)
        if scope is None:
            return None
        try:
            if policy.key_from is not None and (self.find_key(view_request) or not self.key):
                return None  # start() will say so
        except Exception as error:
            # The caller may be refused yet. If not, start() raises it.
            vars(self._request)[_RAISED] = (policy.key_from, error)
            return None
        try:
            claim = claim_of(self._request, policy, self.key, scope, view_request, parsed)
            self._subject.scope = claim.scope
            found = replay_of(policy, claim)
        except (Outage, BodyTooLarge):
            return None  # start() will find out
        if found is None:
            return None
        owner = Owner(claim.scope, claim.key)
        answer = self._replay(found.response, owner)
        if isinstance(answer, Problem):
            self._refused(answer)
        elif policy.save_session:
            SessionKeeper(self._request, owner).replay(answer)
        return answer

    def _claim(
        self, view_request: Any, scope: Parts, parsed: Callable[[], Payload | None], view: Any
    ) -> Answer | None:
        policy = self._policy
        if policy.codec.encrypts:
            configuration().keyring.check()  # or nothing runs: its response could not be stored
        try:
            claim = claim_of(self._request, policy, self.key, scope, view_request, parsed)
        except BodyTooLarge:
            return problem_of(Code.REQUEST_TOO_LARGE, policy)
        self._subject.scope = claim.scope
        operation = operation_of(policy, claim, view, view_request, self.render)
        limit = policy.new_keys_per_hour
        try:
            used_up = limit is not None and is_exhausted(limit, claim.scope)
            if used_up and not record_of(policy, claim):
                return problem_of(Code.TOO_MANY_KEYS, policy, retry_after=next_hour())
            begun = operation.begin()
            answer = (
                None if isinstance(begun, Started) else self._answer_for(begun, operation.owner)
            )
        except Outage as outage:
            return self._without_store(str(outage))
        except Exception as error:
            # A resolver, for example. Django logs the exception; this says which key it was.
            report(self._subject, Outcome.INTERRUPTED, reason=type(error).__qualname__)
            raise
        if policy.save_session:
            self._keep_session(operation, answer)
        if answer is not None:
            return answer
        if limit is not None and operation.attempt == 1:
            self._counted_as = count(claim.scope)
        self._operation = self._request.idempotency = operation
        self._outer = running.get()
        running.set(operation)
        self.is_running = True
        self._left_at = perf_counter()
        return None

    def _keep_session(self, operation: Operation, answer: Answer | None) -> None:
        """Have the session kept with the response, and read again if another attempt has saved it
        since a middleware has read it."""
        self._session = SessionKeeper(self._request, operation.owner)
        if isinstance(answer, HttpResponse):
            self._session.replay(answer)
        elif answer is not None or operation.recovered or operation.waited:
            self._session.reload()

    def _answer_for(self, begun: Obstacle | Replay | Answered, owner: Owner) -> Answer:
        """Return the answer where the view does not run."""
        match begun:
            case Replay(response):
                return self._replay(response, owner)
            case Answered(response):
                set_status_header(response, self._policy, Status.NOT_STORED)
                cause = "the resolver's response is not stored"
                report(self._subject, Outcome.INTERRUPTED, response.status_code, cause=cause)
                return cast(HttpResponse, response)
            case obstacle:
                return problem_of(code_of(obstacle), self._policy)

    def fail(self, error: BaseException) -> None:
        """The view raised, and no code has handled the exception yet."""
        if self._operation is None or self.has_failed:
            return
        self.has_failed = True
        self.is_running = False
        self._come_back()
        # The view has ended. What else there will be of the request may be long in coming.
        running.set(self._outer)
        self._choices = storage_choices(error)
        ending = self._ending_of(status_raised(error, self._is_rest))
        if ending is Ending.UNDO and self._choices.stored is None and self.is_handled(error):
            ending = Ending.OPEN
        self.will_store = ending is Ending.STORE
        self._operation.fail(error, ending)
        self._left_at = perf_counter()

    def handled(self, error: BaseException, response: HttpResponseBase | None) -> None:
        """Code of the project has turned the view's exception into a response.

        :param response: ``None`` if there is none
        """
        if self._operation is not None:
            code = SERVER_ERROR if response is None else response.status_code
            self._operation.fail(error, self._ending_of(code))

    def _ending_of(self, status: int) -> Ending:
        """Return whether the view's writes stay, by the status of the answer that an exception will
        get. The view's wish overrides policy."""
        if stores_status(status, self._policy, self._choices):
            return Ending.STORE
        return Ending.KEEP if keeps_writes(status, self._choices) else Ending.UNDO

    def abandon(self, error: BaseException) -> None:
        """The view raised, and no response of it will be seen."""
        self.fail(error)
        operation, self._operation = self._operation, None
        if operation is not None:
            running.set(self._outer)
            self._come_back()
            operation.abandon(error)
            if self._session is not None:
                self._session.end(is_stored=False)
            self._interrupted(operation, f"the view raised {type(error).__qualname__}")

    def forget(self) -> None:
        """The attempt's transaction has ended without us."""
        operation, self._operation = self._operation, None
        if operation is not None:
            running.set(self._outer)
            self._come_back()
            self._interrupted(operation, "the view's transaction has ended without a response")

    def _interrupted(self, operation: Operation, cause: str) -> None:
        report(self._subject, Outcome.INTERRUPTED, attempt=operation.attempt, cause=cause)

    def _come_back(self) -> None:
        """Others were at work since the guard was last: time that is not its own."""
        self._subject.away += perf_counter() - self._left_at

    def finish(self, response: HttpResponseBase) -> None:
        """The response is rendered: store it and commit, or undo the view's writes."""
        operation, self._operation = self._operation, None
        self.is_running = False
        if operation is None:
            if self._unrecorded is not None:
                response[UNPROTECTED] = "true"
                self.echo_key(response)
                set_status_header(response, self._policy, self._unrecorded)
            return
        self._subject.away += perf_counter() - self._left_at
        running.set(self._outer)
        policy = self._policy
        if policy.key_header is not None:
            self.echo_key(response)
        try:
            if self._session is not None and response.status_code < SERVER_ERROR:
                # As SessionMiddleware does, which saves no session with an error of the server.
                self._session.take_messages(response)
                operation.before_storing = self._session.save
            status = self._store(operation, response)
            if self._session is not None:
                is_stored = status in {Status.STORED, Status.WITHOUT_RESPONSE}
                self._session.end(is_stored, response)
        except BaseException as error:
            operation.fail(error)
            operation.abandon(error)
            # A hook that fails after the commit changes the answer, but not what is committed.
            is_committed = operation.is_remembered
            status = Status.NOT_STORED
            if is_committed:
                status = Status.NOT_DONE if hasattr(response, NOT_DONE) else Status.STORED
            code = response.status_code if is_committed else None
            outcome, name = _outcome_of(operation, status), type(error).__qualname__
            cause = f"{name}, raised {'after' if is_committed else 'before'} the commit"
            report(self._subject, outcome, code, operation.attempt, cause=cause)
            raise
        if policy.status_header is not None:
            set_status_header(response, policy, status)
        outcome = _outcome_of(operation, status)
        cause = NOT_STORED if status is Status.NOT_STORED else ""
        ended = (outcome, response.status_code, operation.attempt, cause)
        if operation.on_end(partial(self._report, *ended)):
            self._report_when_closed(operation.attempt)
            self._left_at = perf_counter()
        else:
            report(self._subject, outcome, response.status_code, operation.attempt, cause=cause)

    def _store(self, operation: Operation, response: HttpResponseBase) -> Status:
        if hasattr(response, NOT_DONE):
            # A logout meanwhile would undo the view's writes, such as a lockout.
            operation.before_storing = None
            is_free = operation.withdraw(keeps_writes=response.status_code < SERVER_ERROR)
            if is_free and self._counted_as is not None:
                count_no_more(self._counted_as)
            return Status.NOT_DONE if is_free else Status.NOT_STORED
        policy, choices = self._policy, storage_choices(response, self._choices)
        if not stores_status(response.status_code, policy, choices):
            keeps = keeps_writes(response.status_code, choices)
            nothing_done = did_nothing(response.status_code, choices)
            operation.finish(None, nothing_done=nothing_done, keeps_writes=keeps)
            if self._session is not None and operation.undoes and not keeps:
                self._session.discard()
            return Status.NOT_STORED
        retention = choices.retention or policy.retention
        stored = serialize(
            response, policy, choices, operation.owner, retention, self._request.META
        )
        if operation.finish(stored, retention):
            return Status.WITHOUT_RESPONSE if stored.omitted else Status.STORED
        if policy.expires_header is not None:
            del response[policy.expires_header]
        return Status.NOT_STORED

    def _report(self, outcome: Outcome, code: int | None, attempt: int, cause: str) -> None:
        """Tell how the attempt has ended, once."""
        if not self._is_reported:
            self._is_reported = True
            self._come_back()
            report(self._subject, outcome, code, attempt, cause=cause)

    def _report_when_closed(self, attempt: int) -> None:
        """Django's block, which holds the stored response, commits after us. If it never does,
        nothing is stored."""
        close = self._request.close

        def report_and_close() -> None:
            cause = "the request's transaction was not committed"
            self._report(Outcome.INTERRUPTED, None, attempt, cause)
            close()

        self._request.close = report_and_close

    def _without_store(self, cause: str) -> Answer | None:
        """Refuse the request, or let it run without a record, as policy says."""
        if self._policy.outage is OnOutage.CLOSED:
            return problem_of(Code.STORE_UNAVAILABLE, self._policy, cause=cause)
        self._unrecorded = Status.UNPROTECTED
        self._request.idempotency = NO_STORE
        reason = str(Code.STORE_UNAVAILABLE)
        report(self._subject, Outcome.FAILED_OPEN, reason=reason, cause=cause)
        return None

    def _anonymous(self) -> Answer | None:
        """No caller owns the key: refuse it, or let the view run without a record. Where a key is
        required, running would pretend that the key protects something."""
        if self._policy.anonymous is Anonymous.REFUSE:
            return problem_of(Code.ANONYMOUS, self._policy)
        if self._policy.required:
            return problem_of(Code.CALLER_REQUIRED, self._policy)
        logger.warning(
            "%s: ignored, the caller is not authenticated (see ANONYMOUS)",
            name_in_logs(self.key, ""),
        )
        self._unrecorded = Status.IGNORED
        self._request.idempotency = ANONYMOUS_CALLER
        tell(unprotected, self._request)
        return None

    def echo_key(self, response: HttpResponseBase) -> None:
        """Send the key back, if policy wants that."""
        if self._policy.key_header is not None and self.key:
            response[self._policy.key_header] = self.key

    @property
    def name(self) -> str:
        """How log lines call the operation."""
        return name_in_logs(self.key, self._subject.scope)

    @property
    def is_open(self) -> bool:
        """Started, and neither failed for good nor finished."""
        return self._operation is not None

    @property
    def transaction_on(self) -> str | None:
        """Alias of the database whose transaction the attempt holds, if it holds one."""
        return None if self._operation is None else self._operation.transaction_on

    def _replay(self, stored: StoredResponse, owner: Owner) -> Answer:
        if stored.omitted is Omitted.REFUSED:
            return problem_of(Code.OPERATION_REFUSED, self._policy)
        if stored.omitted:
            reason = _REASONS.get(stored.omitted, stored.omitted.replace("_", " "))
            return self._unavailable(stored, reason)
        try:
            response = deserialize(stored, self._policy, owner)
        except Unreadable as error:
            name = name_in_logs(owner.key, owner.scope)
            logger.error("%s: a response (%s) cannot be replayed: %s", name, error.codec, error)
            return self._unavailable(stored, str(error))
        if self._policy.status_header is not None:
            set_status_header(response, self._policy, Status.REPLAYED)
        report(self._subject, Outcome.REPLAYED, response.status_code)
        return response

    def _unavailable(self, stored: StoredResponse, reason: str) -> Problem:
        return problem_of(
            Code.RESPONSE_UNAVAILABLE, self._policy, reason=reason, original_status=stored.status
        )


def _outcome_of(operation: Operation, status: Status) -> Outcome:
    if status is Status.NOT_STORED:
        return Outcome.INTERRUPTED
    if status is Status.NOT_DONE:
        return Outcome.NOT_DONE
    return Outcome.RECOVERED if operation.recovered else Outcome.EXECUTED
