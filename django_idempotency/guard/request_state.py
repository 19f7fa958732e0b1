"""Where a guard ends: with what comes out behind a handler, as far outside as it can be seen.

A bracket is put around what leads to a handler: by the middleware around everything, by a decorator
around what it decorates. A guard that starts on the way in ends with it, and what was done to the
response in between is stored.
"""

from asyncio import iscoroutine
from collections.abc import Callable, Coroutine
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..conf.settings import configuration
from ..http.responses import rendered
from ..threads import on_request_thread, to_its_end
from .answers import Settled
from .guard import Guard, is_running
from .raised import remember_raised

_STATE = "_idempotency_bracket"


class RequestState:
    """The middleware's hold on a request: it sees the rendered response, whatever the view is.

    :ivar runs_to_end: under ASGI, a cancellation would not stop the view any more: it runs in a
        thread, or has returned. So its end is awaited, and what it did is stored.
    :ivar settled: the answer, if it is known before the handler runs
    """

    def __init__(self) -> None:
        self.guard: Guard | None = None
        self.settled: Settled | None = None
        self.runs_to_end = False

    def fail(self, error: BaseException) -> None:
        if self.guard is not None:
            self.guard.fail(error)

    def abandon(self, error: BaseException) -> None:
        if self.guard is not None:
            self.guard.abandon(error)

    def finish(self, response: HttpResponseBase) -> HttpResponseBase:
        if self.settled is not None:
            return self.settled.sent_for(response)
        return response if self.guard is None else finish(self.guard, response)


class InnerRequestState(RequestState):
    """A decorator's, without the middleware: what is raised through it goes on to Django."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__()
        self._request = request

    def abandon(self, error: BaseException) -> None:
        if self.guard is not None:
            self.guard.fail(error)
            remember_raised(self.guard, self._request, error)


def finish(guard: Guard, response: HttpResponseBase) -> HttpResponseBase:
    """Nobody changes the response after this: render it, store it, commit."""
    try:
        final: HttpResponseBase = rendered(_checked(response))
        guard.describe(final)
    except BaseException as error:
        guard.abandon(error)
        raise
    guard.finish(final)
    return final


def _checked(response: Any) -> HttpResponseBase:
    if isinstance(response, HttpResponseBase):
        return response
    if iscoroutine(response):
        response.close()
    raise TypeError(
        f"A guarded view returned {response!r}, which is not a response. A decorator around an "
        "async view must be a coroutine function, or be marked as one; an operation of Django "
        "Ninja is decorated below @api.post, or with its whole API: idempotent(api)."
    )


def open_state(request: HttpRequest) -> RequestState:
    """Let the middleware, not the adapter, finish what is guarded in this request."""
    state = RequestState()
    setattr(request, _STATE, state)
    return state


def state_of(request: HttpRequest) -> RequestState | None:
    return getattr(request, _STATE, None)


def run_to_end(request: HttpRequest) -> None:
    """Let nothing cancel the view any more, if the middleware guards the request."""
    state = state_of(request)
    if state is not None:
        state.runs_to_end = True


def may_carry_key(request: HttpRequest) -> bool:
    """Whether any view could find a key in the request. Costs no query."""
    if configuration().may_carry_key(request.META):
        return True
    return not _own_meta_keys.isdisjoint(request.META)


def expect_key_in(meta_key: str) -> None:
    """A decorator reads keys from a header of its own."""
    _own_meta_keys.add(meta_key)


_own_meta_keys: set[str] = set()


def finish_around(call: Callable[[], HttpResponseBase], state: RequestState) -> HttpResponseBase:
    """Call what leads to the handler, and end the guard that was started on the way."""
    try:
        response = call()
    except BaseException as error:
        if state.guard is not None:
            state.abandon(error)
        raise
    return state.finish(response)


async def afinish_around(
    call: Callable[[], Coroutine[Any, Any, HttpResponseBase]], state: RequestState
) -> HttpResponseBase:
    """As :func:`bracketed`, but for the awaiting; without a guard nothing leaves the loop.

    :raises asyncio.CancelledError: if cancelled; a response that there is by then is stored
    """
    work, cancelled = await to_its_end(call(), lambda: not state.runs_to_end)
    try:
        response = work.result()
    except BaseException as error:
        # A thread that was left may start a guard yet: this comes after it.
        if state.guard is not None or work.cancelled():
            await on_request_thread(state.abandon, error)
        raise
    if state.guard is None:
        response = state.finish(response)
    else:
        response = await on_request_thread(state.finish, response)
    if cancelled is not None:
        raise cancelled
    return response


def in_state(request: HttpRequest, call: Callable[[], Any]) -> Any:
    """Call what leads to a handler. A guard that starts on the way ends here, or further outside.

    The further outside, the more of what the project does to a response is stored with it.

    :param call: returns a response, or a coroutine that does
    """
    if state_of(request) is not None or is_running(request) or not may_carry_key(request):
        return call()
    state = InnerRequestState(request)
    setattr(request, _STATE, state)
    response = None
    try:
        response = finish_around(call, state)
    finally:
        if not iscoroutine(response):
            delattr(request, _STATE)
    return _awaited(request, response, state) if iscoroutine(response) else response


async def _awaited(request: HttpRequest, response: Any, state: RequestState) -> HttpResponseBase:
    try:
        return await afinish_around(lambda: response, state)
    finally:
        delattr(request, _STATE)
