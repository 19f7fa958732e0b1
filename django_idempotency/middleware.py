"""The middleware: every matching write route is guarded, without touching its view."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .adapters.affinity import AsyncGuard, watch_new_connections
from .adapters.base import EXEMPT, OPTIONS, Adapter, approach, recall, resolve_policy
from .adapters.class_based import class_of, hook_class, watch
from .adapters.ninja import hook_view
from .adapters.position import position_of
from .compat.frameworks import belongs_to_admin
from .conf.memoize import memoize
from .conf.options import NOTHING
from .conf.policy import Recheck
from .conf.settings import configuration
from .guard.guard import UNPROTECTED, Guard, Status, tell
from .guard.no_operation import LEFT_ALONE, NO_KEY, NOT_BEGUN, runs_unprotected, without_operation
from .guard.request_state import (
    afinish_around,
    finish_around,
    may_carry_key,
    open_state,
    run_to_end,
    state_of,
)
from .http.fingerprint import keep_body
from .threads import on_request_thread

__all__ = ["IdempotencyMiddleware"]

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that need no guard (RFC 9110, section 9.2.1)."""


def leaves_alone(view: Any) -> bool:
    """Whether a view looks after itself, or belongs to Django's admin, wherever it is."""
    return hasattr(view, EXEMPT) or hasattr(view, OPTIONS) or _is_of_admin(view)


_is_of_admin = memoize(belongs_to_admin)


class IdempotencyMiddleware:
    """Guards write requests that carry a key. It belongs last in ``MIDDLEWARE``.

    Function views are guarded in ``process_view``, when all checks made by middlewares (login,
    CSRF) have passed, or below those of their decorators that may check the caller, too. Views made
    from classes are guarded where they call their handler, when their own checks have passed.

    Under ASGI it is async; Django then asks ``process_view`` to be, but never
    ``process_exception``, which it always calls on the request's thread.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        configuration()  # or a wrong setting would fail each request, not the start
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
            self.process_view = self._aprocess_view  # type: ignore[method-assign]
            self.process_template_response = self._aprocess_template_response
            watch_new_connections()

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._acall(request)
        if request.method in SAFE:
            return self._get_response(request)
        state = open_state(request)
        return _told(request, finish_around(lambda: self._get_response(request), state))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        if request.method in SAFE:
            safe: HttpResponse = await self._get_response(request)
            return safe
        state = open_state(request)
        if not may_carry_key(request):
            return _told(request, await self._get_response(request))
        return _told(request, await afinish_around(lambda: self._get_response(request), state))

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> Any:
        """Claim the key, or answer instead of the view. Below decorators that may check the caller
        that is done when they have let the request pass."""
        adapter = _adapter(request, view, Guard)
        if adapter is None:
            return _recalled(request, view, Guard)
        return adapter.begin(position_of(view), view)

    async def _aprocess_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> Any:
        adapter = _adapter(request, view, AsyncGuard)
        answer = None
        if adapter is not None:
            answer = await on_request_thread(adapter.begin, position_of(view), view)
        elif _recalls(request, view):
            answer = await on_request_thread(_recalled, request, view, AsyncGuard)
        if not iscoroutinefunction(view):
            run_to_end(request)  # Django calls it in a thread, which no cancellation stops
        return answer

    async def _aprocess_template_response(
        self, request: HttpRequest, response: HttpResponse
    ) -> HttpResponse:
        """The view has returned; Django renders its response next, in a thread."""
        run_to_end(request)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        """The view raised: its writes are undone before others handle the exception."""
        state = state_of(request)
        if state is not None:
            state.fail(error)


def _told(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    settings = configuration()
    if settings.may_concern(request.META):
        policy = settings.policy_for(request.path_info)
        if policy.meta_key in request.META:
            tell(response, policy, Status.IGNORED)
            if runs_unprotected(request):
                response[UNPROTECTED] = "true"
    return response


def _recalls(request: HttpRequest, view: Any) -> bool:
    """Whether a function decorated with ``@idempotent`` wants its checks to come after a replay."""
    options = getattr(view, OPTIONS, None)
    if options is None or class_of(view) is not None or state_of(request) is None:
        return False
    return resolve_policy(request.path_info, view).recheck is Recheck.AUTHENTICATION


def _recalled(request: HttpRequest, view: Any, guard_type: type[Guard]) -> HttpResponseBase | None:
    if not _recalls(request, view):
        return None
    return recall(request, resolve_policy(request.path_info, view), guard_type)


def _adapter(request: HttpRequest, view: Any, guard_type: type[Guard]) -> Adapter | None:
    """Return the adapter of a function view. Views made from classes will find theirs."""
    if state_of(request) is None:
        return None
    settings = configuration()
    if not settings.may_concern(request.META):
        without_operation(request, NO_KEY)
        return None
    policy = settings.policy_for(request.path_info)
    is_keyed = policy.meta_key in request.META
    if not is_keyed and not policy.required:
        without_operation(request, NO_KEY)
        return None
    if leaves_alone(view) or not settings.covers(request.path_info):
        without_operation(request, LEFT_ALONE if is_keyed else NO_KEY)
        return None
    without_operation(request, NOT_BEGUN)
    view_class = class_of(view)
    if view_class is not None:
        hook_class(view_class)
        watch(request, NOTHING)
        keep_body(request)
        return None
    if hook_view(view, request):
        return None
    return approach(request, policy, guard_type)
