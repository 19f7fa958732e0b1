"""What both adapters share: running a handler under the guard, and finding handlers of views.

The middleware and the decorator differ in where they come from. Both end in :func:`run`, called
where the handler would have been called: after authentication, permissions and throttles. Async
handlers end in :func:`arun`, which takes the same steps, each on the request's thread.
"""

from collections.abc import Awaitable, Callable
from functools import cache, wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse

from ..conf.options import NOTHING, Options
from ..conf.policy import Errors, Policy, Recheck
from ..conf.settings import configuration
from ..guard.answers import TEMPLATE, Settled, as_returned, copied
from ..guard.guard import Answer, Guard, Status, is_running, read_key, tell
from ..guard.no_operation import LEFT_ALONE, NO_KEY, NOT_BEGUN, without_operation
from ..guard.raised import remember_raised
from ..guard.request_state import finish, run_to_end, state_of
from ..http.problem_json import problem_response
from ..protocol.fingerprint import Payload
from ..protocol.problems import Problem
from ..signals import Outcome, Reporter
from ..threads import on_request_thread
from .affinity import AsyncGuard
from .position import GuardPosition

Handler = Callable[..., Any]
OPTIONS = "_idempotency_options"
"""Attribute of guarded functions and classes: the decorator's arguments."""

EXEMPT = "_idempotency_exempt"
"""Attribute of exempt functions and classes: the reason, or an empty text."""

HANDLES = "_idempotency_handles"
"""Attribute of requests: whether code of the project, inside of the guard's end, makes an answer of
an exception."""

_RECALLED = "_idempotency_recalled"


def resolve_policy(path: str, *sources: Any) -> Policy:
    """Return the settings' policy for a path, changed by the decorators of ``sources`` in turn.

    :param path: ``request.path_info``
    """
    policy = configuration().policy_for(path)
    for source in sources:
        policy = options_of(source).over(policy)
    return policy


def options_of(thing: Any) -> Options:
    """Return what decorators have said of a view, a class, an operation or a request."""
    said: Options | None = getattr(thing, OPTIONS, None)
    return said or NOTHING


def run(
    call: Callable[[], HttpResponseBase],
    request: Any,
    policy: Policy,
    key: str | None = None,
    position: GuardPosition | None = None,
) -> HttpResponseBase:
    """Call the handler under the guard, or answer instead of it.

    :param request: the handler's request: Django's, or DRF's around it
    :param key: what :func:`~.http.guard.read_key` found, if it was asked
    :param position: where the guard begins; ``None``: before the call
    """
    adapter = approach(request, policy, Guard, key)
    if adapter is None:
        return call()
    run_to_end(adapter.request)
    try:
        adapter.begin(position)
        response = call() if adapter.answered is None else None
    except BaseException as error:
        if not adapter.answers(error):
            raise
    return adapter.returned(response) if adapter.answered is None else adapter.answered


async def arun(
    call: Callable[[], Awaitable[HttpResponseBase]],
    request: Any,
    policy: Policy,
    key: str | None = None,
    position: GuardPosition | None = None,
) -> HttpResponseBase:
    """Await the handler under the guard: as :func:`run`, but for the awaiting."""
    adapter = approach(request, policy, AsyncGuard, key)
    if adapter is None:
        return await call()
    try:
        await on_request_thread(adapter.begin, position)
        response = await call() if adapter.answered is None else None
        run_to_end(adapter.request)
    except BaseException as error:
        if not await on_request_thread(adapter.answers, error):
            raise
    if adapter.answered is not None:
        return adapter.answered
    return await on_request_thread(adapter.returned, response)


def approach(
    request: Any, policy: Policy, guard_type: type[Guard], key: str | None = None
) -> "Adapter | None":
    """Return the adapter to enter by, or ``None`` if the guard has no business with the request.

    :param key: what :func:`~.http.guard.read_key` found, if it was asked
    """
    django_request: HttpRequest = getattr(request, "_request", request)
    if is_running(django_request):
        return None
    if django_request.method not in policy.methods:
        is_keyed = policy.meta_key in django_request.META
        without_operation(django_request, LEFT_ALONE if is_keyed else NO_KEY)
        return None
    found = read_key(django_request, policy) if key is None else key
    if found is None:
        without_operation(django_request, NO_KEY)
        return None
    without_operation(django_request, NOT_BEGUN)
    adapter = adapter_of(request, policy)
    if isinstance(found, Problem):
        adapter.problem = found
    else:
        adapter.guard = guard_type(django_request, policy, found)
    return adapter


def recall(request: Any, policy: Policy, guard_type: type[Guard]) -> HttpResponseBase | None:
    """Return what is stored for a request whose caller is known; ``None`` if nothing is, or if
    policy wants all checks to be passed first."""
    if policy.recheck is not Recheck.AUTHENTICATION:
        return None
    adapter = approach(request, policy, guard_type)
    return None if adapter is None else adapter.recall()


class Adapter:
    """A plain Django view.

    :ivar problem: what is wrong with the key
    :ivar guard: otherwise
    :ivar answered: what its caller gets instead of what the view returned, or would have returned
    """

    def __init__(self, request: Any, policy: Policy) -> None:
        self.caller = request
        self.request: HttpRequest = getattr(request, "_request", request)
        self.policy = policy
        self.problem: Problem | None = None
        self.guard: Guard | None = None
        self.answered: HttpResponseBase | None = None
        self.state = state_of(self.request)

    def begin(
        self, position: GuardPosition | None = None, view: Any = None
    ) -> HttpResponseBase | None:
        """Start the guard, or have it started when the request comes to its position.

        :param position: ``None``: here
        :param view: the function view that Django calls next, if it has not yet
        :return: the answer, if there is one already
        """
        if self.guard is None or position is None:
            return self.enter(view)
        if self.recall() is not None:
            return self.answered
        position.refuse_hidden()
        if not position.slots:
            return self.enter(view) if position.admits(self.caller) else None
        position.arm(
            self.request, lambda: self._pass_by() if position.admits(self.caller) else None
        )
        return None

    def recall(self) -> HttpResponseBase | None:
        """Answer with what is stored as soon as the caller is known, if policy wants that: a
        success may have changed what permissions and preconditions look at."""
        if self.guard is None or self.policy.recheck is not Recheck.AUTHENTICATION:
            return None
        if hasattr(self.request, _RECALLED):
            return None
        setattr(self.request, _RECALLED, True)
        answer = self.guard.recall(self.caller, self.parsed_payload)
        if answer is not None:
            self.answered = self.answer(answer)
        return self.answered

    def _pass_by(self) -> HttpResponseBase | None:
        """Start the guard below decorators, which see a copy of the answer and cannot change it."""
        answer = self.enter()
        return self.copy_of(answer) if _is_settled(answer) else answer

    def enter(self, view: Any = None) -> HttpResponseBase | None:
        """Start the guard. ``None``: run the handler; otherwise this is the answer."""
        self.answered = self._enter(view)
        return self.answered

    def _enter(self, view: Any) -> HttpResponseBase | None:
        if self.guard is None:
            return None if self.problem is None else self.refuse(self.problem)
        answer = self.guard.start(self.caller, self.parsed_payload, view)
        if answer is not None:
            return self.answer(answer, view)
        self.guard.is_handled = getattr(self.request, HANDLES, self.guard.is_handled)
        if self.state is not None:
            self.state.guard = self.guard
        return None

    def answers(self, error: BaseException) -> bool:
        """What was called raised. Whether there is an answer instead, from before or from now."""
        if self.answered is None:
            self.answered = self.raised(error)
        return self.answered is not None and isinstance(error, Exception)

    def answer(self, answer: Answer, view: Any = None) -> HttpResponseBase:
        """Return what the caller gets instead of the handler's response.

        :param view: the function view that Django calls next, if it has not yet
        """
        is_replay = not isinstance(answer, Problem)
        response = self.marked_error(self.error(answer)) if isinstance(answer, Problem) else answer
        if is_replay and self.guard is not None:
            self.guard.marked(response)
        if not _is_settled(response):
            return response  # a project's own error, which is still to be rendered
        if view is not None:
            return self.settle(response, is_replay, _plain)
        return self.settle(response, is_replay, self.copy_of)

    def marked_error(self, error: HttpResponseBase) -> HttpResponseBase:
        """Say on an error of the guard what became of the key."""
        tell(error, self.policy, Status.REFUSED)
        return error if self.guard is None else self.guard.marked(error)

    def settle(
        self, answer: Any, is_replay: bool, copy_of: Callable[[Any], HttpResponse]
    ) -> HttpResponse:
        """Let a copy of the answer pass by those who stand before the end of the guard."""
        if self.state is None:
            return copy_of(answer)
        self.state.settled = Settled(copy_of(answer), copy_of(answer), self.policy, is_replay)
        return self.state.settled.passing

    def copy_of(self, answer: Any) -> HttpResponse:
        """Return a copy of an answer, of the kind that the handler returns."""
        return as_returned(answer)

    def refuse(self, problem: Problem) -> HttpResponseBase:
        """Answer a key that is missing or malformed: nothing was looked up."""
        Reporter(self.request, self.policy).send(
            Outcome.REFUSED, problem.status, reason=str(problem.code)
        )
        return self.answer(problem)

    def error(self, problem: Problem) -> HttpResponseBase:
        if isinstance(self.policy.errors, Errors):
            return problem_response(problem, self.policy)
        response: HttpResponseBase = self.policy.errors(problem, self.request)
        return response

    def parsed_payload(self) -> Payload | None:
        return None

    def returned(self, response: Any) -> HttpResponseBase:
        """The handler returned: finish here, unless a bracket will see the response."""
        if self.guard is not None and isinstance(response, SimpleTemplateResponse):
            self.guard.describe = _came_from_template
        if self.guard is None or self.state is not None:
            final: HttpResponseBase = response
            return final
        return finish(self.guard, response)

    def raised(self, error: BaseException) -> HttpResponseBase | None:
        """The handler raised: undo its writes. ``None``: the exception goes on."""
        if self.guard is not None and self.guard.is_open:
            self.guard.fail(error)
            if self.state is None:
                self._remember(self.guard, error)
        return None

    def _remember(self, guard: Guard, error: BaseException) -> None:
        remember_raised(guard, self.request, error)


def _is_settled(answer: Any) -> bool:
    return isinstance(answer, HttpResponse) and getattr(answer, "is_rendered", True)


def _plain(answer: HttpResponse) -> HttpResponse:
    return copied(answer, HttpResponse())


def _came_from_template(final: HttpResponseBase) -> None:
    setattr(final, TEMPLATE, True)


def adapter_of(request: Any, policy: Policy) -> Adapter:
    if not hasattr(request, "_request"):
        return Adapter(request, policy)
    return _rest_adapter()(request, policy)


@cache
def _rest_adapter() -> Callable[[Any, Policy], Adapter]:
    from .drf import rest_adapter

    return rest_adapter


def guarded(
    handler: Handler, policy_of: Callable[[str, Any], Policy], position: GuardPosition | None = None
) -> Handler:
    """Wrap a function, a method or a bound method, async or not.

    :param policy_of: gives the policy for a path and the first argument (a view instance or a
        request)
    :param position: where the guard begins; ``None``: before the handler
    """

    def sync_handler(*args: Any, **kwargs: Any) -> Any:
        request = _request_in(args)
        policy = policy_of(request.path_info, args[0])
        return run(lambda: handler(*args, **kwargs), request, policy, position=position)

    async def async_handler(*args: Any, **kwargs: Any) -> Any:
        request = _request_in(args)
        policy = policy_of(request.path_info, args[0])
        return await arun(lambda: handler(*args, **kwargs), request, policy, position=position)

    return wraps(handler)(async_handler if iscoroutinefunction(handler) else sync_handler)


def _request_in(args: tuple[Any, ...]) -> Any:
    return args[0] if hasattr(args[0], "META") else args[1]
