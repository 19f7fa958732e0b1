"""What Django makes of an exception that leaves a view: a page, which the guard remembers."""

from functools import cache
from typing import Any

from django.conf import settings
from django.core.handlers.exception import get_exception_response
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_resolver, get_urlconf
from django.utils.module_loading import import_string

from ..compat.frameworks import answer_for_exceptions
from ..http.responses import rendered
from ..http.statuses import SERVER_ERROR, status_raised
from .guard import Guard

_ANSWER = "_idempotency_answer"
"""Attribute of an exception: the response that Django's handler has made of it."""


def remember_raised(guard: Guard, request: HttpRequest, error: BaseException) -> None:
    """Remember what Django will make of an exception, which is raised all the same, for the other
    middlewares' sake. What Django calls an error of the server is not asked for: its handling is
    logged and reported, and that must happen once."""
    try:
        status = status_raised(error)
        if not isinstance(error, Exception) or not _becomes_a_page():
            return
        if not guard.will_store or status >= SERVER_ERROR:
            return
        resolver = get_resolver(get_urlconf())
        response = rendered(get_exception_response(request, resolver, status, error))
        guard.finish(response)
        _hand_over(resolver, error, response)
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


def _hand_over(resolver: Any, error: Exception, response: HttpResponseBase) -> None:
    """Let Django find the page that is stored where it is about to ask for one. If the project's
    handler were asked again, what it does would be done twice, and its pages may differ."""
    setattr(error, _ANSWER, response)
    answer_for_exceptions(resolver, lambda raised: getattr(raised, _ANSWER, None))
