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
from ..guard.answers import Settled, copied
from ..guard.guard import Answer, Guard
from ..guard.request_state import finish
from ..http.fingerprint import parsed_payload
from ..http.responses import DATA
from ..protocol.fingerprint import Payload
from ..protocol.problems import Problem
from .base import Adapter

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


class RestAdapter(Adapter):
    """A handler of a DRF view: its response is rendered, and its exceptions are turned into
    responses, by the view, after the handler has ended."""

    def __init__(self, request: Request, policy: Policy) -> None:
        super().__init__(request, policy)
        self._view: Any = request.parser_context.get("view")
        if self._view is None:
            raise ImproperlyConfigured(
                "An idempotent DRF handler got a request that no view has made. Call the view, "
                "not its handler."
            )

    def answer(self, answer: Answer, view: Any = None) -> HttpResponseBase:
        if isinstance(answer, Problem) and self.policy.errors is Errors.DRF:
            self._after_finalizing(self.marked_error)
            raise IdempotencyError(answer)
        return super().answer(answer, view)

    def copy_of(self, answer: Any) -> HttpResponse:
        return finished(answer)

    def settle(
        self, answer: Any, is_replay: bool, copy_of: Callable[[Any], HttpResponse]
    ) -> HttpResponse:
        """Let a copy pass the view's ``finalize_response()``, too. It is rendered, so what
        negotiation finds changes nothing."""
        settled = Settled(copy_of(answer), copy_of(answer), self.policy, is_replay)

        def finalized(response: HttpResponseBase) -> HttpResponseBase:
            for name in _NEGOTIATED & vars(settled.passing).keys():
                setattr(settled.final, name, getattr(settled.passing, name))
            return settled.sent_for(response) if self.state is None else response

        self._after_finalizing(finalized)
        if self.state is not None:
            self.state.settled = settled
        return settled.passing

    def _after_finalizing(self, change: Callable[[HttpResponseBase], HttpResponseBase]) -> None:
        finalize = self._view.finalize_response

        def finalize_response(*args: Any, **kwargs: Any) -> HttpResponseBase:
            return change(finalize(*args, **kwargs))

        self._view.finalize_response = finalize_response

    def parsed_payload(self) -> Payload | None:
        """A permission or throttle has read ``request.data`` before us."""
        return parsed_payload(self.request, self.caller.data, self.policy)

    def _enter(self, view: Any) -> HttpResponseBase | None:
        answer = super()._enter(view)
        if answer is None and self.guard is not None:
            self.guard.is_handled = self._is_handled
            self._note_data(self.guard)
            if self.state is None:
                self._finish_later(self.guard)
        return answer

    def _note_data(self, guard: Guard) -> None:
        """See what code around the handler finds in ``response.data`` before it changes that."""
        finalize = self._view.finalize_response

        def finalize_response(request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(response, Response):
                guard.describe = partial(_describe, response, response.data, self.policy)
            return finalize(request, response, *args, **kwargs)

        self._view.finalize_response = finalize_response

    def returned(self, response: Any) -> Any:
        return response

    def raised(self, error: BaseException) -> HttpResponseBase | None:
        response = super().raised(error)
        if self.guard is not None and self.guard.is_open:
            self._tell_what_became(self.guard)
        return response

    def _is_handled(self, error: BaseException) -> bool:
        """Whether the project handles exceptions of the view, and not only DRF itself."""
        own = type(self._view).handle_exception is not APIView.handle_exception
        return own or self._view.get_exception_handler() is not exception_handler

    def _tell_what_became(self, guard: Guard) -> None:
        """What the view does behind its handling, an audit for example, is to stay."""
        handle = self._view.handle_exception

        def handle_exception(error: Exception) -> Response:
            response: Response | None = None
            try:
                response = handle(error)
            finally:
                guard.handled(error, response)
            return response

        self._view.handle_exception = handle_exception

    def _remember(self, guard: Guard, error: BaseException) -> None:
        """DRF makes a response of it, or raises again."""

    def _finish_later(self, guard: Guard) -> None:
        self._finish_in(self._view, guard)
        self._end_with_request(guard)

    def _end_with_request(self, guard: Guard) -> None:
        """A view that never finalizes its response must not leave its transaction open."""
        close = self.request.close

        def close_all() -> None:
            if guard.is_open:
                if not guard.has_failed:
                    logger.error("%r did not finalize its response: undone", self._view)
                guard.abandon(RuntimeError("the response was not finalized"))
            close()

        self.request.close = close_all  # type: ignore[method-assign]

    @staticmethod
    def _finish_in(view: Any, guard: Guard) -> None:
        finalize = view.finalize_response

        def finalize_response(*args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                response: HttpResponseBase = finalize(*args, **kwargs)
            except BaseException as error:
                guard.abandon(error)
                raise
            return finish(guard, response)

        view.finalize_response = finalize_response


class AsyncRestAdapter(RestAdapter):
    """A handler of an async DRF view, as adrf makes them. Such a view finalizes its response in
    the event loop, where the guard cannot end: this is done here, and the view finds it done."""

    def returned(self, response: Any) -> Any:
        if self.guard is None or self.state is not None:
            return response
        view, finalize = self._view, self._view.finalize_response
        view.finalize_response = lambda request, response, *args, **kwargs: response
        view.handle_exception = _raise
        try:
            final = finalize(self.caller, response, *view.args, **view.kwargs)
        except BaseException as error:
            self.guard.abandon(error)
            raise
        return finish(self.guard, final)

    def raised(self, error: BaseException) -> Any:
        super().raised(error)
        guard, handle = self.guard, self._view.handle_exception
        if guard is None or not guard.is_open or self.state is not None:
            return None
        self._view.handle_exception = _raise
        try:
            return self.returned(handle(error)) if isinstance(error, Exception) else None
        finally:
            guard.abandon(error)

    def _finish_later(self, guard: Guard) -> None:
        """Not later."""

    def _tell_what_became(self, guard: Guard) -> None:
        """The view handles exceptions in the event loop: the guard hears of it at its end."""


def _raise(error: Exception) -> Any:
    """The view has handled it once."""
    raise error


def rest_adapter(request: Request, policy: Policy) -> RestAdapter:
    """Return the adapter for a request of DRF's."""
    view = request.parser_context.get("view")
    return (AsyncRestAdapter if _is_async(type(view)) else RestAdapter)(request, policy)


@memoize
def _is_async(view_class: Any) -> bool:
    """What Django finds out by looking at every handler."""
    return bool(getattr(view_class, "view_is_async", False))
