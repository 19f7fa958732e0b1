"""Everything the guard knows about one request, in one object, and where a guard ends.

A guard ends with what comes out behind a handler, as far outside as it can be seen: in the
middleware, or in the outermost decorator. The further outside, the more of what the project does to
a response is stored with it.
"""

from asyncio import iscoroutine
from collections.abc import Callable, Coroutine, Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from django.core.handlers.exception import get_exception_response
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import get_resolver, get_urlconf
from django.utils.module_loading import import_string

from ..compat.django import header_fields
from ..compat.frameworks import answer_for_exceptions
from ..conf.options import NO_OPTIONS, Options
from ..conf.policy import Policy
from ..conf.settings import configuration
from ..http.responses import BODY_HEADERS, attributes_of, rendered
from ..http.statuses import SERVER_ERROR, status_raised
from ..protocol.problems import Problem
from ..threads import on_request_thread, to_its_end
from .guard import Guard

Response = TypeVar("Response", bound=HttpResponse)

STATE = "_idempotency_state"
"""Attribute of Django's requests: their :class:`RequestState`."""

_ANSWER = "_idempotency_answer"
"""Attribute of an exception: the response that Django's handler has made of it."""


TEMPLATE = "idempotency_template"
"""Flag on a response, stored with it: the handler returned a template response."""

REDIRECTION = 300
"""The first status that is no success."""

_ABOUT_THE_BODY = BODY_HEADERS | {"content-type", "content-encoding"}


def copied(response: HttpResponse, copy_to: Response) -> Response:
    """Make one response say what another says, and return it.

    :param response: rendered
    :param copy_to: new
    """
    copy_to.content = response.content
    copy_to.status_code = response.status_code
    fields = header_fields(copy_to)
    fields.clear()
    fields.update(header_fields(response))
    if response.cookies:
        copy_to.cookies = copy(response.cookies)
    for name, value in attributes_of(response).items():
        setattr(copy_to, name, value)
    if hasattr(response, "url"):
        copy_to.url = response.url  # type: ignore[attr-defined]  # as on a redirect
    return copy_to


def as_returned(response: HttpResponse) -> HttpResponse:
    """Return a copy of a stored answer of the kind that the handler returned."""
    if not getattr(response, TEMPLATE, False):
        return copied(response, HttpResponse())
    nothing: Any = None  # it is rendered already
    return copied(response, TemplateResponse(nothing, nothing, {}))


@dataclass(slots=True)
class EarlyAnswer:
    """An answer that is decided before the view has run: a replay, or an error of the guard.

    Code of the project stands between the guard and the client: ``finalize_response()``,
    ``dispatch()``, a decorator around ``as_view()``. It writes audit rows, counts, puts bodies into
    envelopes. At the first request the guard stores what comes out of it. So a copy of a replay
    passes by it, for code that watches, and at the end the stored answer is sent, not what has
    become of the copy (I6).

    :param final: what the client gets, rendered; nothing else refers to it
    :param passing: a copy of it
    :param is_replay: of a stored response; else it is an error
    """

    final: HttpResponse
    passing: HttpResponse
    policy: Policy
    is_replay: bool

    def sent_for(self, passed: Any) -> HttpResponseBase:
        """Return the response to send, given the copy that has passed code around the view.

        A refusal of the caller is sent unchanged: a replay must not override a permission check
        around the view (I5), whether the check answers 403, hides the object (404) or redirects to
        a login page. A server error is sent, too. An error of the guard
        keeps header fields and cookies that the project has added to it.
        """
        if not isinstance(passed, HttpResponseBase):
            return passed  # type: ignore[no-any-return]
        status = passed.status_code
        refuses = status >= REDIRECTION if self.is_replay else status in self.policy.not_stored
        if refuses and status != self.final.status_code:
            return passed
        if not self.is_replay:
            for name, value in passed.items():
                if name.lower() not in _ABOUT_THE_BODY:
                    self.final.headers.setdefault(name, value)
            self.final.cookies.update(passed.cookies)
        return self.final


class RequestState:
    """The guard's state of one request.

    The middleware creates it, or else the first adapter. Hooks on classes and operations serve all
    requests, and read here what to do about this one. Defaults are attributes of the class, so they
    cost nothing for a request without a key.

    :ivar is_examined: the middleware has looked whether the request has anything to do with it
    :ivar keyed: the policy of the path by the settings, if the request has that policy's key
    :ivar has_end: the middleware or a decorator sees the final response, and ends the guard
    :ivar is_innermost: it is a decorator: an exception that it raises propagates to Django
    :ivar runs_to_end: under ASGI, a cancellation would not stop the view any more: it runs in a
        thread, or has returned. So its end is awaited, and what it did is stored.
    :ivar view: the class-based view that was dispatched last
    :ivar view_options: what was said further outside of the class-based view that gets this
        request; ``None`` if no guard is wanted
    :ivar inner_dispatch: the ``dispatch()`` of a parent that does the view's work, behind checks of
        users, and what to call in its place
    :ivar adapter_class: of requests that are not DRF's, if not the one for plain views
    :ivar operation: Django Ninja's operation that runs
    :ivar operation_options: what was said of that operation; ``None`` as above
    :ivar refusal: the problem of the key, and the policy by which it is answered
    :ivar early_replay_policy: the policy by which :attr:`view` looks for a replay before its checks
    :ivar has_tried_early_replay: that was done
    :ivar pending_start: a function below decorators, and what to call when the request comes to it
    :ivar guard: begun; the adapter beside it knows the framework
    :ivar early: the answer, if it is known before the handler runs
    """

    is_examined = False
    keyed: Policy | None = None
    has_end = False
    is_innermost = False
    runs_to_end = False
    view: Any = None
    view_options: Options | None = None
    adapter_class: Any = None
    operation: Any = None
    operation_options: Options | None = None
    inner_dispatch: tuple[Any, Any] | None = None
    refusal: tuple[Policy, Problem] | None = None
    early_replay_policy: Policy | None = None
    has_tried_early_replay = False
    pending_start: tuple[Any, Callable[[], Any]] | None = None
    guard: Guard | None = None
    adapter: Any = None
    early: EarlyAnswer | None = None

    def want_view(self, options: Options) -> None:
        """Have the class-based view that gets this request guard its handler. What was said before,
        further outside, comes first."""
        self.view_options = options.around(self.view_options or NO_OPTIONS)

    def want_operation(self, options: Options) -> None:
        """The same for an operation: a router's word comes before its API's."""
        self.operation_options = options.around(self.operation_options or NO_OPTIONS)

    def abandon(self, request: HttpRequest, error: BaseException) -> None:
        """An exception has come as far outside as the guard can see."""
        if self.guard is None:
            return
        if self.is_innermost:
            remember_raised(self.guard, request, error)
        else:
            self.guard.abandon(error)

    def end(self, response: HttpResponseBase) -> HttpResponseBase:
        """A response has come as far outside: return the response to send."""
        if self.early is not None:
            return self.early.sent_for(response)
        return response if self.guard is None else finish(self.guard, response)


def state_of(request: Any) -> RequestState:
    """Return what the guard knows about a request.

    :param request: Django's, or DRF's around it
    """
    known = getattr(request, "_request", request).__dict__
    state: RequestState | None = known.get(STATE)
    if state is None:
        state = known[STATE] = RequestState()
    return state


def finish(guard: Guard, response: Any) -> HttpResponseBase:
    """Render the response, store it, and commit: nothing changes it after this."""
    try:
        if not isinstance(response, HttpResponseBase):
            _refuse_other(response)
        final: HttpResponseBase = response
        if hasattr(response, "render"):
            final = rendered(response)
        if guard.describe is not None:
            guard.describe(final)
    except BaseException as error:
        guard.abandon(error)
        raise
    guard.finish(final)
    return final


def _refuse_other(response: Any) -> None:
    if iscoroutine(response):
        response.close()
    raise TypeError(
        f"A guarded view returned {response!r}, which is not a response. A decorator around an "
        "async view must be a coroutine function, or be marked as one; an operation of Django "
        "Ninja is decorated below @api.post, or with its whole API: idempotent(api)."
    )


def may_carry_key(request: HttpRequest) -> bool:
    """Whether any view could find a key in the request. Costs no query."""
    if configuration().may_carry_key(request.META):
        return True
    return not _own_meta_keys.isdisjoint(request.META)


def expect_key_in(carriers: Iterable[str]) -> None:
    """Note that a decorator finds keys in requests that have one of these in ``META``."""
    _own_meta_keys.update(carriers)


_own_meta_keys: set[str] = set()


def end_around(
    request: HttpRequest, state: RequestState, call: Callable[[HttpRequest], HttpResponseBase]
) -> HttpResponseBase:
    """Call what leads to the handler, and end the guard that was started on the way."""
    try:
        response = call(request)
    except BaseException as error:
        state.abandon(request, error)
        raise
    return state.end(response)


async def aend_around(
    request: HttpRequest,
    state: RequestState,
    call: Coroutine[Any, Any, HttpResponseBase],
) -> HttpResponseBase:
    """As :func:`end_around`, but for the awaiting; without a guard nothing leaves the loop.

    :raises asyncio.CancelledError: if cancelled; a response that there is by then is stored
    """
    work, cancelled = await to_its_end(call, lambda: not state.runs_to_end)
    try:
        response = work.result()
    except BaseException as error:
        # A thread that was left may start a guard yet: this comes after it.
        if state.guard is not None or work.cancelled():
            await on_request_thread(state.abandon, request, error)
        raise
    if state.guard is None:
        response = state.end(response)
    else:
        response = await on_request_thread(state.end, response)
    if cancelled is not None:
        raise cancelled
    return response


def in_state(request: Any, call: Callable[[Any], Any]) -> Any:
    """Call what leads to a handler. A guard that starts on the way ends here, or further outside.

    :param call: given the request, returns a response, or a coroutine that does
    """
    if not may_carry_key(request):
        return call(request)
    state = state_of(request)
    guard = state.guard
    if state.has_end or (guard is not None and guard.is_running):
        return call(request)
    state.has_end = state.is_innermost = True
    state.runs_to_end = False
    state.guard = state.early = None  # of a handler that has ended
    response = None
    try:
        response = end_around(request, state, call)
    finally:
        if not iscoroutine(response):
            vars(state).clear()
    return _awaited(request, state, response) if iscoroutine(response) else response


async def _awaited(request: HttpRequest, state: RequestState, response: Any) -> HttpResponseBase:
    try:
        return await aend_around(request, state, response)
    finally:
        vars(state).clear()


def remember_raised(guard: Guard, request: HttpRequest, error: BaseException) -> None:
    """Remember what Django will make of an exception, which is raised all the same, for the other
    middlewares' sake. What Django calls an error of the server is not asked for: its handling is
    logged and reported, and that must happen once."""
    try:
        guard.fail(error)
        status = status_raised(error)
        if not isinstance(error, Exception) or not _becomes_a_page():
            return
        if not guard.will_store or status >= SERVER_ERROR:
            return
        resolver = get_resolver(get_urlconf())
        response = rendered(get_exception_response(request, resolver, status, error))
        guard.finish(response)
        # If the project's handler were asked again, what it does would be done twice, and its pages
        # may differ.
        setattr(error, _ANSWER, response)
        answer_for_exceptions(resolver, lambda raised: getattr(raised, _ANSWER, None))
    finally:
        guard.abandon(error)


def _becomes_a_page() -> bool:
    """Whether Django will ask the project's handler, such as ``handler404``.

    What a middleware makes of the exception, only the middleware could tell; and with ``DEBUG``
    Django shows a page for developers.
    """
    return not settings.DEBUG and not _exceptions_are_handled(tuple(settings.MIDDLEWARE))


@cache
def _exceptions_are_handled(middlewares: tuple[str, ...]) -> bool:
    """Whether a middleware may turn an exception of a view into another response."""
    return any(hasattr(import_string(name), "process_exception") for name in middlewares)
