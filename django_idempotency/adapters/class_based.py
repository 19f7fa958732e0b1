"""Guarding the handlers of class-based views, Django's and DRF's."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial, update_wrapper, wraps
from inspect import unwrap
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..compat.frameworks import API_VIEWS, closure_of
from ..conf.memoize import MOST, memoize
from ..conf.options import Options
from ..conf.policy import Policy, Recheck
from ..guard.guard import Guard, is_running, read_key
from ..guard.no_operation import LEFT_ALONE, NO_KEY, NOT_BEGUN, without_operation
from ..guard.request_state import in_state, may_carry_key
from ..http.fingerprint import keep_body
from ..protocol.problems import Problem
from ..threads import on_request_thread
from .affinity import AsyncGuard
from .base import EXEMPT, OPTIONS, adapter_of, arun, recall, resolve_policy, run
from .position import GuardPosition, checks_users, position_of

_WATCHED = "_idempotency_watched"
_HOOKED = "_idempotency_hooked"
_LOOKED_AT = "_idempotency_looked_at"


def watch(request: HttpRequest, options: Options) -> None:
    """Have the class-based view that gets this request guard its handler.

    What was said before, further outside, comes first.
    """
    said: Options | None = getattr(request, _WATCHED, None)
    setattr(request, _WATCHED, options.around(said) if said else options)


def hook_class(view_class: type) -> None:
    """Guard the handlers of a class-based view.

    Handlers are looked up on the instance after all checks, so the instance gets a guarded one
    when a request is set up; nothing is run twice and nothing runs elsewhere than before.
    """
    if _HOOKED in vars(view_class):
        return
    if hasattr(view_class, "initialize_request"):
        _after(view_class, "initialize_request", _guard_once)
    else:
        _after(view_class, "setup", _guard_once)
    # Viewsets are dispatched without setup().
    before_dispatch = "__init__" if hasattr(view_class, "get_extra_actions") else "setup"
    _after(view_class, before_dispatch, _end_after_dispatch)
    setattr(view_class, _HOOKED, True)


def _after(view_class: type, name: str, act: Callable[..., None]) -> None:
    """Do something after a method of a class, wherever it is defined, has been called."""
    own = vars(view_class).get(name)

    @wraps(getattr(view_class, name))
    def hooked(view: Any, *args: Any, **kwargs: Any) -> Any:
        # Looked up each time: in a subclass with another parent, that comes next.
        original = partial(own, view) if own else getattr(super(view_class, view), name)
        result = original(*args, **kwargs)
        act(view, *args, **kwargs)
        return result

    setattr(view_class, name, hooked)


def _end_after_dispatch(
    view: Any, request: HttpRequest | None = None, *args: Any, **kwargs: Any
) -> None:
    """Have the guard, if it starts, end when ``dispatch()`` does, a subclass's own, too.

    :param request: ``None`` if it is not there yet
    """
    if request is not None and not may_carry_key(request):
        return
    dispatch = view.dispatch

    def dispatch_in_state(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return in_state(request, lambda: dispatch(request, *args, **kwargs))

    view.dispatch = dispatch_in_state


def class_of(view: Any) -> type | None:
    """Return the class that a URL's view was made from, Django's or DRF's."""
    return getattr(view, "cls", None) or getattr(view, "view_class", None)


def mark_of(handler: Any, mark: str) -> Any:
    """Return what a handler is marked with; ``None`` if it is not.

    ``@api_view`` hides the function it wraps in a closure, without its attributes.
    """
    hides = getattr(handler, "__module__", None) in API_VIEWS
    kept = (cell.cell_contents for _, cell in closure_of(handler)) if hides else ()
    marks = (getattr(each, mark, None) for each in (handler, *kept))
    return next((each for each in marks if each is not None), None)


def class_policy(view_class: type, watched: Options | None, path: str) -> Policy | None:
    """Return the policy of a class's handlers that are not marked themselves.

    :param watched: options from further outside; ``None`` if only the class can say it is guarded
    :param path: ``request.path_info``
    :return: ``None`` if they are not guarded
    """
    mark = _nearest_mark(view_class)
    if mark == EXEMPT or (watched is None and mark is None):
        return None
    policy = resolve_policy(path, view_class)
    return watched.over(policy) if watched else policy


def _guard_once(view: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
    """A parent class may be hooked, too."""
    if vars(view).get(_LOOKED_AT) is not request:
        setattr(view, _LOOKED_AT, request)
        _guard_instance(view, request)


def _guard_instance(view: Any, request: HttpRequest) -> None:
    watched: Options | None = getattr(request, _WATCHED, None)
    policy = class_policy(type(view), watched, request.path_info)
    if is_running(request):
        return
    if policy is None:
        if watched is not None:
            without_operation(request, LEFT_ALONE)
        return
    is_guarded = request.method in policy.methods
    key = read_key(request, policy) if is_guarded else None
    if key is None:
        without_operation(request, NO_KEY if is_guarded else LEFT_ALONE)
        return
    name = handler_name(view, (request.method or "").lower())
    handler = getattr(view, name, None)
    if handler is None:
        return
    looks_after_itself, is_async = _facts(getattr(handler, "__func__", handler))
    if looks_after_itself:
        is_exempt = mark_of(handler, EXEMPT) is not None
        without_operation(request, LEFT_ALONE if is_exempt else NOT_BEGUN)
        _recall_for_handler(view, request, handler)
        return
    if isinstance(key, Problem):
        _refuse(view, name, key, policy)
        return
    keep_body(request)
    view_class: Any = type(view)
    position = handler_position(view_class, getattr(handler, "__func__", handler))
    setattr(view, name, _guarded(handler, is_async, policy, key, position))
    recall_before_checks(view, request, policy)


def _recall_for_handler(view: Any, request: HttpRequest, handler: Any) -> None:
    """Do so for a handler that is decorated itself, whose policy is its own."""
    options = mark_of(getattr(handler, "__func__", handler), OPTIONS)
    if options is not None:
        policy = options.over(resolve_policy(request.path_info, type(view)))
        recall_before_checks(view, request, policy)


def recall_before_checks(view: Any, request: HttpRequest, policy: Policy) -> None:
    """Have a view answer with what is stored as soon as its caller is known, if policy wants that.

    Django's views know their caller before they dispatch; DRF's authenticate in between.
    """
    if policy.recheck is not Recheck.AUTHENTICATION:
        return
    if hasattr(view, "perform_authentication"):
        _recall_when_authenticated(view, policy)
    else:
        _recall_in_dispatch(view, policy)


def _recall_in_dispatch(view: Any, policy: Policy) -> None:
    dispatch = view.dispatch

    def recalled(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer = recall(request, policy, Guard)
        return dispatch(request, *args, **kwargs) if answer is None else answer

    async def arecalled(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer = await on_request_thread(recall, request, policy, AsyncGuard)
        return await dispatch(request, *args, **kwargs) if answer is None else answer

    view.dispatch = arecalled if getattr(view, "view_is_async", False) else recalled


def _recall_when_authenticated(view: Any, policy: Policy) -> None:
    authenticate, handle = view.perform_authentication, view.handle_exception

    def recalled(request: Any) -> None:
        authenticate(request)
        answer = recall(request, policy, Guard)
        if answer is not None:
            raise Recalled(answer)

    def handled(error: Exception) -> Any:
        return error.answer if isinstance(error, Recalled) else handle(error)

    view.perform_authentication, view.handle_exception = recalled, handled


class Recalled(Exception):
    """Ends what a view does before its handler: there is an answer already."""

    def __init__(self, answer: HttpResponseBase) -> None:
        self.answer = answer
        super().__init__()


def _guarded(
    handler: Any, is_async: bool, policy: Policy, key: str, position: GuardPosition
) -> Any:
    """Wrap a handler for one request."""

    def sync_handler(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        call = partial(handler, request, *args, **kwargs)
        return run(call, request, policy, key, position)

    async def async_handler(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        call = partial(handler, request, *args, **kwargs)
        return await arun(call, request, policy, key, position)

    wrapper = update_wrapper(async_handler if is_async else sync_handler, handler)
    setattr(wrapper, _HOOKED, True)
    return wrapper


@lru_cache(maxsize=MOST)
def handler_position(view_class: Any, handler: Any) -> GuardPosition:
    """Return where the guard of a handler begins.

    A handler that calls ``super()`` runs the checks of the method it overrides inside of the guard,
    where nobody can ask them before a replay.

    :param handler: the function of the method
    """
    position = position_of(handler)
    name = getattr(handler, "__name__", "")
    found = [vars(each)[name] for each in view_class.__mro__ if name in vars(each)]
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
    marks = (mark_of(handler, mark) for mark in (EXEMPT, OPTIONS, _HOOKED))
    return any(mark is not None for mark in marks), iscoroutinefunction(handler)


def _nearest_mark(view_class: type) -> str | None:
    """A class is guarded or exempt as its nearest relative says."""
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
    # Not imported: a project need not have django.contrib.auth.
    if any(each.__module__ == "django.contrib.auth.mixins" for each in view_class.__mro__):
        raise ImproperlyConfigured(
            f"{view_class.__qualname__} checks permissions in dispatch() and does its work there, "
            "too, so the guard has no place between. Move the work into post(), or exempt the view "
            "(EXEMPT_PATHS, @idempotency_exempt)."
        )
    return "dispatch"


def works_in_dispatch(view_class: Any) -> bool:
    """Whether a class has a ``dispatch()`` of its own, not only Django's, decorated or not."""
    if hasattr(view_class, "initialize_request"):
        return False
    found = (vars(each)["dispatch"] for each in view_class.__mro__ if "dispatch" in vars(each))
    return any(not unwrap(each).__module__.startswith("django.") for each in found)


def _refuse(view: Any, name: str, problem: Problem, policy: Policy) -> None:
    """A malformed key is refused before anything is looked up (I7), whatever the view does."""

    def refusal(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return adapter_of(request, policy).refuse(problem)

    async def awaited(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return refusal(request)

    refuse = awaited if getattr(view, "view_is_async", False) else refusal
    setattr(view, name, refuse)
    if hasattr(view, "initialize_request"):
        view.initial = lambda *args, **kwargs: None
    else:
        view.dispatch = refuse
