"""``@idempotent`` and ``@idempotency_exempt``."""

from collections.abc import Callable
from functools import partial, wraps
from inspect import iscoroutinefunction, isfunction
from types import FunctionType
from typing import Any, TypeVar, overload

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import View

from .class_views import class_of, hook_class, watch
from .doors import EXEMPT, OPTIONS, guarded, resolve_policy
from .policy import Policy

NOT_HANDLERS = frozenset({"dispatch", "setup", "initial", "initialize_request"})
"""Methods of views in which permissions are checked."""

WRONG_ORDER = (
    "@idempotent stands above a decorator that checks permissions, so stored responses would be "
    "replayed without that check. The right order is:\n"
    "    @permission_required(...)\n"
    "    @idempotent\n"
    "    def view(request): ..."
)

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
    view_class = class_of(target)
    if view_class is not None:
        return _guard_class_view(target, view_class, options)
    return _guard_function(target, options)


def _refuse_misuse(target: Any) -> None:
    if isinstance(target, type):
        if not issubclass(target, View):
            raise TypeError(f"@idempotent cannot guard {target!r}: it is not a view class")
        handlers = [getattr(target, name, None) for name in target.http_method_names]
    else:
        handlers = [target]
    if any(iscoroutinefunction(handler) for handler in handlers):
        raise TypeError(f"@idempotent cannot guard {target!r}: async views are not supported yet")
    if isinstance(target, type):
        return
    # method_decorator() hands a bound method over as a partial function.
    if not isfunction(target) and not isinstance(target, partial):
        raise TypeError(f"@idempotent cannot guard {target!r}: it is not a view function or class")
    is_class_view = hasattr(target, "cls") or hasattr(target, "view_class")
    if hasattr(target, "login_url") and not is_class_view:
        raise TypeError(WRONG_ORDER)
    if isfunction(target) and target.__name__ in NOT_HANDLERS and _is_method(target):
        raise TypeError(
            f"@idempotent cannot guard {target.__qualname__}(): checks run in it. Decorate the "
            "class, or the handler (post, put, patch, delete)."
        )


def _is_method(function: FunctionType) -> bool:
    return function.__code__.co_varnames[:1] == ("self",)


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

    # As watch() merges them: what is said further outside comes first.
    setattr(view, OPTIONS, {**getattr(target, OPTIONS, {}), **options})
    return view


def _guard_function(target: Any, options: dict[str, object]) -> Any:
    def policy_of(owner: Any) -> Policy:
        return resolve_policy(owner).override(**options)

    view = guarded(target, policy_of)
    setattr(view, OPTIONS, {**getattr(target, OPTIONS, {}), **options})
    return view
