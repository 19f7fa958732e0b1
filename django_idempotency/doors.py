"""What both doors share: running a handler under the guard, and finding handlers of views.

The middleware and the decorator differ in where they come from. Both end in :func:`run`, called
where the handler would have been called: after authentication, permissions and throttles.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    SuspiciousOperation,
)
from django.core.handlers.exception import get_exception_response
from django.http import Http404, HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.urls import get_resolver, get_urlconf
from django.utils.module_loading import import_string

from .conf import configuration
from .http.guard import Answer, Guard, Status, is_running, read_key, tell
from .http.problems import problem_response
from .http.responses import rendered
from .permissions import passes_view_checks
from .policy import Errors, Policy
from .protocol.fingerprint import Payload
from .protocol.problems import Problem
from .signals import Outcome, Reporter

Handler = Callable[..., HttpResponseBase]
Options = dict[str, object]

OPTIONS = "_idempotency_options"
"""Attribute of guarded functions and classes: the decorator's arguments."""

EXEMPT = "_idempotency_exempt"
"""Attribute of exempt functions and classes: the reason, or an empty text."""

_BRACKET = "_idempotency_bracket"


# As in django.core.handlers.exception.response_for_exception.
_RAISED: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((Http404,), 404),
    ((PermissionDenied,), 403),
    ((BadRequest, SuspiciousOperation, MultiPartParserError), 400),
)


class Bracket:
    """The middleware's hold on a request: it sees the rendered response, whatever the view is."""

    def __init__(self) -> None:
        self.guard: Guard | None = None

    def fail(self, error: BaseException) -> None:
        if self.guard is not None:
            self.guard.fail(error)

    def abandon(self, error: BaseException) -> None:
        if self.guard is not None:
            self.guard.abandon(error)

    def finish(self, response: HttpResponseBase) -> None:
        if self.guard is not None:
            self.guard.finish(response)


def open_bracket(request: HttpRequest) -> Bracket:
    """Let the middleware, not the door, finish what is guarded in this request."""
    bracket = Bracket()
    setattr(request, _BRACKET, bracket)
    return bracket


def bracket_of(request: HttpRequest) -> Bracket | None:
    return getattr(request, _BRACKET, None)


def resolve_policy(*sources: Any) -> Policy:
    """Return the settings' policy, changed by the decorators of ``sources`` in turn."""
    policy = configuration().policy
    for source in sources:
        options: Options | None = getattr(source, OPTIONS, None)
        if options:
            policy = policy.override(**options)
    return policy


def run(call: Callable[[], HttpResponseBase], request: Any, policy: Policy) -> HttpResponseBase:
    """Call the handler under the guard, or answer instead of it.

    :param request: the handler's request: Django's, or DRF's around it
    """
    django_request: HttpRequest = getattr(request, "_request", request)
    if django_request.method not in policy.methods or is_running(django_request):
        return call()
    key = read_key(django_request, policy)
    if key is None:
        return call()
    door = door_of(request, django_request, policy)
    if isinstance(key, Problem):
        return door.refuse(key)
    guard = Guard(django_request, policy, key)
    answer = guard.start(request, door.parsed_payload)
    return door.run(call, guard) if answer is None else guard.marked(door.answer(answer))


def start(
    request: HttpRequest, policy: Policy, bracket: Bracket, view: Any
) -> HttpResponseBase | None:
    """Start the guard before a function view; the bracket finishes it."""
    if request.method not in policy.methods:
        return None
    key = read_key(request, policy)
    door = Door(request, policy)
    if not isinstance(key, str):
        return None if key is None else door.refuse(key)
    if not passes_view_checks(view, request):
        return None
    guard = Guard(request, policy, key)
    answer = guard.start(request, door.parsed_payload, view)
    if answer is not None:
        return guard.marked(door.answer(answer))
    bracket.guard = guard
    return None


class Door:
    """A plain Django view."""

    def __init__(self, request: HttpRequest, policy: Policy) -> None:
        self.request = request
        self.policy = policy

    def answer(self, answer: Answer) -> HttpResponseBase:
        if not isinstance(answer, Problem):
            return answer
        response = self.problem(answer)
        tell(response, self.policy, Status.REFUSED)
        return response

    def refuse(self, problem: Problem) -> HttpResponseBase:
        """Answer a key that is missing or malformed: nothing was looked up."""
        Reporter(self.request, self.policy).send(
            Outcome.REFUSED, problem.status, reason=str(problem.code)
        )
        return self.answer(problem)

    def problem(self, problem: Problem) -> HttpResponseBase:
        if isinstance(self.policy.errors, Errors):
            return problem_response(problem, self.policy)
        response: HttpResponseBase = self.policy.errors(problem, self.request)
        return response

    def parsed_payload(self) -> Payload | None:
        return None

    def run(self, call: Callable[[], HttpResponseBase], guard: Guard) -> HttpResponseBase:
        bracket = bracket_of(self.request)
        if bracket is not None:
            bracket.guard = guard
        try:
            response = call()
        except BaseException as error:
            guard.fail(error)
            if bracket is None:
                self.raised(guard, error)
            raise
        return response if bracket is not None else self.returned(guard, response)

    def returned(self, guard: Guard, response: HttpResponseBase) -> HttpResponseBase:
        """Nobody else will see the rendered response: finish here."""
        try:
            final: HttpResponseBase = rendered(response)
        except BaseException as error:
            guard.abandon(error)
            raise
        guard.finish(final)
        return final

    def raised(self, guard: Guard, error: BaseException) -> None:
        """Remember what Django will make of the exception; it is raised all the same, for the
        other middlewares' sake. What Django calls an error of the server is not asked for: its
        handling is logged and reported, and that must happen once."""
        try:
            self._finish_as_django(guard, error)
        finally:
            guard.abandon(error)

    def _finish_as_django(self, guard: Guard, error: BaseException) -> None:
        status = next((code for kinds, code in _RAISED if isinstance(error, kinds)), None)
        if _exceptions_are_handled(tuple(settings.MIDDLEWARE)):
            return  # what will become of it, only the middleware could tell
        if status is not None and isinstance(error, Exception):
            resolver = get_resolver(get_urlconf())
            guard.finish(rendered(get_exception_response(self.request, resolver, status, error)))


@cache
def _exceptions_are_handled(middlewares: tuple[str, ...]) -> bool:
    """Whether a middleware may turn an exception of a view into another response."""
    return any(hasattr(import_string(name), "process_exception") for name in middlewares)


def door_of(request: Any, django_request: HttpRequest, policy: Policy) -> Door:
    if request is django_request:
        return Door(django_request, policy)
    from .drf import RestDoor

    return RestDoor(request, policy)


def guarded(handler: Handler, policy_of: Callable[[Any], Policy]) -> Handler:
    """Wrap a function, a method or a bound method.

    :param policy_of: gives the policy for the first argument (a view instance or a request)
    """

    @wraps(handler)
    def guarded_handler(*args: Any, **kwargs: Any) -> HttpResponseBase:
        request = args[0] if hasattr(args[0], "META") else args[1]
        return run(lambda: handler(*args, **kwargs), request, policy_of(args[0]))

    return guarded_handler
