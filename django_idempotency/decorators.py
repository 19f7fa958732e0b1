"""``@idempotent`` and ``@idempotency_exempt``."""

from collections.abc import Callable
from functools import partial, wraps
from inspect import isfunction
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.views import View

from .adapters.affinity import watch_new_connections
from .adapters.base import EXEMPT, OPTIONS, options_of, resolve_policy
from .adapters.class_based import hook_class, hook_subclasses
from .adapters.dispatch import class_of, guarded
from .adapters.ninja import guard_api, guard_operations, guard_run, operation_of
from .conf.options import Options
from .conf.policy import Policy, PolicyError
from .guard.request_state import expect_key_in, in_state, state_of

if TYPE_CHECKING:
    from .options import IdempotentOptions

__all__ = ["PolicyError", "idempotency_exempt", "idempotent"]

NOT_HANDLERS = frozenset({"dispatch", "setup", "initial", "initialize_request"})
"""Methods of views in which permissions are checked."""

WRONG_ORDER = (
    "@idempotent stands above a decorator that checks permissions, so stored responses would be "
    "replayed without that check. The right order is:\n"
    "    @permission_required(...)\n"
    "    @idempotent\n"
    "    def view(request): ..."
)


class DecoratesAll(Protocol):
    """An API or a router of Django Ninja."""

    def add_decorator(self, decorator: Any, mode: Any = ...) -> None: ...


Target = TypeVar("Target", bound=Callable[..., Any])
Api = TypeVar("Api", bound=DecoratesAll)


@overload
def idempotent(target: Target, /) -> Target: ...
@overload
def idempotent(target: Api, /, **options: "Unpack[IdempotentOptions]") -> Api: ...
@overload
def idempotent(**options: "Unpack[IdempotentOptions]") -> Callable[[Target], Target]: ...
def idempotent(target: Any = None, /, **options: Any) -> Any:
    """Make a view safe to retry: one execution and one response per key.

    Decorate function views, class-based views, DRF ``APIView`` and ``ViewSet`` classes, single
    handler methods, ``@action`` methods and ``@api_view`` functions, and Django Ninja's operations,
    routers and APIs, all of them sync or async. Use it bare or with policy options, which override
    the settings. Put it below decorators that check permissions.

    :param options: fields of :class:`~django_idempotency.conf.policy.Policy`; ``key`` is short for
        ``key_from``
    :raises PolicyError: at import, if an argument is unknown or has a bad value
    :raises TypeError: at import, if the target cannot be guarded
    """
    if "key" in options:
        options["key_from"] = options.pop("key")
    expect_key_in(Policy().override(**options).carriers)
    given = Options(options)
    if target is None:
        return lambda view: _idempotent(view, given)
    return _idempotent(target, given)


@overload
def idempotency_exempt(target: Target, /) -> Target: ...
@overload
def idempotency_exempt(*, reason: str) -> Callable[[Target], Target]: ...
def idempotency_exempt(target: Any = None, /, *, reason: str = "") -> Any:
    """Exempt a view, a view class or a handler method from the middleware.

    :param reason: why the view needs no guard; ``idempotency_contract --check`` requires one
    """
    if target is None:
        return lambda view: _exempt(view, reason)
    return _exempt(target, reason)


def _exempt(view: Any, reason: str) -> Any:
    setattr(view, EXEMPT, reason)
    return view


def _idempotent(target: Any, options: Options) -> Any:
    refuse_misuse(target)
    if isinstance(target, type):
        return _guard_class(target, options)
    if hasattr(target, "add_decorator"):
        return guard_api(target, options)
    if operation_of(target) is not None:
        return guard_run(target, options)
    view_class = class_of(target)
    if view_class is not None:
        return _guard_class_view(target, view_class, options)
    return _guard_function(target, options)


def refuse_misuse(target: Any) -> None:
    """Refuse what cannot be guarded, and a place where a replay would come before checks.

    :raises TypeError: says what to do instead
    """
    if isinstance(target, type):
        if not issubclass(target, View):
            raise TypeError(f"@idempotent cannot guard {target!r}: it is not a view class")
        return
    if hasattr(target, "add_decorator") or operation_of(target) is not None:
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


def _guard_class(view_class: type, options: Options) -> type:
    setattr(view_class, OPTIONS, options_of(view_class).around(options))
    hook_class(view_class)
    hook_subclasses(view_class)
    return view_class


def _guard_class_view(target: Any, view_class: type, options: Options) -> Any:
    """Guard only requests through the result of ``as_view()`` or ``@api_view``."""
    hook_class(view_class)

    @wraps(target)
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        state_of(request).want_view(options)
        return in_state(request, lambda request: target(request, *args, **kwargs))

    # As want_view() merges them: the outer decorator takes precedence.
    setattr(view, OPTIONS, options_of(target).around(options))
    return _as_async_as(target, view)


def _as_async_as(target: Any, view: Any) -> Any:
    """Return the view, which calls the target and is async if that is."""
    if not iscoroutinefunction(target):
        return view
    watch_new_connections()
    return markcoroutinefunction(view)


def _guard_function(target: Any, options: Options) -> Any:
    def policy_of(path: str, owner: Any) -> Policy:
        return options.over(resolve_policy(path, owner))

    view = _as_async_as(target, guarded(target, policy_of))
    setattr(view, OPTIONS, options_of(target).around(options))
    guard_operations(view, target)
    return view
