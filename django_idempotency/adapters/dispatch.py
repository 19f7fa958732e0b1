"""Which adapter a request enters by, and running a handler under its guard.

The middleware and the decorators differ in where they come from. All end in :func:`run`. Async
handlers end in :func:`arun`, which takes the same steps, each on the request's thread.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial, wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http.response import HttpResponseBase

from ..compat.frameworks import belongs_to_admin, operations_in
from ..conf.memoize import MAX_VIEWS
from ..conf.policy import Policy
from ..guard.guard import Guard, read_key
from ..guard.request_state import STATE, RequestState, state_of
from ..guard.status import LEFT_ALONE, NO_KEY, NOT_BEGUN
from ..protocol.problems import Problem
from ..threads import on_request_thread
from .affinity import AsyncGuard
from .base import Adapter
from .position import GuardPosition, position_of

Handler = Callable[..., Any]


def adapter_for(
    view_request: Any,
    policy: Policy,
    guard_type: type[Guard],
    key: str | Problem | None = None,
    position: GuardPosition | None = None,
) -> Adapter | None:
    """Return the adapter to enter by, or ``None`` if the guard has no business with the request.

    :param view_request: the request that the handler gets: Django's, or DRF's around it
    :param key: what :func:`~.guard.guard.read_key` found, if it was asked
    :param position: where the guard begins; ``None``: before the handler
    """
    request = getattr(view_request, "_request", view_request)
    state: RequestState = request.__dict__.get(STATE) or state_of(request)
    if state.guard is not None and state.guard.is_running:
        return None
    if request.method not in policy.methods:
        request.idempotency = LEFT_ALONE if policy.meta_key in request.META else NO_KEY
        return None
    key_or_problem = read_key(request, policy) if key is None else key
    if key_or_problem is None:
        request.idempotency = NO_KEY
        return None
    request.idempotency = NOT_BEGUN
    guard_or_problem: Guard | Problem = (
        key_or_problem
        if isinstance(key_or_problem, Problem)
        else guard_type(request, policy, key_or_problem)
    )
    kind: Callable[..., Adapter] = state.adapter_class or Adapter
    if view_request is not request:
        kind = drf_adapters().rest_adapter
    return kind(view_request, policy, state, guard_or_problem, position)


@cache
def drf_adapters() -> Any:
    """Return the adapter's module of Django REST framework, which may be absent."""
    from . import drf

    return drf


def replay_before_checks(
    view_request: Any, policy: Policy, guard_type: type[Guard]
) -> HttpResponseBase | None:
    """Return the replay for a request whose caller is authenticated, if there is one."""
    adapter = adapter_for(view_request, policy, guard_type)
    return None if adapter is None else adapter.replay_before_checks()


def refusal_of(view_request: Any, policy: Policy, problem: Problem) -> HttpResponseBase:
    """Answer a key that is missing or malformed."""
    adapter = adapter_for(view_request, policy, Guard, problem)
    if adapter is None:
        raise TypeError("Only a guarded request is refused.")
    return adapter.refuse()


def run(
    call: Callable[[], HttpResponseBase],
    view_request: Any,
    policy: Policy,
    key: str | None = None,
    position: GuardPosition | None = None,
) -> HttpResponseBase:
    """Call the handler under the guard, or answer instead of it.

    Parameters are those of :func:`adapter_for`.
    """
    adapter = adapter_for(view_request, policy, Guard, key, position)
    if adapter is None:
        return call()
    adapter.state.runs_to_end = True
    try:
        adapter.begin()
        response = call() if adapter.substitute is None else None
    except BaseException as error:
        if not adapter.has_response_for(error):
            raise
    return adapter.view_returned(response) if adapter.substitute is None else adapter.substitute


async def arun(
    call: Callable[[], Awaitable[HttpResponseBase]],
    view_request: Any,
    policy: Policy,
    key: str | None = None,
    position: GuardPosition | None = None,
) -> HttpResponseBase:
    """Await the handler under the guard: as :func:`run`, but for the awaiting."""
    adapter = adapter_for(view_request, policy, AsyncGuard, key, position)
    if adapter is None:
        return await call()
    try:
        await on_request_thread(adapter.begin)
        response = await call() if adapter.substitute is None else None
        adapter.state.runs_to_end = True
    except BaseException as error:
        if not await on_request_thread(adapter.has_response_for, error):
            raise
    if adapter.substitute is not None:
        return adapter.substitute
    return await on_request_thread(adapter.view_returned, response)


def guarded(
    handler: Handler,
    policy_of: Callable[[str, Any], Policy],
    position: GuardPosition | None = None,
) -> Handler:
    """Wrap a function, a method or a bound method, async or not.

    :param policy_of: gives the policy for a path and the first argument (a view instance or a
        request)
    :param position: where the guard begins; ``None``: before the handler
    """

    def sync_handler(*args: Any, **kwargs: Any) -> Any:
        has_first = args and hasattr(args[0], "META")
        view_request = args[0] if has_first else _second(handler, args)
        policy = policy_of(view_request.path_info, args[0])
        return run(partial(handler, *args, **kwargs), view_request, policy, position=position)

    async def async_handler(*args: Any, **kwargs: Any) -> Any:
        has_first = args and hasattr(args[0], "META")
        view_request = args[0] if has_first else _second(handler, args)
        policy = policy_of(view_request.path_info, args[0])
        return await arun(
            partial(handler, *args, **kwargs), view_request, policy, position=position
        )

    return wraps(handler)(async_handler if iscoroutinefunction(handler) else sync_handler)


def _second(handler: Handler, args: tuple[Any, ...]) -> Any:
    """Return the request of a method: its second argument.

    :raises TypeError: if there is none
    """
    if len(args) > 1 and hasattr(args[1], "META"):
        return args[1]
    name = getattr(handler, "__qualname__", repr(handler))
    raise TypeError(
        f"{name} is decorated with @idempotent, and was called without a request. For a function "
        "that is no view (a task, a command) use @idempotent_function "
        "(django_idempotency.operations)."
    )


@dataclass(frozen=True, slots=True)
class ViewFacts:
    """The facts about a view that the middleware needs, for any request.

    :ivar belongs_to_admin: Django's admin checks permissions inside its views: do not guard them
    :ivar view_class: a URL's view was made from this class, Django's or DRF's
    :ivar is_operation: it is one of Django Ninja's
    :ivar position: where the guard of a function begins
    """

    belongs_to_admin: bool
    view_class: Any
    is_operation: bool
    position: GuardPosition


@lru_cache(maxsize=MAX_VIEWS)
def facts_of(view: Any) -> ViewFacts:
    """Return the facts about a view, which do not change while the process lives.

    :raises TypeError: for an object that cannot be hashed: ask ``facts_of.__wrapped__``
    """
    is_operation = operations_in(view) is not None
    return ViewFacts(belongs_to_admin(view), class_of(view), is_operation, position_of(view))


def class_of(view: Any) -> type | None:
    """Return the class that a URL's view was made from, Django's or DRF's."""
    return getattr(view, "cls", None) or getattr(view, "view_class", None)
