"""The middleware: every matching write route is guarded, without touching its view."""

from collections.abc import Callable
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .adapters.affinity import AsyncGuard, watch_new_connections
from .adapters.base import EXEMPT, OPTIONS, resolve_policy
from .adapters.class_based import hook_class
from .adapters.dispatch import adapter_for, class_of, facts_of
from .adapters.ninja import hook_view
from .conf.options import NO_OPTIONS
from .conf.policy import Policy, Recheck
from .conf.settings import configuration
from .guard.guard import Guard
from .guard.request_state import STATE, RequestState, aend_around, may_carry_key
from .guard.status import (
    LEFT_ALONE,
    NO_KEY,
    NOT_BEGUN,
    UNPROTECTED,
    Status,
    runs_unprotected,
    set_status_header,
)
from .http.claim import keep_body
from .signals import tell, unprotected, without_key
from .threads import on_request_thread

__all__ = ["IdempotencyMiddleware"]

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that need no guard (RFC 9110, section 9.2.1)."""


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
        # The middleware, not the adapter, ends the guard of this request.
        state = request.__dict__[STATE] = RequestState()
        state.has_end = True
        try:
            response = self._get_response(request)
        except BaseException as error:
            state.abandon(request, error)
            raise
        return _mark_ignored_key(request, state, state.end(response))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        if request.method in SAFE:
            safe: HttpResponse = await self._get_response(request)
            return safe
        state = request.__dict__[STATE] = RequestState()
        state.has_end = True
        call = self._get_response(request)
        response = await (aend_around(request, state, call) if may_carry_key(request) else call)
        return _mark_ignored_key(request, state, response)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> Any:
        """Claim the key, or answer instead of the view. Below decorators that may check the caller
        that is done when they have let the request pass."""
        act = _prepare_view(request, view, Guard)
        return None if act is None else act()

    async def _aprocess_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> Any:
        act = _prepare_view(request, view, AsyncGuard)
        answer = None if act is None else await on_request_thread(act)
        if not iscoroutinefunction(view) and _may_be_guarded(request, view):
            _run_to_end(request)  # Django calls it in a thread, which no cancellation stops
        return answer

    async def _aprocess_template_response(
        self, request: HttpRequest, response: HttpResponse
    ) -> HttpResponse:
        """The view has returned; Django renders its response next, in a thread."""
        _run_to_end(request)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        """The view raised: its writes are undone before others handle the exception."""
        state: RequestState | None = request.__dict__.get(STATE)
        if state is not None and state.guard is not None:
            state.guard.fail(error)


def _may_be_guarded(request: Any, view: Any) -> bool:
    """Whether the view's request may have a key. Others are cancelled as without the guard, also
    where functions find keys for other views."""
    if getattr(request, "idempotency", NO_KEY) is not NO_KEY:
        return True
    if not hasattr(view, OPTIONS):
        return False
    carriers = resolve_policy(request.path_info, view).carriers
    return not request.META.keys().isdisjoint(carriers)


def _run_to_end(request: HttpRequest) -> None:
    state: RequestState | None = request.__dict__.get(STATE)
    if state is not None:
        state.runs_to_end = True


def _prepare_view(
    request: Any, view: Any, guard_type: type[Guard]
) -> Callable[[], HttpResponseBase | None] | None:
    """Return the function to call before a view runs. Class-based views, and operations of Django
    Ninja, enter the guard when their own checks have passed."""
    state: RequestState | None = request.__dict__.get(STATE)
    if state is None:
        return None
    policy = _examine(request, state)
    options = getattr(view, OPTIONS, None)
    if policy is None:
        request.idempotency = NO_KEY
        return None if options is None else _early_replay_of(request, view, guard_type)
    try:
        facts = facts_of(view)
    except TypeError:  # an object that cannot be hashed
        facts = facts_of.__wrapped__(view)
    is_left_alone = options is not None or hasattr(view, EXEMPT) or facts.belongs_to_admin
    if is_left_alone or not configuration().covers(request.path_info):
        request.idempotency = NO_KEY if state.keyed is None else LEFT_ALONE
        return None if options is None else _early_replay_of(request, view, guard_type)
    request.idempotency = NOT_BEGUN
    if facts.view_class is not None:
        hook_class(facts.view_class)
        state.want_view(NO_OPTIONS)
        keep_body(request)
        return None
    if facts.is_operation:
        hook_view(view, request)
        return None
    adapter = adapter_for(request, policy, guard_type, position=facts.position)
    return None if adapter is None else partial(adapter.begin, view)


def _examine(request: HttpRequest, state: RequestState) -> Policy | None:
    """Return the policy of a request by the settings, if it may have a key or must have one."""
    state.is_examined = True
    settings = configuration()
    if not settings.may_concern(request.META):
        return None
    policy = settings.policy_for(request.path_info)
    if policy.meta_key in request.META:
        state.keyed = policy
        return policy
    return policy if policy.required or policy.key_from is not None else None


def _early_replay_of(
    request: HttpRequest, view: Any, guard_type: type[Guard]
) -> Callable[[], HttpResponseBase | None] | None:
    """The checks of a function that is decorated itself may want to come after a replay."""
    if class_of(view) is not None:
        return None
    policy = resolve_policy(request.path_info, view)
    if policy.recheck is not Recheck.AUTHENTICATION:
        return None
    adapter = adapter_for(request, policy, guard_type)
    return None if adapter is None else adapter.replay_before_checks


def _mark_ignored_key(
    request: HttpRequest, state: RequestState, response: HttpResponseBase
) -> HttpResponseBase:
    """Say what became of a key, if nothing else has."""
    if not state.is_examined:
        _examine(request, state)
    if state.keyed is not None:
        if state.keyed.status_header is not None:
            set_status_header(response, state.keyed, Status.IGNORED)
        is_guarded = state.guard is not None or state.early is not None
        if not is_guarded and runs_unprotected(request):
            response[UNPROTECTED] = "true"
            tell(unprotected, request)
    elif without_key.receivers and getattr(request, "idempotency", None) is NO_KEY:
        tell(without_key, request)
    return response
