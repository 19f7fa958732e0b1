"""Arguments of a call, as two calls are compared by them."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from .keys import is_celery_task, is_context


def without_task(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments without what a queue puts first: a bound task, or a task's context."""
    return args[1:] if args and (is_celery_task(args[0]) or is_context(args[0])) else args


def arguments_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments by name, so that it does not matter how they were passed.

    :raises TypeError: if the function does not take them
    """
    own = without_task(args)
    try:
        given = dict(_bound(function, args, kwargs))
    except ValueError:  # some that are written in C have no signature
        return {"args": list(own), **kwargs}
    if len(own) < len(args):
        first = next(iter(given))
        if given[first] is args[0]:
            del given[first]
        else:  # it is one of *args
            given[first] = given[first][1:]
    return {name: list(each) if isinstance(each, tuple) else each for name, each in given.items()}


def _bound(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Mapping[str, Any]:
    try:
        return signature(function).bind(*args, **kwargs).arguments
    except TypeError:
        # A decorator with wraps() may pass arguments that its caller does not give.
        return signature(function, follow_wrapped=False).bind(*args, **kwargs).arguments
