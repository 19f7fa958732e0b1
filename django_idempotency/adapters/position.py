"""Where the guard of a decorated function begins: below the decorators that may check the caller.

What the decorators keep is replaced by a switch, once, the first time that a request needs it. A
request that is to be guarded arms it; the others pass. So each check runs where it always did, and
once, and who fails it neither claims a key nor sees what is stored under one (I5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import isfunction
from itertools import takewhile
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest

from ..conf.memoize import memoize
from ..threads import on_request_thread
from .layers import POINT, Kind, Layer, Slot, hidden_view, layers

Enter = Callable[[], Any]
"""Starts the guard. ``None``: run the function; otherwise this is the answer."""

HIDDEN = (
    "The decorator {} around a view cannot run before a replay, and the idempotency guard cannot "
    "begin below it, so it could not refuse a replay. Put @idempotent below it (and "
    "@transaction.atomic below both), or exempt the view."
)

_ARMED = "_idempotency_armed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a guard begins.

    :ivar inner: the function that it begins around
    :ivar slots: where that function stands now; none if the guard begins around all decorators
    :ivar tests: tests of users that stand inside of the guard, and are asked before it begins
    :ivar hidden: a decorator inside of the guard that cannot be asked; ``None`` if there is none
    :ivar opaque: whether the function may be a decorator that does not say what it wraps
    """

    inner: Any
    slots: tuple[Slot, ...] = ()
    tests: tuple[Any, ...] = ()
    hidden: Any = None
    opaque: bool = False

    def refuse_hidden(self) -> None:
        """Rather fail than replay to somebody whom a check would have refused.

        :raises ImproperlyConfigured: if a decorator cannot be asked
        """
        if self.hidden is not None:
            raise ImproperlyConfigured(HIDDEN.format(named(self.hidden)))

    def admits(self, request: HttpRequest) -> bool:
        """Whether the caller passes the tests inside of the guard.

        Who does not is left to the view, which refuses without doing anything.
        """
        try:
            return all(_passes(test, request.user) for test in self.tests)
        except PermissionDenied:
            return False


@memoize
def place_of(function: Any) -> Place:
    """Return where the guard of a function, a method or a view begins."""
    around = list(layers(function))
    depth = _depth(around)
    inside = around[depth:]
    hidden = next((each.wrapper for each in inside if _cannot_be_asked(each)), None)
    if hidden is None and hasattr(function, "login_url") and not any(map(_may_check, around)):
        hidden = function  # it says that it checks, and hides how
    tests = tuple(test for each in inside for test in each.tests)
    inner, slots = (around[depth - 1].inner, around[depth - 1].slots) if depth else (function, ())
    return Place(inner, slots, tests, hidden, hidden_view(function) is not None)


def _depth(around: list[Layer]) -> int:
    """Return how many decorators stand outside of the guard.

    Those that may check, and not more than that: a precondition such as ``@condition`` need not
    hold for a retry (RFC 9110, section 13.1.1). None that opens a transaction.
    """
    outside = list(takewhile(lambda each: Kind.TRANSACTION not in each.kinds, around))
    needed = max((i for i, each in enumerate(outside, 1) if _may_check(each)), default=0)
    if not needed:
        return 0
    possible = [i for i, each in enumerate(outside, 1) if _opens(each)]
    return min((i for i in possible if i >= needed), default=max(possible, default=0))


def checks_users(function: Any) -> bool:
    """Whether ``user_passes_test``, or what is made of it, stands around a function."""
    return any(Kind.CHECK in each.kinds for each in layers(function))


def arm(request: HttpRequest, place: Place, enter: Enter) -> None:
    """Have the guard begin when the request comes to this place."""
    content = [slot.content for slot in place.slots]
    if any(POINT not in getattr(each, "__dict__", {}) for each in content):
        switch = _switch(place.inner)
        for slot in place.slots:
            slot.put(switch)
    setattr(request, _ARMED, (place.inner, enter))


def named(function: Any) -> str:
    """Return what people call a decorator, by what it was defined in."""
    code = getattr(function, "__code__", None)
    module = getattr(function, "__globals__", {}).get("__name__")
    if code is None:
        return f"{type(function).__module__}.{type(function).__qualname__}"
    return f"{module}.{code.co_qualname.split('.<locals>')[0]}"


def _switch(inner: Any) -> Any:
    """Return what stands for a function: it begins the guard of requests that are armed."""

    @wraps(inner)
    def switch(*args: Any, **kwargs: Any) -> Any:
        enter = _disarmed(inner, args, kwargs)
        answer = None if enter is None else enter()
        return inner(*args, **kwargs) if answer is None else answer

    @wraps(inner)
    async def aswitch(*args: Any, **kwargs: Any) -> Any:
        enter = _disarmed(inner, args, kwargs)
        answer = None if enter is None else await on_request_thread(enter)
        return await inner(*args, **kwargs) if answer is None else answer

    chosen = aswitch if iscoroutinefunction(inner) else switch
    setattr(chosen, POINT, inner)
    return chosen


def _disarmed(inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Enter | None:
    for each in (*args, *kwargs.values()):
        request = getattr(each, "_request", each)
        armed = request.__dict__.get(_ARMED) if isinstance(request, HttpRequest) else None
        if armed is not None and armed[0] is inner:
            delattr(request, _ARMED)
            enter: Enter = armed[1]
            return enter
    return None


def _may_check(layer: Layer) -> bool:
    return Kind.CHECK in layer.kinds or Kind.UNKNOWN in layer.kinds


def _cannot_be_asked(layer: Layer) -> bool:
    return Kind.UNKNOWN in layer.kinds or layer.kinds.count(Kind.CHECK) > len(layer.tests)


def _opens(layer: Layer) -> bool:
    """Whether the guard can begin below a decorator."""
    return bool(layer.slots) and (isfunction(layer.inner) or not hasattr(layer.inner, "__get__"))


def _passes(test: Any, user: Any) -> bool:
    """The test of an async view may be async, too; a coroutine would count as passed."""
    if not iscoroutinefunction(test):
        return bool(test(user))
    bool(user)  # Django loads it when it is first used, which must not be within the event loop.
    return bool(async_to_sync(test)(user))
