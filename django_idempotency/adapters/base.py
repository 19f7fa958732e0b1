"""An adapter: how a view of one framework enters the guard, and how the guard finishes it.

Adapters are called where the handler would have been called: after authentication, permissions and
throttles.
"""

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from time import perf_counter
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse

from ..conf.options import NO_OPTIONS, Options
from ..conf.policy import Errors, Policy, Recheck
from ..conf.settings import configuration
from ..guard.guard import Answer, Guard
from ..guard.request_state import (
    TEMPLATE,
    EarlyAnswer,
    RequestState,
    as_returned,
    copied,
    finish,
    remember_raised,
    state_of,
)
from ..guard.status import Status, set_status_header
from ..http.problem_json import problem_response
from ..http.responses import rendered
from ..protocol.fingerprint import Payload
from ..protocol.problems import Problem
from ..signals import Outcome, Subject, report
from .position import GuardPosition

OPTIONS = "_idempotency_options"
"""Attribute of guarded functions and classes: the decorator's arguments."""

EXEMPT = "_idempotency_exempt"
"""Attribute of exempt functions and classes: the reason, or an empty text."""


def options_of(thing: Any) -> Options:
    """Return what decorators have said of a view, a class, or an operation, also by its request."""
    said: Options | None = getattr(thing, OPTIONS, None)
    if isinstance(thing, HttpRequest):
        said = state_of(thing).operation_options
    return said or NO_OPTIONS


def resolve_policy(path: str, *sources: Any) -> Policy:
    """Return the settings' policy for a path, changed by the decorators of ``sources`` in turn.

    :param path: ``request.path_info``
    """
    policy = configuration().policy_for(path)
    for source in sources:
        policy = options_of(source).over(policy)
    return policy


def error_response(problem: Problem, policy: Policy, request: HttpRequest) -> HttpResponseBase:
    """Return the response of an error of the guard's."""
    if isinstance(policy.errors, Errors):
        return problem_response(problem, policy)
    response: HttpResponseBase = renderable(policy.errors(problem, request))
    return response


Hook = Callable[..., Any]
"""Called with a view, the method that it stands around, and that method's arguments."""

_HOOK = "_idempotency_hook"
"""Attribute of a hook: itself. Decorators copy attributes of what they wrap, and are no hooks."""


def hook_methods(view_class: Any, hooks: Mapping[str, Hook], inherited: str = "") -> None:
    """Put hooks around methods of a class, wherever those are defined; once, and outermost.

    :param hooks: by the name of the method
    :param inherited: the method whose hook acts on instances of subclasses, too; for the others
        those have their own hooks
    """
    # Asked in every request, so that a method that was replaced gets its hook again.
    known = vars(view_class)
    for name, hook in hooks.items():
        own = known.get(name)
        if own is None or getattr(own, _HOOK, None) is not own:
            _hook_method(view_class, name, hook, name == inherited)


def _hook_method(view_class: Any, name: str, hook: Hook, inherited: bool) -> None:
    own = vars(view_class).get(name)

    @wraps(getattr(view_class, name))
    def hooked(view: Any, /, *args: Any, **kwargs: Any) -> Any:
        if own is None:
            # Looked up each time: in a subclass with another parent, that comes next.
            method = getattr(super(view_class, view), name)
        else:  # maybe a static method, a library's descriptor, or an object that does not bind
            method = own.__get__(view, type(view)) if hasattr(own, "__get__") else own
        if inherited or type(view) is view_class:
            return hook(view, method, *args, **kwargs)
        return method(*args, **kwargs)

    setattr(hooked, _HOOK, hooked)
    setattr(view_class, name, hooked)


def hook_replaced(view: Any, hooks: Mapping[str, Hook]) -> None:
    """Put hooks around methods that stand on a live view in place of its class's: ``as_view()``
    takes some, and views replace their own. Hooks of the class do not see calls of these."""
    known = vars(view)
    for name, hook in hooks.items():
        if name in known and not is_hook(known[name]):
            setattr(view, name, _replaced(view, known[name], hook))


def _replaced(view: Any, own: Any, hook: Hook) -> Any:
    @wraps(own)
    def hooked(*args: Any, **kwargs: Any) -> Any:
        return hook(view, own, *args, **kwargs)

    setattr(hooked, _HOOK, hooked)
    return hooked


def is_hook(method: Any) -> bool:
    return method is not None and getattr(method, _HOOK, None) is method


def unhooked(method: Any) -> Any:
    """Return what hooks stand around."""
    while is_hook(method):
        method = method.__wrapped__
    return method


class AnsweredEarly(Exception):
    """Ends what a DRF view does before its handler: there is an answer already."""

    def __init__(self, answer: HttpResponseBase) -> None:
        self.answer = answer
        super().__init__()


class Adapter:
    """A plain Django view, which returns its response and raises its exceptions.

    :param view_request: the request that the handler gets: Django's, or DRF's around it
    :param guard_or_problem: the guard to start, or what is wrong with the key
    :ivar substitute: the response that the client gets instead of the view's
    """

    substitute: HttpResponseBase | None = None

    def __init__(
        self,
        view_request: Any,
        policy: Policy,
        state: RequestState,
        guard_or_problem: Guard | Problem,
        position: GuardPosition | None = None,
    ) -> None:
        self.view_request = view_request
        self.request: HttpRequest = getattr(view_request, "_request", view_request)
        self.policy = policy
        self.state = state
        self.position = position
        self.guard = None if isinstance(guard_or_problem, Problem) else guard_or_problem
        self.problem = guard_or_problem if isinstance(guard_or_problem, Problem) else None

    def begin(self, view: Any = None) -> HttpResponseBase | None:
        """Start the guard, or have it started when the request comes to its position.

        :param view: the function view that Django calls next, if it has not yet
        :return: the answer, if there is one already
        """
        position = self.position
        if self.guard is None or position is None:
            return self.enter(view)
        if (
            self.policy.recheck is Recheck.AUTHENTICATION
            and self.replay_before_checks() is not None
        ):
            return self.substitute
        if position.hidden is not None:
            # Here a request without a key passes, and one with a malformed key gets its error.
            if self.guard.find_key(self.view_request) is None and self.guard.key:
                position.refuse_hidden()
            return self.enter(view)
        if not position.slots:
            admits = not position.tests or position.admits(self.view_request)
            return self.enter(view) if admits else None
        self.state.pending_start = (position.inner, self._enter_below)
        position.prepare()
        return None

    def _enter_below(self) -> HttpResponseBase | None:
        """Start the guard below decorators, which see a copy of the answer and cannot change it."""
        if self.position is not None and not self.position.admits(self.view_request):
            return None
        answer = self.enter()
        return self.copy_of(answer) if _is_rendered(answer) else answer

    def replay_before_checks(self) -> HttpResponseBase | None:
        """Answer with what is stored as soon as the caller is known, if policy wants that: a
        success may have changed what permissions and preconditions look at."""
        if self.guard is None or self.state.has_tried_early_replay:
            return None
        self.state.has_tried_early_replay = True
        answer = self.guard.replay_before_checks(self.view_request, self.parsed_payload)
        if answer is not None:
            self.substitute = self.respond(answer)
        return self.substitute

    def enter(self, view: Any = None) -> HttpResponseBase | None:
        """Start the guard. ``None``: run the handler; otherwise this is the answer."""
        guard = self.guard
        if guard is None:
            self.substitute = self.refuse()
            return self.substitute
        guard.is_handled, guard.render = self.is_handled, self.render
        answer = guard.start(self.view_request, self.parsed_payload, view)
        if answer is not None:
            self.substitute = self.respond(answer, view)
            return self.substitute
        if not guard.key:
            self.guard = None  # the policy's function has found none
            return None
        self.state.guard = guard
        self.state.adapter = self
        return None

    def refuse(self) -> HttpResponseBase:
        """Answer a key that is missing or malformed: nothing was looked up."""
        if self.problem is None:
            raise TypeError("There is nothing to refuse.")
        status, reason = self.problem.status, str(self.problem.code)
        subject = Subject(self.request, self.policy, "", perf_counter())
        report(subject, Outcome.REFUSED, status, reason=reason, cause=self.problem.cause)
        return self.respond(self.problem)

    def respond(self, answer: Answer, view: Any = None) -> HttpResponseBase:
        """Return what the client gets instead of the handler's response.

        :param view: the function view that Django calls next, if it has not yet
        """
        self.state.adapter = self
        is_replay = not isinstance(answer, Problem)
        response: Any = answer
        if isinstance(answer, Problem):
            response = error_response(answer, self.policy, self.request)
            self.mark_error(response)
        elif self.guard is not None and self.policy.key_header is not None:
            self.guard.echo_key(response)
        if not _is_rendered(response):
            return response  # type: ignore[no-any-return]  # a project's own error
        return self.pass_by(response, is_replay, self.copy_of if view is None else _plain)

    def mark_error(self, error: HttpResponseBase) -> None:
        """Say on an error of the guard what became of the key."""
        set_status_header(error, self.policy, Status.REFUSED)
        if self.guard is not None:
            self.guard.echo_key(error)

    def pass_by(
        self, answer: HttpResponse, is_replay: bool, copy_of: Callable[[Any], HttpResponse]
    ) -> HttpResponse:
        """Let a copy of the answer pass by those who stand before the end of the guard."""
        if not self.state.has_end:
            return copy_of(answer)
        # A stored response has been made for this request alone.
        is_ours = is_replay and copy_of is _plain and type(answer) is HttpResponse
        final = answer if is_ours else copy_of(answer)
        self.state.early = EarlyAnswer(final, copy_of(answer), self.policy, is_replay)
        return self.state.early.passing

    def copy_of(self, answer: Any) -> HttpResponse:
        """Return a copy of an answer, of the kind that the handler returns."""
        return as_returned(answer)

    def render(self, answer: Any) -> Any:
        """Make the response of what the view's resolver returns, as of what its handler does."""
        return rendered_alone(answer)

    def parsed_payload(self) -> Payload | None:
        """Digest what a framework has parsed, if it consumed the body."""
        return None

    def is_handled(self, error: BaseException) -> bool:
        """Whether code of the project, inside of the guard's end, makes an answer of an exception,
        and not only the framework."""
        return False

    def view_returned(self, response: Any) -> HttpResponseBase:
        """The handler returned: finish here, unless the response is seen further outside."""
        guard = self.guard
        if guard is not None and isinstance(response, SimpleTemplateResponse):
            guard.describe = _came_from_template
        if guard is None or self.state.has_end:
            return response  # type: ignore[no-any-return]
        return finish(guard, response)

    def view_raised(self, error: BaseException) -> HttpResponseBase | None:
        """The handler raised: undo its writes. ``None``: the exception goes on."""
        if self.guard is not None and self.guard.is_open:
            self.guard.fail(error)
            if not self.state.has_end:
                remember_raised(self.guard, self.request, error)
        return None

    def has_response_for(self, error: BaseException) -> bool:
        """What was called raised. Whether there is an answer instead, from before or from now."""
        if self.substitute is None:
            self.substitute = self.view_raised(error)
        return self.substitute is not None and isinstance(error, Exception)


def renderable(answer: Any) -> Any:
    """Have a response rendered as JSON if it is one of Django REST framework's and no view of that
    negotiates its renderer: the view of the request may be another one, or there may be none."""
    if _is_rest(answer) and not hasattr(answer, "accepted_renderer"):
        from rest_framework.renderers import JSONRenderer

        answer.accepted_renderer = JSONRenderer()
        answer.accepted_media_type = JSONRenderer.media_type
        answer.renderer_context = {}
    return answer


def rendered_alone(answer: Any) -> Any:
    """Render a response that its view does not see."""
    final = rendered(renderable(answer))
    if isinstance(answer, SimpleTemplateResponse) and not _is_rest(answer):
        _came_from_template(final)
    return final


def _is_rest(answer: Any) -> bool:
    # Not imported: whoever has such a response has done that.
    module: Any = sys.modules.get("rest_framework.response")
    return module is not None and isinstance(answer, module.Response)


def _is_rendered(answer: Any) -> bool:
    return isinstance(answer, HttpResponse) and getattr(answer, "is_rendered", True)


def _plain(answer: HttpResponse) -> HttpResponse:
    return copied(answer, HttpResponse())


def _came_from_template(final: HttpResponseBase) -> None:
    setattr(final, TEMPLATE, True)
