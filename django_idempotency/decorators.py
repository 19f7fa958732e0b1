"""``@idempotent`` and ``@idempotency_exempt``."""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction, isfunction
from typing import Any, TypeVar, overload

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import View

from .doors import (
    EXEMPT,
    OPTIONS,
    WRONG_ORDER,
    guarded,
    hook_class,
    resolve_policy,
    watch,
)
from .policy import Policy

Target = TypeVar("Target", bound=Callable[..., Any])


@overload
def idempotent(target: Target, /) -> Target: ...
@overload
def idempotent(**options: Any) -> Callable[[Target], Target]: ...
def idempotent(target: Any = None, /, **options: Any) -> Any:
    """Make a view safe to retry: one execution and one response per key.

    Goes on function views, class-based views, DRF ``APIView`` and ``ViewSet`` classes, single
    handler methods, ``@action`` methods, and ``@api_view`` functions; bare or with policy
    arguments, which override the settings. It belongs below decorators that check permissions.

    :param options: fields of :class:`~django_idempotency.policy.Policy`
    :raises PolicyError: at import, if an argument is unknown or has a bad value
    :raises TypeError: at import, if the target cannot be guarded
    """
    Policy().override(**options)
    if target is None:
        return lambda view: _idempotent(view, options)
    return _idempotent(target, options)


@overload
def idempotency_exempt(target: Target, /) -> Target: ...
@overload
def idempotency_exempt(*, reason: str) -> Callable[[Target], Target]: ...
def idempotency_exempt(target: Any = None, /, *, reason: str = "") -> Any:
    """Keep the middleware away from a view, a view class or a handler method.

    :param reason: why the view needs no guard, for whoever reads the code
    """
    if target is None:
        return lambda view: _exempt(view, reason)
    return _exempt(target, reason)


def _exempt(view: Any, reason: str) -> Any:
    setattr(view, EXEMPT, reason)
    return view


def _idempotent(target: Any, options: dict[str, object]) -> Any:
    _refuse_misuse(target)
    if isinstance(target, type):
        return _guard_class(target, options)
    view_class = getattr(target, "cls", None) or getattr(target, "view_class", None)
    if view_class is not None:
        return _guard_class_view(target, view_class, options)
    return _guard_function(target, options)


def _refuse_misuse(target: Any) -> None:
    if isinstance(target, type):
        if not issubclass(target, View):
            raise TypeError(f"@idempotent cannot guard {target!r}: it is not a view class")
        return
    if iscoroutinefunction(target):
        raise TypeError(f"@idempotent cannot guard {target!r}: async views are not supported yet")
    if not isfunction(target):
        raise TypeError(f"@idempotent cannot guard {target!r}: it is not a view function or class")
    if hasattr(target, "login_url"):
        raise TypeError(WRONG_ORDER)


def _guard_class(view_class: type, options: dict[str, object]) -> type:
    setattr(view_class, OPTIONS, {**getattr(view_class, OPTIONS, {}), **options})
    hook_class(view_class)
    return view_class


def _guard_class_view(target: Any, view_class: type, options: dict[str, object]) -> Any:
    """What ``as_view()`` or ``@api_view`` returned: only requests through it are guarded."""
    hook_class(view_class)

    @wraps(target)
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        watch(request, options)
        response: HttpResponseBase = target(request, *args, **kwargs)
        return response

    setattr(view, OPTIONS, options)
    return view


def _guard_function(target: Any, options: dict[str, object]) -> Any:
    def policy_of(owner: Any) -> Policy:
        return resolve_policy(owner).override(**options)

    view = guarded(target, policy_of)
    setattr(view, OPTIONS, {**getattr(target, OPTIONS, {}), **options})
    return view
