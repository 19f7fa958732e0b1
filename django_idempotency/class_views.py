"""Guarding the handlers of class-based views, Django's and DRF's."""

from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import View

from .doors import EXEMPT, OPTIONS, Options, door_of, guarded, resolve_policy
from .http.body import keep_body
from .http.guard import is_running, read_key
from .policy import Policy
from .protocol.problems import Problem

_WATCHED = "_idempotency_watched"
_HOOKED = "_idempotency_hooked"


def watch(request: HttpRequest, options: Options) -> None:
    """Have the class-based view that gets this request guard its handler.

    What was said before, further outside, comes first.
    """
    setattr(request, _WATCHED, {**options, **getattr(request, _WATCHED, {})})


def hook_class(view_class: type) -> None:
    """Guard the handlers of a class-based view.

    Handlers are looked up on the instance after all checks, so the instance gets a guarded one
    when a request is set up; nothing is run twice and nothing runs elsewhere than before.
    """
    if _HOOKED in vars(view_class):
        return
    name = "initialize_request" if hasattr(view_class, "initialize_request") else "setup"
    original = getattr(view_class, name)

    @wraps(original)
    def hooked(view: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        result = original(view, request, *args, **kwargs)
        _guard_instance(view, request)
        return result

    setattr(view_class, name, hooked)
    setattr(view_class, _HOOKED, True)


def carries(thing: Any, mark: str) -> bool:
    """Whether a view, a class or a handler is marked.

    ``@api_view`` hides the function it wraps in a closure, without its attributes.
    """
    if hasattr(thing, mark):
        return True
    hides = getattr(thing, "__module__", None) == "rest_framework.decorators"
    cells = (getattr(thing, "__closure__", None) or ()) if hides else ()
    return any(hasattr(cell.cell_contents, mark) for cell in cells)


def _guard_instance(view: Any, request: HttpRequest) -> None:
    watched: Options | None = getattr(request, _WATCHED, None)
    mark = _nearest_mark(type(view))
    if mark == EXEMPT or (watched is None and mark is None) or is_running(request):
        return
    policy = resolve_policy(view).override(**watched or {})
    key = read_key(request, policy) if request.method in policy.methods else None
    if key is None:
        return
    name = (request.method or "").lower()
    if not hasattr(view, name) and _works_in_dispatch(view):
        name = "dispatch"
    handler = getattr(view, name, None)
    if handler is None or any(carries(handler, mark) for mark in (EXEMPT, OPTIONS, _HOOKED)):
        return
    if isinstance(key, Problem):
        _refuse(view, name, key, policy)
        return
    keep_body(request)
    if iscoroutinefunction(handler):
        raise ImproperlyConfigured(
            f"{type(view).__qualname__}.{name}() is async, which the guard does not support yet. "
            "Mark the view with @idempotency_exempt."
        )
    wrapper = guarded(handler, lambda _: policy)
    setattr(wrapper, _HOOKED, True)
    setattr(view, name, wrapper)


def _nearest_mark(view_class: type) -> str | None:
    """A class is guarded or exempt as its nearest relative says."""
    for relative in view_class.__mro__:
        for mark in (EXEMPT, OPTIONS):
            if mark in vars(relative):
                return mark
    return None


def _works_in_dispatch(view: Any) -> bool:
    """Whether a view has no handlers, but does everything where they would be chosen.

    :raises ImproperlyConfigured: if a permission check would be inside of the guard
    """
    if hasattr(view, "initialize_request") or type(view).dispatch is View.dispatch:
        return False
    # Not imported: a project need not have django.contrib.auth.
    if any(each.__module__ == "django.contrib.auth.mixins" for each in type(view).__mro__):
        raise ImproperlyConfigured(
            f"{type(view).__qualname__} checks permissions in dispatch() and does its work there, "
            "too, so the guard has no place between. Move the work into post()."
        )
    return True


def _refuse(view: Any, name: str, problem: Problem, policy: Policy) -> None:
    """A malformed key is refused before anything is looked up (I7), whatever the view does."""

    def refusal(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return door_of(request, getattr(request, "_request", request), policy).refuse(problem)

    setattr(view, name, refusal)
    if hasattr(view, "initialize_request"):
        view.initial = lambda *args, **kwargs: None
    else:
        view.dispatch = refusal
