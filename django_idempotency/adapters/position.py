"""Where the guard of a decorated function begins: below the decorators that may check the caller.

What the decorators keep is replaced by a switch, once, the first time that a request needs it. A
request whose state has a ``pending_start`` starts the guard there; the others pass. So each check
runs where it always did, and once. A caller who fails it neither claims a key nor gets a stored
response (I5).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial, wraps
from inspect import isfunction, unwrap
from itertools import takewhile
from types import MethodType
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.transaction import Atomic
from django.http import HttpRequest

from ..compat.frameworks import (
    POINT,
    Slot,
    applied_by_method_decorator,
    closure_of,
    code_name,
    context_of,
    middleware_of,
    module_of,
    slots_of,
    user_test_of,
    wrapped_by,
)
from ..conf.memoize import memoize
from ..guard.request_state import STATE
from ..threads import on_request_thread

Enter = Callable[[], Any]
"""Starts the guard. ``None``: run the function; otherwise this is the answer."""

HIDDEN = (
    "The decorator {} around a view cannot run before a replay, and the idempotency guard cannot "
    "begin below it, so it could not refuse a replay. Put @idempotent below it (and "
    "@transaction.atomic below both), or exempt the view."
)

_HARMLESS = ("django.views.decorators", "django.utils.", "django_idempotency.", "asgiref.")
"""Where decorators come from that decide nothing about the caller, or that are ours."""

_TRANSACTIONS = ("reversion.",)
"""Packages whose decorators open a transaction."""


class DecoratorKind(Enum):
    """What may be done with a decorator when a stored response is replayed."""

    HARMLESS = "harmless"
    """It decides nothing about the caller: it may be asked, or left out."""

    TRANSACTION = "transaction"
    """It opens a transaction: the guard has to begin outside of it."""

    CHECK = "check"
    """``user_passes_test``, or a decorator made with it: its test can run without the view."""

    UNKNOWN = "unknown"
    """It may check anything: the guard has to begin inside of it."""


@dataclass(frozen=True, slots=True)
class DecoratorLayer:
    """One decorator of a function, or several that ``method_decorator`` applies as one.

    :ivar kinds: of its decorators, the outermost first
    :ivar tests: what was passed to ``user_passes_test``
    :ivar inner: what it wraps
    :ivar slots: where it keeps that; none if it cannot be replaced
    """

    wrapper: Any
    kinds: tuple[DecoratorKind, ...]
    tests: tuple[Any, ...]
    inner: Any
    slots: tuple[Slot, ...]

    @property
    def may_check(self) -> bool:
        return DecoratorKind.CHECK in self.kinds or DecoratorKind.UNKNOWN in self.kinds

    @property
    def cannot_be_asked(self) -> bool:
        return DecoratorKind.UNKNOWN in self.kinds or self.kinds.count(DecoratorKind.CHECK) > len(
            self.tests
        )

    @property
    def opens(self) -> bool:
        """Whether the guard can begin below it."""
        inner = self.inner
        return bool(self.slots) and (isfunction(inner) or not hasattr(inner, "__get__"))


@dataclass(frozen=True, slots=True)
class GuardPosition:
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
        """Fail rather than replay to a caller whom a check would have refused.

        :raises ImproperlyConfigured: if a check cannot run before the replay
        """
        if self.hidden is not None:
            raise ImproperlyConfigured(HIDDEN.format(named(self.hidden)))

    def admits(self, request: HttpRequest) -> bool:
        """Whether the caller passes the tests inside of the guard.

        The view refuses callers who do not, without doing anything.
        """
        try:
            return all(_passes(test, request.user) for test in self.tests)
        except PermissionDenied:
            return False

    def prepare(self) -> None:
        """Put a switch where the guard begins, if none stands there yet. It starts the guard of
        requests whose state has a ``pending_start``."""
        if any(POINT not in getattr(each.content, "__dict__", {}) for each in self.slots):
            switch = _switch(self.inner)
            for slot in self.slots:
                slot.put(switch)


@memoize
def position_of(function: Any) -> GuardPosition:
    """Return where the guard of a function, a method or a view begins."""
    around = list(layers(function))
    depth = _depth(around)
    inside = around[depth:]
    hidden = next((each.wrapper for each in inside if each.cannot_be_asked), None)
    says_it_checks = hasattr(function, "login_url")
    if hidden is None and says_it_checks and not any(each.may_check for each in around):
        hidden = function  # and hides how
    tests = tuple(test for each in inside for test in each.tests)
    inner, slots = (around[depth - 1].inner, around[depth - 1].slots) if depth else (function, ())
    return GuardPosition(inner, slots, tests, hidden, _hides_a_view(function))


def _depth(around: list[DecoratorLayer]) -> int:
    """Return how many decorators stand outside of the guard.

    Those that may check, and not more than that: a precondition such as ``@condition`` need not
    hold for a retry (RFC 9110, section 13.1.1). None that opens a transaction.
    """
    outside = list(takewhile(lambda each: DecoratorKind.TRANSACTION not in each.kinds, around))
    needed = max((i for i, each in enumerate(outside, 1) if each.may_check), default=0)
    if not needed:
        return 0
    possible = [i for i, each in enumerate(outside, 1) if each.opens]
    return min((i for i in possible if i >= needed), default=max(possible, default=0))


def checks_users(function: Any) -> bool:
    """Whether ``user_passes_test``, or a decorator made with it, stands around a function."""
    return any(DecoratorKind.CHECK in each.kinds for each in layers(function))


def named(function: Any) -> str:
    """Return what people call a decorator, by what it was defined in."""
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{type(function).__module__}.{type(function).__qualname__}"
    return f"{module_of(function)}.{code.co_qualname.split('.<locals>')[0]}"


def layers(function: Any) -> Iterator[DecoratorLayer]:
    """Yield the decorators of a function that say what they wrap, the outermost first."""
    inner = wrapped_by(function)
    while inner is not None:
        yield _layer(function, inner)
        function, inner = inner, wrapped_by(inner)


def _layer(wrapper: Any, inner: Any) -> DecoratorLayer:
    kinds: tuple[DecoratorKind, ...] = ()
    tests: tuple[Any, ...] = ()
    applied = applied_by_method_decorator(wrapper)
    if applied is not None:
        parts = [part for each in applied for part in layers(each(_example_of_a_view()))]
        kinds = tuple(kind for part in parts for kind in part.kinds)
        tests = tuple(test for part in parts for test in part.tests)
    elif hasattr(wrapper, "__wrapped__") and not isinstance(wrapper, partial | MethodType):
        test = user_test_of(wrapper)
        kinds, tests = (_kind(wrapper, test),), () if test is None else (test,)
    return DecoratorLayer(wrapper, kinds, tests, inner, tuple(slots_of(wrapper, inner)))


def _example_of_a_view() -> Any:
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """What Django's method_decorator does, too, to see what decorators make of a view."""

    return view


def _kind(wrapper: Any, test: Any) -> DecoratorKind:
    module = module_of(wrapper)
    if module == "django.contrib.auth.decorators":
        return DecoratorKind.UNKNOWN if test is None else DecoratorKind.CHECK
    if module == "contextlib":
        context = context_of(wrapper)
        if isinstance(context, Atomic):
            return DecoratorKind.TRANSACTION
        module = type(context).__module__
    elif code_name(wrapper).startswith("make_middleware_decorator."):
        # csrf_protect is a check; pages from a cache, compression and the like are none.
        made_of = type(middleware_of(wrapper)).__module__
        decides_nothing = made_of.startswith("django.middleware.")
        is_csrf = made_of == "django.middleware.csrf"
        return DecoratorKind.HARMLESS if decides_nothing and not is_csrf else DecoratorKind.UNKNOWN
    if module.startswith(_TRANSACTIONS):
        return DecoratorKind.TRANSACTION
    return DecoratorKind.HARMLESS if module.startswith(_HARMLESS) else DecoratorKind.UNKNOWN


def _hides_a_view(function: Any) -> bool:
    """Whether a function calls a view without saying so, as ``functools.wraps`` would, as far as
    names of parameters tell."""
    for layer in layers(function):
        function = layer.inner
    kept = (cell.cell_contents for _, cell in closure_of(function))
    return any(isfunction(each) and _takes_request(unwrap(each)) for each in kept)


def _takes_request(function: Any) -> bool:
    code = function.__code__
    names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
    return names[:1] == ("request",)


def _switch(inner: Any) -> Any:
    """Return what replaces a function: it begins the guard of requests with a ``pending_start``."""

    @wraps(inner)
    def switch(*args: Any, **kwargs: Any) -> Any:
        enter = _take_pending_start(inner, args, kwargs)
        answer = None if enter is None else enter()
        return inner(*args, **kwargs) if answer is None else answer

    @wraps(inner)
    async def aswitch(*args: Any, **kwargs: Any) -> Any:
        enter = _take_pending_start(inner, args, kwargs)
        answer = None if enter is None else await on_request_thread(enter)
        return await inner(*args, **kwargs) if answer is None else answer

    chosen = aswitch if iscoroutinefunction(inner) else switch
    setattr(chosen, POINT, inner)
    return chosen


def _take_pending_start(inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Enter | None:
    for each in (*args, *kwargs.values()):
        request = getattr(each, "_request", each)
        state = request.__dict__.get(STATE) if isinstance(request, HttpRequest) else None
        if (
            state is not None
            and state.pending_start is not None
            and state.pending_start[0] is inner
        ):
            enter: Enter = state.pending_start[1]
            state.pending_start = None
            return enter
    return None


def _passes(test: Any, user: Any) -> bool:
    """The test of an async view may be async, too; a coroutine would count as passed."""
    if not iscoroutinefunction(test):
        return bool(test(user))
    bool(user)  # Django loads it when it is first used, which must not be within the event loop.
    return bool(async_to_sync(test)(user))
