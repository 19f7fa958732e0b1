"""Django REST framework's adapter. Imported only when a DRF view is guarded."""

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from ..conf.memoize import memoize
from ..conf.policy import Errors, Policy
from ..guard.guard import Answer, Guard
from ..guard.request_state import STATE, EarlyAnswer, copied, finish
from ..http.claim import parsed_payload
from ..http.responses import DATA, Render, rendered
from ..protocol.fingerprint import Payload
from ..protocol.problems import Problem
from .base import (
    Adapter,
    AnsweredEarly,
    Hook,
    hook_methods,
    hook_replaced,
    rendered_alone,
    unhooked,
)

logger = logging.getLogger("django_idempotency")


class IdempotencyError(APIException):
    """A problem on its way to the project's own exception handler (``errors="drf"``).

    :ivar problem: what went wrong
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.status_code = problem.status
        super().__init__(problem.detail, str(problem.code))
        if problem.retry_after is not None:
            # DRF's exception handler turns this into the Retry-After header.
            self.wait = problem.retry_after


_UNREAD = object()


class Finished(Response):
    """A response that has been rendered before. Its body stays; its data are there to be read.

    They are what JSON says, not the objects that a serializer made; of other media types, ``None``.
    """

    _data: Any = _UNREAD

    @property
    def data(self) -> Any:
        if self._data is _UNREAD:
            self._data = _read(self)
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        if self.is_rendered:  # not by __init__(), which comes before there is a body
            self._data = data


def _read(response: HttpResponse) -> Any:
    media_type = response.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        return None
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def finished(answer: HttpResponse) -> Finished:
    """Return a copy of an answer for those who expect a response of Django REST framework."""
    copy = copied(answer, Finished(exception=answer.status_code >= 400))
    if hasattr(answer, DATA):
        copy.data = getattr(answer, DATA)
    return copy


_NEGOTIATED = {"accepted_renderer", "accepted_media_type", "renderer_context"}
"""What ``finalize_response()`` puts on a response, and code further outside may read."""


def _describe(response: Response, data: Any, policy: Policy, final: HttpResponseBase) -> None:
    """Note the data on the final response, unless its body says them: a replay needs them as long
    as it passes by those who read them.

    Where fields are redacted they are not noted: they may have other names in the body.
    """
    renderer = type(getattr(response, "accepted_renderer", None))
    is_said = final is response and response.data is data and _writes_json(renderer)
    if is_said or policy.redacted_fields or data is None:
        return
    try:
        text = JSONRenderer().render(data)
        if len(text) <= policy.max_response_size:
            setattr(final, DATA, json.loads(text))
    except (TypeError, ValueError, RecursionError):
        logger.debug("The data of %r are not plain: its replay has none", response)


def _writes_json(renderer: Any) -> bool:
    """Whether a renderer writes data as they are."""
    return getattr(renderer, "render", None) is JSONRenderer.render


def finalized(view: Any, view_request: Request, answer: Any, policy: Policy) -> Any:
    """Make of an answer what the view makes of its handler's: negotiate, put it into an envelope,
    render.

    :param answer: of a resolver or a resumable handler, which no view has called
    """
    if not isinstance(answer, Response) or answer.is_rendered:
        return rendered_alone(answer)
    data = answer.data
    final = rendered(view.finalize_response(view_request, answer, *view.args, **view.kwargs))
    _describe(answer, data, policy, final)
    return final


def render_as(view: Any, request: Any, policy: Policy) -> Render:
    """Return what :func:`finalized` would make of answers in a request to a view.

    :param view: the function that a URL names
    :param request: of the same target, and nothing else of what the client has sent
    """
    match = request.resolver_match
    made = view.cls(**view.initkwargs)
    made.args, made.kwargs, made.format_kwarg = match.args, match.kwargs, None
    made.action_map = getattr(view, "actions", None) or {}
    made.request = made.initialize_request(request, *match.args, **match.kwargs)
    made.format_kwarg = made.get_format_suffix(**match.kwargs)
    made.headers = made.default_response_headers
    negotiated = made.perform_content_negotiation(made.request, force=True)
    made.request.accepted_renderer, made.request.accepted_media_type = negotiated

    def render(answer: Any) -> Any:
        return finalized(made, made.request, answer, policy)

    return render


class RestAdapter(Adapter):
    """A handler of a DRF view: its response is rendered, and its exceptions are turned into
    responses, by the view, after the handler has ended. Hooks on its class tell of both."""

    _early: EarlyAnswer | None = None
    _has_begun = False
    _has_raised = False
    _is_error = False
    _is_inside = False
    """In a hook: what stands on a live view calls the class's method, which has a hook, too."""

    def __init__(self, view_request: Request, *args: Any) -> None:
        super().__init__(view_request, *args)
        self.view: Any = view_request.parser_context.get("view")
        if self.view is None:
            raise ImproperlyConfigured(
                "An idempotent DRF handler got a request that no view has made. Call the view, "
                "not its handler."
            )
        hook_methods(type(self.view), HOOKS)
        hook_replaced(self.view, HOOKS)

    def enter(self, view: Any = None) -> HttpResponseBase | None:
        answer = super().enter(view)
        if answer is None and self.guard is not None:
            self._has_begun = True
            if not self.state.has_end:
                self._end_with_request(self.guard)
        return answer

    def respond(self, answer: Answer, view: Any = None) -> HttpResponseBase:
        if isinstance(answer, Problem) and self.policy.errors is Errors.DRF:
            self.state.adapter = self
            self._is_error = True
            raise IdempotencyError(answer)
        return super().respond(answer, view)

    def copy_of(self, answer: Any) -> HttpResponse:
        return finished(answer)

    def pass_by(
        self, answer: Any, is_replay: bool, copy_of: Callable[[Any], HttpResponse]
    ) -> HttpResponse:
        """Let a copy pass the view's ``finalize_response()``, too. It is rendered, so what
        negotiation finds changes nothing."""
        self._early = EarlyAnswer(copy_of(answer), copy_of(answer), self.policy, is_replay)
        if self.state.has_end:
            self.state.early = self._early
        return self._early.passing

    def render(self, answer: Any) -> Any:
        return finalized(self.view, self.view_request, answer, self.policy)

    def parsed_payload(self) -> Payload | None:
        """A permission or throttle has read ``request.data`` before us."""
        return parsed_payload(self.request, self.view_request.data, self.policy)

    def is_handled(self, error: BaseException) -> bool:
        own = unhooked(type(self.view).handle_exception) is not APIView.handle_exception
        return own or self.view.get_exception_handler() is not exception_handler

    def view_returned(self, response: Any) -> Any:
        return response

    def view_raised(self, error: BaseException) -> HttpResponseBase | None:
        """DRF makes a response of it, or raises again."""
        if self.guard is not None and self.guard.is_open:
            self.guard.fail(error)
            self._has_raised = self.guard.is_open
        return None

    def outermost(self, act: Callable[..., Any], method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Act around a method of the view, unless that is called in an outer hook around it."""
        if self._is_inside:
            return method(*args, **kwargs)
        self._is_inside = True
        try:
            return act(method, *args, **kwargs)
        finally:
            self._is_inside = False

    def handle(self, handle: Callable[[Exception], Response], error: Exception) -> Response:
        """The view handles what was raised. What it does behind that, an audit for example, is to
        stay, so the guard is told what has become of the exception."""
        if self.guard is None or not self._has_raised:
            return handle(error)
        response: Response | None = None
        try:
            response = handle(error)
        finally:
            self.guard.handled(error, response)
        return response

    def finalize(
        self,
        finalize: Callable[..., Any],
        request: Any,
        response: Any,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> HttpResponseBase:
        """The view finalizes a response."""
        if self._has_begun and self.guard is not None:
            return self._finalize(self.guard, finalize, request, response, *args, **kwargs)
        final: HttpResponseBase = finalize(request, response, *args, **kwargs)
        if self._is_error:
            self.mark_error(final)
        if self._early is None:
            return final
        for name in _NEGOTIATED & vars(self._early.passing).keys():
            setattr(self._early.final, name, getattr(self._early.passing, name))
        return final if self.state.has_end else self._early.sent_for(final)

    def _finalize(
        self,
        guard: Guard,
        finalize: Callable[..., Any],
        request: Any,
        response: Any,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> HttpResponseBase:
        self._note_data(guard, response)
        if self.state.has_end:
            final: HttpResponseBase = finalize(request, response, *args, **kwargs)
            return final
        try:
            final = finalize(request, response, *args, **kwargs)
        except BaseException as error:
            guard.abandon(error)
            raise
        return finish(guard, final)

    def _note_data(self, guard: Guard, response: Any) -> None:
        """See what code around the handler finds in ``response.data`` before it changes that."""
        if isinstance(response, Response):
            guard.describe = partial(_describe, response, response.data, self.policy)

    def _end_with_request(self, guard: Guard) -> None:
        """A view that never finalizes its response must not leave its transaction open."""
        close = self.request.close

        def close_all() -> None:
            if guard.is_open:
                if not guard.has_failed:
                    logger.error(
                        "%s: %r did not finalize its response: undone", guard.name, self.view
                    )
                guard.abandon(RuntimeError("the response was not finalized"))
            close()

        self.request.close = close_all  # type: ignore[method-assign]


class AsyncRestAdapter(RestAdapter):
    """A handler of an async DRF view, as adrf makes them. Such a view finalizes its response in
    the event loop, where the guard cannot end: this is done here, and the view finds it done."""

    _is_over = False

    def view_returned(self, response: Any) -> Any:
        guard, view = self.guard, self.view
        if guard is None or self.state.has_end:
            return response
        try:
            final = view.finalize_response(self.view_request, response, *view.args, **view.kwargs)
        except BaseException as error:
            guard.abandon(error)
            raise
        finally:
            self._is_over = True
        return finish(guard, final)

    def view_raised(self, error: BaseException) -> Any:
        super().view_raised(error)
        guard = self.guard
        if guard is None or not guard.is_open or self.state.has_end:
            return None
        try:
            handle = self.view.handle_exception
            return self.view_returned(handle(error)) if isinstance(error, Exception) else None
        finally:
            self._is_over = True
            guard.abandon(error)

    def handle(self, handle: Callable[[Exception], Response], error: Exception) -> Response:
        """The view handles exceptions in the event loop: the guard hears of it at its end."""
        if self._is_over:
            raise error
        return handle(error)

    def _finalize(
        self,
        guard: Guard,
        finalize: Callable[..., Any],
        request: Any,
        response: Any,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> HttpResponseBase:
        if not self._is_over:
            self._note_data(guard, response)
            response = finalize(request, response, *args, **kwargs)
        return response  # type: ignore[no-any-return]

    def _end_with_request(self, guard: Guard) -> None:
        """It has ended with the handler."""


def rest_adapter(view_request: Request, *args: Any) -> RestAdapter:
    """Return the adapter for a request of DRF's."""
    view = view_request.parser_context.get("view")
    return (AsyncRestAdapter if _is_async(type(view)) else RestAdapter)(view_request, *args)


@memoize
def _is_async(view_class: Any) -> bool:
    """What Django finds out by looking at every handler."""
    return bool(getattr(view_class, "view_is_async", False))


def _handle_exception(view: Any, handle: Any, error: Exception) -> Any:
    if isinstance(error, AnsweredEarly):
        return error.answer
    adapter = _adapter_of(view, getattr(view, "request", None))
    return handle(error) if adapter is None else adapter.outermost(adapter.handle, handle, error)


def _finalize_response(
    view: Any, finalize: Any, request: Any, response: Any, /, *args: Any, **kwargs: Any
) -> Any:
    adapter = _adapter_of(view, request)
    if adapter is None:
        return finalize(request, response, *args, **kwargs)
    return adapter.outermost(adapter.finalize, finalize, request, response, *args, **kwargs)


HOOKS: dict[str, Hook] = {
    "handle_exception": _handle_exception,
    "finalize_response": _finalize_response,
}
"""By which a class tells the adapter of what its views make of responses and exceptions."""


def _adapter_of(view: Any, request: Any) -> RestAdapter | None:
    """Return the adapter of a view's request, unless that is about another view."""
    state = getattr(getattr(request, "_request", request), STATE, None)
    adapter = None if state is None else state.adapter
    return adapter if isinstance(adapter, RestAdapter) and adapter.view is view else None
