"""Guarding the handlers of class-based views, Django's and DRF's.

Hooks stand on the class, once. A hook does what the state of the request says.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial, update_wrapper, wraps
from inspect import unwrap
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http.response import HttpResponseBase
from django.utils.decorators import classonlymethod

from ..compat.frameworks import API_VIEWS, closure_of
from ..conf.memoize import memoize
from ..conf.options import Options
from ..conf.policy import Policy, Recheck
from ..guard.guard import NOT_FOUND_YET, Guard, read_key
from ..guard.request_state import RequestState, in_state, state_of
from ..guard.status import LEFT_ALONE, NO_KEY, NOT_BEGUN
from ..http.claim import keep_body
from ..protocol.problems import Problem
from ..threads import on_request_thread
from .affinity import AsyncGuard
from .base import (
    EXEMPT,
    OPTIONS,
    AnsweredEarly,
    Hook,
    hook_methods,
    hook_replaced,
    is_hook,
    resolve_policy,
    unhooked,
)
from .dispatch import arun, drf_adapters, refusal_of, replay_before_checks, run
from .position import GuardPosition, checks_users, position_of

_REPLACED = "_idempotency_replaced"
"""Attribute of a view: for which request a handler is replaced on it, which one, and by what."""

Call = Callable[[Any], Any]
"""Dispatches a request."""


def hook_class(view_class: Any) -> None:
    """Have the views of a class guard their handlers where a request wants it."""
    if hasattr(view_class, "initialize_request"):
        hook_methods(view_class, _rest_hooks(), inherited="dispatch")
    else:
        hook_methods(view_class, _HOOKS, inherited="dispatch")


def hook_subclasses(view_class: Any) -> None:
    """The same for its subclasses, each when a URL is made of it: its own ``dispatch()`` is further
    outside than the one that it inherits."""
    own = vars(view_class).get("as_view")

    @wraps(view_class.as_view)
    def as_view(cls: Any, *args: Any, **kwargs: Any) -> Any:
        hook_class(cls)
        inherited: Any = super(view_class, cls)
        return (
            own.__get__(None, cls)(*args, **kwargs) if own else inherited.as_view(*args, **kwargs)
        )

    view_class.as_view = classonlymethod(as_view)


def _setup(view: Any, setup: Any, request: Any, /, *args: Any, **kwargs: Any) -> None:
    """Guard the handler for code that calls it, rather than ``dispatch()``."""
    setup(request, *args, **kwargs)
    _prepared(view, state_of(request), request, view.dispatch)


def _dispatch(view: Any, dispatch: Any, request: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Have the guard, if it starts, end when ``dispatch()`` does."""
    state = state_of(request)

    def call(request: Any) -> Any:
        return dispatch(request, *args, **kwargs)

    if state.view is view:  # a parent's hook
        inner = state.inner_dispatch
        if inner is None or getattr(dispatch, "__func__", dispatch) is not inner[0]:
            return call(request)
        state.inner_dispatch = None
        return inner[1](call, request)
    if not is_hook(vars(type(view)).get("dispatch")):
        hook_class(type(view))  # a subclass that no URL was made of
    state.view, state.refusal, state.early_replay_policy = view, None, None
    is_rest = hasattr(view, "initialize_request")
    return in_state(request, call if is_rest else _prepared(view, state, request, call))


def _initialize_request(
    view: Any, initialize: Any, request: Any, /, *args: Any, **kwargs: Any
) -> Any:
    """A DRF view chooses its handler after this. Until now its ``dispatch()`` may have put another
    one in place, or changed the request's method."""
    made = initialize(request, *args, **kwargs)
    state = state_of(request)
    if state.view is not view:  # its dispatch() has called another view
        state.view, state.refusal, state.early_replay_policy = view, None, None
    hook_replaced(view, _CHECKS)
    _prepared(view, state, request, view.dispatch)  # which is running
    return made


def _prepared(view: Any, state: RequestState, request: Any, call: Call) -> Call:
    """Return the function that dispatches a request, with its handler guarded."""
    bare, ours = _replaced_on(view, request)
    policy = class_policy(type(view), state.view_options, request.path_info)
    key = _key_of(request, state, policy)
    if policy is None or key is None:
        return call
    name = _handler_name(view, request, policy, key)
    worker = working_class(type(view)) if name == "dispatch" else type(view)
    handler = getattr(view if worker is type(view) else worker, name, None)
    if handler is None:
        return call
    is_guarded = ours is not None and handler is ours
    if is_guarded:
        handler = bare
    function = getattr(handler, "__func__", handler)
    looks_after_itself, is_async = _facts(unhooked(function))
    if looks_after_itself:
        options = mark_of(function, OPTIONS)
        is_exempt = mark_of(function, EXEMPT) is not None
        request.idempotency = LEFT_ALONE if is_exempt else NOT_BEGUN
        # The policy of a handler that is decorated itself is its own.
        own = options and options.over(resolve_policy(request.path_info, type(view)))
        return _with_early_replay(view, state, own, call) if own else call
    if isinstance(key, Problem):
        refuse = _refusing(view, policy, key)
        if name != "dispatch":  # and if the view does not call what refuses before
            _replace(view, name, handler, refuse, request)
        if not hasattr(view, "initialize_request"):
            return refuse
        state.refusal = (policy, key)  # DRF's responses are made within dispatch()
        return call
    keep_body(request)
    view_class: Any = type(view)
    under = (policy, key, handler_position(view_class, function))
    guarded: Any = partial(_arun if is_async else _run, under)
    if name == "dispatch":
        call = _guarding_dispatch(state, view_class, worker, guarded, call)
    elif not is_guarded:
        # The one thing that is put on an instance. What comes after all checks is the handler, and
        # dispatch() asks the instance for it by name: there is no method around it to be hooked.
        wrapper = update_wrapper(partial(guarded, handler), handler)
        _replace(view, name, handler, wrapper, request)
    return _with_early_replay(view, state, policy, call)


def _guarding_dispatch(
    state: RequestState, view_class: Any, worker: Any, guarded: Any, call: Call
) -> Call:
    """Have ``dispatch()`` guarded where it does a view's work.

    :param worker: the class whose ``dispatch()`` that is
    """
    if worker is view_class:
        return partial(guarded, call)
    hook_methods(worker, {"dispatch": _dispatch}, inherited="dispatch")
    state.inner_dispatch = (unhooked(vars(worker)["dispatch"]), guarded)
    return call


def _key_of(request: Any, state: RequestState, policy: Policy | None) -> str | Problem | None:
    """Return the key, if the request has to do with the guard of a class-based view."""
    if state.guard is not None and state.guard.is_running:
        return None
    is_guarded = policy is not None and request.method in policy.methods
    key = read_key(request, policy) if policy is not None and is_guarded else None
    if key is None and (policy is not None or state.view_options is not None):
        request.idempotency = NO_KEY if is_guarded else LEFT_ALONE
    return key


def _handler_name(view: Any, request: Any, policy: Policy, key: str | Problem) -> str:
    """Return the name of the handler; empty if the view cannot be guarded and need not be."""
    try:
        return handler_name(view, (request.method or "").lower())
    except ImproperlyConfigured:
        asks = policy.key_from if key == NOT_FOUND_YET and not policy.required else None
        if asks is None or asks(request) is not None:
            raise
        return ""


Under = tuple[Policy, str, GuardPosition]
"""What a handler runs under: the policy, the key, and the place where the guard begins."""


def _run(
    under: Under, handler: Any, request: Any, /, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    """Run a handler under the guard."""
    return run(partial(handler, request, *args, **kwargs), request, *under)


async def _arun(
    under: Under, handler: Any, request: Any, /, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    return await arun(partial(handler, request, *args, **kwargs), request, *under)


def _replaced_on(view: Any, request: Any) -> tuple[Any, Any]:
    """Return the handler that was replaced on a view for this request, and by what. What stands
    there for another request, if the view serves several, is taken off."""
    guarded_for, name, handler, replacement = vars(view).get(_REPLACED, (request, "", None, None))
    if guarded_for is not request:
        setattr(view, name, handler)
        delattr(view, _REPLACED)
    return handler, replacement


def _replace(view: Any, name: str, handler: Any, replacement: Any, request: Any) -> None:
    """Put a handler on a live view in place of another one, for this request."""
    setattr(view, name, replacement)
    setattr(view, _REPLACED, (request, name, handler, replacement))


def _refusing(view: Any, policy: Policy, problem: Problem) -> Call:
    """Refuse a malformed key before any query (I7), in any view."""

    def refuse(request: Any, /, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return refusal_of(request, policy, problem)

    async def arefuse(request: Any, /, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return refuse(request)

    return arefuse if _is_async(view) else refuse


def _is_async(view: Any) -> bool:
    """Whether Django awaits the view. It asks the handlers, and some views have none."""
    return getattr(view, "view_is_async", False) or iscoroutinefunction(
        unhooked(type(view).dispatch)
    )


def _with_early_replay(view: Any, state: RequestState, policy: Policy, call: Call) -> Call:
    """Have a view replay as soon as its caller is authenticated, if the policy asks for that.

    Django's views know their caller before they dispatch; DRF's authenticate in between.
    """
    if policy.recheck is not Recheck.AUTHENTICATION:
        return call
    if hasattr(view, "perform_authentication"):
        state.early_replay_policy = policy
        return call

    def look(request: Any) -> Any:
        answer = replay_before_checks(request, policy, Guard)
        return call(request) if answer is None else answer

    async def alook(request: Any) -> Any:
        answer = await on_request_thread(replay_before_checks, request, policy, AsyncGuard)
        return await call(request) if answer is None else answer

    return alook if _is_async(view) else look


def _initial(view: Any, initial: Any, request: Any, /, *args: Any, **kwargs: Any) -> None:
    state = state_of(request)
    if state.view is view and state.refusal is not None:
        raise AnsweredEarly(refusal_of(request, *state.refusal))
    initial(request, *args, **kwargs)


def _perform_authentication(view: Any, authenticate: Any, request: Any) -> None:
    authenticate(request)
    state = state_of(request)
    if state.view is view and state.early_replay_policy is not None:
        answer = replay_before_checks(request, state.early_replay_policy, Guard)
        if answer is not None:
            raise AnsweredEarly(answer)


_CHECKS: dict[str, Hook] = {"initial": _initial, "perform_authentication": _perform_authentication}
_HOOKS: dict[str, Hook] = {"dispatch": _dispatch, "setup": _setup}


@cache
def _rest_hooks() -> dict[str, Hook]:
    own = {"dispatch": _dispatch, "initialize_request": _initialize_request}
    return own | _CHECKS | drf_adapters().HOOKS  # type: ignore[no-any-return]


def mark_of(handler: Any, mark: str) -> Any:
    """Return what a handler is marked with; ``None`` if it is not.

    ``@api_view`` hides the function it wraps in a closure, without its attributes.
    """
    hides = getattr(handler, "__module__", None) in API_VIEWS
    kept = (cell.cell_contents for _, cell in closure_of(handler)) if hides else ()
    marks = (getattr(each, mark, None) for each in (handler, *kept))
    return next((each for each in marks if each is not None), None)


def class_policy(view_class: type, said: Options | None, path: str) -> Policy | None:
    """Return the policy of a class's handlers that are not marked themselves.

    :param said: options from further outside; ``None`` if only the class can say it is guarded
    :param path: ``request.path_info``
    :return: ``None`` if they are not guarded
    """
    mark = _nearest_mark(view_class)
    if mark == EXEMPT or (said is None and mark is None):
        return None
    policy = resolve_policy(path, view_class)
    return said.over(policy) if said else policy


@memoize
def handler_position(view_class: Any, handler: Any) -> GuardPosition:
    """Return where the guard of a handler begins.

    A handler that calls ``super()`` runs the checks of the method it overrides inside of the guard,
    where they cannot be asked before a replay.

    :param handler: the function of the method
    """
    handler = unhooked(handler)
    position = position_of(handler)
    name = getattr(handler, "__name__", "")
    defined = (vars(each)[name] for each in view_class.__mro__ if name in vars(each))
    found = list(dict.fromkeys(map(unhooked, defined)))
    if handler not in found or not _calls_super(position.inner):
        return position
    below = (each for each in found[found.index(handler) + 1 :] if checks_users(each))
    hidden = next(below, None)
    return position if hidden is None else replace(position, hidden=hidden)


def _calls_super(handler: Any) -> bool:
    """Whether a method may use ``super()``, for which the compiler keeps its class in a closure."""
    return "__class__" in getattr(getattr(handler, "__code__", None), "co_freevars", ())


@memoize
def _facts(handler: Any) -> tuple[bool, bool]:
    """Whether a handler is guarded or exempt by itself, and whether it is async."""
    marks = (mark_of(handler, mark) for mark in (EXEMPT, OPTIONS))
    return any(mark is not None for mark in marks), iscoroutinefunction(handler)


def _nearest_mark(view_class: type) -> str | None:
    """A class is guarded or exempt as its nearest relative says."""
    if not (hasattr(view_class, EXEMPT) or hasattr(view_class, OPTIONS)):
        return None
    for relative in view_class.__mro__:
        for mark in (EXEMPT, OPTIONS):
            if mark in vars(relative):
                return mark
    return None


def handler_name(view: Any, name: str) -> str:
    """Return the name of the method that handles requests, given the one that should.

    Some views have no handlers, but do everything where they would be chosen.

    :param view: an instance, or its class
    :raises ImproperlyConfigured: if a permission check would be inside of the guard
    """
    view_class = view if isinstance(view, type) else type(view)
    if hasattr(view, name) or not works_in_dispatch(view_class):
        return name
    working_class(view_class)
    return "dispatch"


def works_in_dispatch(view_class: Any) -> bool:
    """Whether a class or its parents, Django's excepted, define ``dispatch()``."""
    if hasattr(view_class, "initialize_request"):
        return False
    return any(map(_defines_dispatch, view_class.__mro__))


def _defines_dispatch(each: type) -> bool:
    own = vars(each).get("dispatch")
    return own is not None and not unwrap(own).__module__.startswith("django.")


def working_class(view_class: Any) -> Any:
    """Return the class whose ``dispatch()`` does the work of a view that works there: the view's,
    or the next one behind Django's mixins that check users, which call it when they have done so.

    :raises ImproperlyConfigured: if a permission check would be inside of the guard
    """
    mro = view_class.__mro__
    # Not imported: a project need not have django.contrib.auth.
    checks = [at for at, each in enumerate(mro) if each.__module__ == "django.contrib.auth.mixins"]
    if not checks:
        return view_class
    behind = filter(_defines_dispatch, mro[checks[-1] :])
    worker = None if any(map(_defines_dispatch, mro[: checks[-1]])) else next(behind, None)
    if worker is None:
        raise ImproperlyConfigured(
            f"{view_class.__qualname__} checks permissions in dispatch() and does its work there, "
            "too, so the guard has no place between. Move the work into post(), or exempt the view "
            "(EXEMPT_PATHS, @idempotency_exempt)."
        )
    return worker
