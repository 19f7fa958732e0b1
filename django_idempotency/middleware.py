"""The middleware: every matching write route is guarded, without touching its view."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .class_views import class_of, hook_class, watch
from .conf import configuration
from .doors import EXEMPT, OPTIONS, bracket_of, open_bracket, start
from .http.body import keep_body
from .http.guard import Status, tell
from .permissions import belongs_to_admin

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that need no guard (RFC 9110, section 9.2.1)."""


def leaves_alone(view: Any) -> bool:
    """Whether a view looks after itself, or belongs to Django's admin, wherever it is."""
    return hasattr(view, EXEMPT) or hasattr(view, OPTIONS) or belongs_to_admin(view)


class IdempotencyMiddleware:
    """Guards write requests that carry a key. It belongs last in ``MIDDLEWARE``.

    Function views are guarded in ``process_view``, when all checks made by middlewares (login,
    CSRF) have passed. Views made from classes are guarded where they call their handler, when
    their own checks have passed, too.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method in SAFE:
            return self._get_response(request)
        bracket = open_bracket(request)
        try:
            response = self._get_response(request)
        except BaseException as error:
            bracket.abandon(error)
            raise
        bracket.finish(response)
        policy = configuration().policy
        if policy.meta_key in request.META:
            tell(response, policy, Status.IGNORED)
        return response

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Claim the key, or answer instead of the view."""
        bracket = bracket_of(request)
        if bracket is None:
            return None
        settings = configuration()
        keyed = settings.policy.meta_key in request.META or settings.policy.required
        if not keyed or leaves_alone(view) or not settings.covers(request.path_info):
            return None
        view_class = class_of(view)
        if view_class is not None:
            hook_class(view_class)
            watch(request, {})
            keep_body(request)
            return None
        return start(request, settings.policy, bracket, view)

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        """The view raised: its writes are undone before others handle the exception."""
        bracket = bracket_of(request)
        if bracket is not None:
            bracket.fail(error)
