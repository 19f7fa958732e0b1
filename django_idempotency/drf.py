"""Django REST framework's door. Imported only when a DRF view is guarded."""

import logging
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from .doors import Door, bracket_of, finish
from .http.body import parsed_payload
from .http.guard import Answer, Guard
from .looks import per_function
from .policy import Errors, Policy
from .protocol.fingerprint import Payload
from .protocol.problems import Problem

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


class RestDoor(Door):
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

    def answer(self, answer: Answer) -> HttpResponseBase:
        if isinstance(answer, Problem) and self.policy.errors is Errors.DRF:
            raise IdempotencyError(answer)
        # A replay has been through this once, and a problem is no result to put into an envelope.
        self._view.finalize_response = lambda request, response, *args, **kwargs: response
        return super().answer(answer)

    def parsed_payload(self) -> Payload | None:
        """A permission or throttle has read ``request.data`` before us."""
        return parsed_payload(self.request, self.caller.data, self.policy.selection)

    def _enter(self, view: Any) -> HttpResponseBase | None:
        answer = super()._enter(view)
        if answer is None and self.guard is not None and bracket_of(self.request) is None:
            self._finish_later(self.guard)
        return answer

    def returned(self, response: Any) -> Any:
        return response

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


class AsyncRestDoor(RestDoor):
    """A handler of an async DRF view, as adrf makes them. Such a view finalizes its response in
    the event loop, where the guard cannot end: this is done here, and the view finds it done."""

    def returned(self, response: Any) -> Any:
        if self.guard is None or bracket_of(self.request) is not None:
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
        if guard is None or not guard.is_open or bracket_of(self.request) is not None:
            return None
        self._view.handle_exception = _raise
        try:
            return self.returned(handle(error)) if isinstance(error, Exception) else None
        finally:
            guard.abandon(error)

    def _finish_later(self, guard: Guard) -> None:
        """Not later."""


def _raise(error: Exception) -> Any:
    """The view has handled it once."""
    raise error


def rest_door(request: Request, policy: Policy) -> RestDoor:
    """Return the door for a request of DRF's."""
    view = request.parser_context.get("view")
    return (AsyncRestDoor if _is_async(type(view)) else RestDoor)(request, policy)


@per_function
def _is_async(view_class: Any) -> bool:
    """What Django finds out by looking at every handler."""
    return bool(getattr(view_class, "view_is_async", False))
