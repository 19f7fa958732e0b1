"""Django Ninja's adapter. Ninja is not imported: its operations come to us.

An operation is found, authenticated, throttled and validated by ``Operation.run``; then it calls
``view_func``, whose result, or exception, it turns into a response. So the guard starts around
``view_func``, after all checks, and ends around ``run``, which sees the response.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..compat.frameworks import (
    contribute_to_operation,
    decorate_operation,
    has_handler_of_project,
    operation_made_of,
    operations_in,
    response_of,
)
from ..conf.options import NO_OPTIONS, Options
from ..guard.guard import Guard
from ..guard.request_state import in_state, state_of
from ..guard.status import LEFT_ALONE
from ..threads import on_request_thread
from .base import EXEMPT, OPTIONS, Adapter, options_of, rendered_alone, resolve_policy
from .dispatch import adapter_for, guarded
from .position import position_of

_HOOKED = "_idempotency_hooked"


def guard_operations(view: Any, original: Any) -> None:
    """Have every operation that is made of a guarded function end its guard.

    :param view: the guarded function, for ``@api.post`` above it
    :param original: what it guards; ``@api.post`` below it has made an operation of that
    """
    operation = operation_made_of(original)
    if operation is not None:
        operation.view_func = view
        _decorate(operation)
    contribute_to_operation(view, _decorate)


def guard_api(api: Any, options: Options) -> Any:
    """Guard every operation of an API or a router; options of single operations come first."""
    api.add_decorator(lambda run: guard_run(run, options), mode="view")
    return api


def guard_run(run: Any, options: Options) -> Any:
    """Guard one operation, given its ``run``: what ``decorate_view`` decorates."""
    operation = operation_of(run)
    # An API decorates before its routers do, and the nearest word counts.
    setattr(operation, OPTIONS, options_of(operation).around(options))
    _guard_view_func(operation)
    return _with_state(run, operation, options)


def operation_of(run: Any) -> Any:
    """Return the operation whose ``run`` this is, below its decorators, or ``None``."""
    while run is not None and not hasattr(getattr(run, "__self__", None), "view_func"):
        run = getattr(run, "__wrapped__", None)
    return getattr(run, "__self__", None)


def operations_behind(view: Any) -> list[Any]:
    """Return the operations that a view of Ninja's chooses from; none if it is not Ninja's."""
    found = operations_in(view)
    if found == []:
        raise ImproperlyConfigured(
            f"IdempotencyMiddleware finds no operation behind {view!r} of Django Ninja. Use the "
            "decorator, or exempt its path."
        )
    return found or []


def hook_view(view: Any, request: HttpRequest) -> bool:
    """Have the operations behind a view of Ninja's guard this request.

    :return: whether the view is one of Ninja's
    """
    operations = operations_behind(view)
    for operation in operations:
        if not hasattr(operation, _HOOKED):
            _guard_view_func(operation)
            operation.run = _with_state(operation.run, operation, None)
            # Last: two requests that do this at the same time guard it twice, which is once.
            setattr(operation, _HOOKED, True)
    if operations:
        state_of(request).want_operation(NO_OPTIONS)
    return bool(operations)


def _decorate(operation: Any) -> None:
    decorate_operation(operation, _decorated)


def _decorated(run: Any) -> Any:
    return _with_state(run, operation_of(run), NO_OPTIONS)


def _guard_view_func(operation: Any) -> None:
    """Let requests that are wanted find a guarded function. Its own decorator comes first."""
    view_func = operation.view_func
    if hasattr(view_func, OPTIONS) or hasattr(view_func, EXEMPT):
        return
    guarded_func = guarded(view_func, resolve_policy, position_of(view_func))

    @wraps(view_func)
    def chosen(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        is_wanted = state_of(request).operation_options is not None
        return (guarded_func if is_wanted else view_func)(request, *args, **kwargs)

    operation.view_func = chosen


def _with_state(run: Any, operation: Any, options: Options | None) -> Any:
    """End the guard with the operation's response, unless the middleware does.

    :param options: of the decorator that wants a guard; ``None``: the middleware decides
    """

    def sync_run(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        refuse = _refusal(request, operation, options)
        if refuse is not None:
            return refuse()
        # From here on in a thread, also where the path has async operations.
        state_of(request).runs_to_end = True
        response: HttpResponseBase = in_state(
            request, lambda request: run(request, *args, **kwargs)
        )
        return response

    async def async_run(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        refuse = _refusal(request, operation, options)
        if refuse is not None:
            return await on_request_thread(refuse)
        awaited: Any = in_state(request, lambda request: run(request, *args, **kwargs))
        response: HttpResponseBase = await awaited
        return response

    return wraps(run)(async_run if iscoroutinefunction(run) else sync_run)


def _refusal(
    request: Any, operation: Any, options: Options | None
) -> Callable[[], HttpResponseBase] | None:
    """A malformed key is refused before anything is looked up (I7)."""
    state, view_func = state_of(request), operation.view_func
    if options is not None:
        state.want_operation(options)
    if hasattr(view_func, EXEMPT):
        request.idempotency = LEFT_ALONE
        return None
    if state.operation_options is None:
        return None
    state.operation, state.adapter_class = operation, NinjaAdapter
    policy = resolve_policy(request.path_info, request, view_func)
    adapter = adapter_for(request, policy, Guard)
    return None if adapter is None or adapter.problem is None else adapter.refuse


class NinjaAdapter(Adapter):
    """The function of an operation, whose result and exceptions Ninja makes responses of."""

    def is_handled(self, error: BaseException) -> bool:
        return has_handler_of_project(self.state.operation, error)

    def render(self, answer: Any) -> Any:
        return response_of(self.state.operation, self.request, rendered_alone(answer))
