"""Django REST framework's door. Imported only when a DRF view is guarded."""

import json
import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from .doors import Door, bracket_of
from .http.guard import Answer, Guard
from .http.responses import rendered
from .policy import Errors, Policy
from .protocol.fingerprint import Payload, json_payload
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
        super().__init__(request._request, policy)
        self._rest_request = request
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
        try:
            document = json.dumps(self._rest_request.data).encode()
            media_type = (self.request.content_type or "").lower()
            return json_payload(document, media_type=media_type)
        except TypeError:
            return None

    def run(self, call: Callable[[], HttpResponseBase], guard: Guard) -> HttpResponseBase:
        if bracket_of(self.request) is None:
            self._finish_in(self._view, guard)
            self._end_with_request(guard)
        return super().run(call, guard)

    def returned(self, guard: Guard, response: HttpResponseBase) -> HttpResponseBase:
        return response

    def raised(self, guard: Guard, error: BaseException) -> None:
        """DRF makes a response of it, or raises again."""

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
                response: HttpResponseBase = rendered(finalize(*args, **kwargs))
            except BaseException as error:
                guard.abandon(error)
                raise
            guard.finish(response)
            return response

        view.finalize_response = finalize_response
