"""Checks of guarded views that hand tasks to a queue in the middle of their transaction.

The code of a view is read, not run: which names it mentions, and what those mean in its module.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from inspect import getattr_static, isfunction, ismodule
from types import CodeType
from typing import Any

from django.apps import apps
from django.core.checks import Tags
from django.db import router

from ..adapters.dispatch import class_of
from ..compat.frameworks import closure_of, module_of
from ..conf.policy import StoreKind
from ..conf.settings import Configuration
from ..contract.endpoints import Endpoint, policies_of_endpoints
from ..contract.routes import action_for, operation_behind
from ..models import IdempotencyRecord
from .configuration import Databases, Messages, check
from .messages import message

ENQUEUE = frozenset({"enqueue", "aenqueue"})
"""Calls of django.tasks and RQ."""

DELAY = frozenset({"delay", "apply_async"})
"""Calls of Celery, and ``delay`` of RQ."""

LATER = frozenset({"after_commit", "on_commit", "delay_on_commit", "apply_async_on_commit"})
"""A function that mentions one of these hands its tasks over after the commit."""

IN_PROCESS = frozenset({"ImmediateBackend", "DummyBackend"})
"""Backends of django.tasks without a queue, for development and tests."""


@check(Tags.urls)
def check_enqueuing(valid: Configuration, databases: Databases) -> Messages:
    """Once per view."""
    found: dict[str, list[str]] = {}
    for endpoint, policy in policies_of_endpoints():
        is_one_commit = policy.atomic and policy.store is not StoreKind.CACHE
        if endpoint.protection.guards and is_one_commit and endpoint.view not in found:
            alias = IdempotencyRecord.alias(policy.using)
            found[endpoint.view] = sorted(set(_calls(endpoint, alias)))
    for view, calls in found.items():
        if calls:
            yield message("W045", view=view, calls=", ".join(calls))


def _calls(endpoint: Endpoint, alias: str) -> Iterator[str]:
    """Yield the calls in a view's own code that hand a task to a queue, as one would write them."""
    for function in _functions(endpoint):
        names = _names(function.__code__)
        calls = names & (ENQUEUE | DELAY)
        if not calls or names & LATER:
            continue
        for name, value in _meanings(function, names).items():
            for call in calls:
                if _is_sent(value, call, alias):
                    yield f"{name}.{call}()"


def _functions(endpoint: Endpoint) -> list[Any]:
    """Return the handler, the functions that it is made of, and the methods that it calls."""
    view, view_class = endpoint.callback, class_of(endpoint.callback)
    operation = operation_behind(view, endpoint.method)
    found: list[Any] = []
    if operation is not None:
        left: list[Any] = [operation.view_func]
    elif view_class is not None:
        left = [getattr_static(view_class, action_for(view, endpoint.method), None)]
    else:
        left = [view]
    while left:
        function: Any = left.pop()
        if not isfunction(function) or function in found:
            continue
        found.append(function)
        left += [cell.cell_contents for _, cell in closure_of(function)]
        left.append(getattr(function, "__wrapped__", None))
        if view_class is not None:
            called = _names(function.__code__)
            classes = view_class.__mro__ if "super" in called else ()
            left += [getattr_static(view_class, name, None) for name in called]
            left += [vars(each).get(name) for each in classes for name in called]
    return found


def _names(code: CodeType) -> set[str]:
    """Return the names that code mentions, also in functions within it."""
    within = [each for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*map(_names, within))


def _meanings(function: Any, names: set[str]) -> dict[str, Any]:
    """Return what names mean: variables around the function, and what modules have."""
    known = {name: function.__globals__[name] for name in names if name in function.__globals__}
    known |= {name: cell.cell_contents for name, cell in closure_of(function)}
    modules = [*filter(ismodule, known.values()), *_imported_within(function, names)]
    there = {
        name: vars(module)[name] for module in modules for name in names if name in vars(module)
    }
    return there | known


def _imported_within(function: Any, names: set[str]) -> Iterator[Any]:
    """Yield the modules that a function may import when it runs, from anywhere above its own."""
    parts = str(function.__module__).split(".")
    above = ["".join(f"{each}." for each in parts[:count]) for count in range(len(parts))]
    paths = (package + name for package in above for name in names)
    yield from (sys.modules[path] for path in paths if path in sys.modules)


def _is_sent(value: Any, call: str, alias: str) -> bool:
    """Whether a call of a value hands a task to a queue that is not in the transaction."""
    if call in ENQUEUE and _has(value, "get_backend") and _has(value, call):
        return not _is_in_transaction(value.get_backend(), alias)
    if call in ENQUEUE:
        return _is_rq(value)
    # Celery's tasks, signatures and canvas have it, and functions below RQ's @job have "delay".
    return _has(value, "apply_async") or (_has(value, call) and _is_rq(getattr(value, call)))


def _has(value: Any, name: str) -> bool:
    with suppress(Exception):  # a proxy may not find what it stands for
        return hasattr(value, name)
    return False


def _is_in_transaction(backend: Any, alias: str) -> bool:
    """Whether what is enqueued there is one of the view's writes, or runs in the view."""
    classes = type(backend).__mro__
    if any(each.__module__.partition(".")[0] == "django_tasks_db" for each in classes):
        models = [each for each in apps.get_models() if each.__name__ == "DBTaskResult"]
        return all(router.db_for_write(each) == alias for each in models)
    return any(each.__name__ in IN_PROCESS for each in classes)


def _is_rq(value: Any) -> bool:
    """Whether a value comes from RQ or django-rq: a function, a class, an object, a module."""
    if ismodule(value):
        path = value.__name__
    else:
        path = value.__module__ if isinstance(value, type) else module_of(value)
    return path.partition(".")[0] in {"rq", "django_rq"}
