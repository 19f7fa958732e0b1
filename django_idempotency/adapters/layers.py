"""Views of Django's admin, which check permissions where nobody outside can ask."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from inspect import isfunction, ismethod, unwrap
from types import CellType, MethodType
from typing import Any

from django.db.transaction import Atomic
from django.http import HttpRequest

from ..conf.memoize import memoize

POINT = "_idempotency_point"
"""Attribute of a function that has been put in the place of another: the other one."""

_API_VIEWS = ("rest_framework.decorators", "adrf.decorators")
"""Modules of ``@api_view``, whose handlers do not say what they wrap."""

_HARMLESS = ("django.views.decorators", "django.utils.", "django_idempotency.", "asgiref.")
"""Where decorators come from that decide nothing about the caller, or that are ours."""

_TRANSACTIONS = ("reversion.",)
"""Packages whose decorators open a transaction."""


class Kind(Enum):
    """What may be done with a decorator when a stored response is replayed."""

    HARMLESS = "harmless"
    """It decides nothing about the caller: it may be asked, or left out."""

    TRANSACTION = "transaction"
    """It opens a transaction: the guard has to begin outside of it."""

    CHECK = "check"
    """``user_passes_test``, or what is made of it: its test can be asked without the view."""

    UNKNOWN = "unknown"
    """It may check anything: the guard has to begin inside of it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a decorator keeps what it wraps: a cell of its closure, or an attribute."""

    owner: Any
    name: str

    @property
    def content(self) -> Any:
        return getattr(self.owner, self.name)

    def put(self, function: Any) -> None:
        setattr(self.owner, self.name, function)


@dataclass(frozen=True, slots=True)
class Layer:
    """One decorator of a function, or several that ``method_decorator`` applies as one.

    :ivar kinds: of what is in it, the outermost first
    :ivar tests: what was passed to ``user_passes_test``
    :ivar inner: what it wraps
    :ivar slots: where it keeps that; none if nobody else can put something there
    """

    wrapper: Any
    kinds: tuple[Kind, ...]
    tests: tuple[Any, ...]
    inner: Any
    slots: tuple[Slot, ...]


def layers(function: Any) -> Iterator[Layer]:
    """Yield the decorators of a function that say what they wrap, the outermost first."""
    while True:
        inner = _wrapped(function)
        if inner is None:
            return
        yield _layer(function, inner)
        function = inner


def variables(function: Any, name: str) -> Iterator[Any]:
    """Yield what a function's closure keeps in a variable."""
    yield from (cell.cell_contents for free, cell in _backend(function) if free == name)


def captured(function: Any, decorator: str, name: str) -> Iterator[Any]:
    """Yield what a function's decorators keep in a variable.

    :param decorator: where the qualified name of the wrapping function begins
    """
    for layer in layers(function):
        if _code_name(layer.wrapper).startswith(decorator):
            yield from variables(layer.wrapper, name)


def hidden_view(function: Any) -> Any:
    """Return the view that a function calls without saying so, as ``functools.wraps`` would.

    :return: ``None`` if its closure has none, as far as names of parameters tell
    """
    for layer in layers(function):
        function = layer.inner
    kept = (cell.cell_contents for _, cell in _backend(function))
    return next((each for each in kept if isfunction(each) and _takes_request(unwrap(each))), None)


def _takes_request(function: Any) -> bool:
    code = function.__code__
    names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
    return names[:1] == ("request",)


def _wrapped(function: Any) -> Any:
    if isinstance(function, partial):
        return function.func
    if ismethod(function):
        return function.__func__
    if _module(function) in _API_VIEWS:
        return next(variables(function, "func"), None)
    inner = getattr(function, "__wrapped__", None)
    if inner is not None or isfunction(function):
        return inner
    called = vars(type(function)).get("__call__")
    return called if isfunction(called) else None


def _layer(wrapper: Any, inner: Any) -> Layer:
    kinds: tuple[Kind, ...] = ()
    tests: tuple[Any, ...] = ()
    if _code_name(wrapper).startswith("_multi_decorate."):
        # It keeps them in the order in which they are applied: the innermost first.
        applied = reversed(next(variables(wrapper, "decorators")))
        parts = [part for each in applied for part in layers(each(_example_of_a_view()))]
        kinds = tuple(kind for part in parts for kind in part.kinds)
        tests = tuple(test for part in parts for test in part.tests)
    elif _decorates(wrapper):
        kinds, tests = (_kind(wrapper),), tuple(_tests(wrapper))
    return Layer(wrapper, kinds, tests, inner, tuple(_slots(wrapper, inner)))


def _decorates(wrapper: Any) -> bool:
    """Partial functions, methods and objects that are called do nothing of their own."""
    return hasattr(wrapper, "__wrapped__") and not isinstance(wrapper, partial | MethodType)


def _example_of_a_view() -> Any:
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """What Django's method_decorator does, too, to see what decorators make of a view."""

    return view


def _kind(wrapper: Any) -> Kind:
    module, name = _module(wrapper), _code_name(wrapper)
    if module == "django.contrib.auth.decorators":
        return Kind.CHECK if next(_tests(wrapper), None) else Kind.UNKNOWN
    if module == "contextlib":
        return _kind_of_context(next(variables(wrapper, "self"), None))
    if name.startswith("make_middleware_decorator."):
        return _kind_of_middleware(wrapper)
    if module.startswith(_TRANSACTIONS):
        return Kind.TRANSACTION
    return Kind.HARMLESS if module.startswith(_HARMLESS) else Kind.UNKNOWN


def _kind_of_context(context: Any) -> Kind:
    if isinstance(context, Atomic):
        return Kind.TRANSACTION
    module = type(context).__module__
    if module.startswith(_TRANSACTIONS):
        return Kind.TRANSACTION
    return Kind.HARMLESS if module.startswith(_HARMLESS) else Kind.UNKNOWN


def _kind_of_middleware(wrapper: Any) -> Kind:
    helpers = (cell.cell_contents for _, cell in _backend(wrapper))
    found = next((each for helper in helpers for each in variables(helper, "middleware")), None)
    module = type(found).__module__
    # csrf_protect is a check; pages from a cache, compression and the like are none.
    is_ours = module.startswith("django.middleware.") and module != "django.middleware.csrf"
    return Kind.HARMLESS if is_ours else Kind.UNKNOWN


def _tests(wrapper: Any) -> Iterator[Any]:
    if _code_name(wrapper).startswith("user_passes_test."):
        yield from variables(wrapper, "test_func")


def _slots(wrapper: Any, inner: Any, depth: int = 3) -> Iterator[Slot]:
    """Find what has to change for a wrapper to call something else."""
    if not isfunction(wrapper):
        own = getattr(wrapper, "__dict__", {})
        names = [name for name, kept in own.items() if _is(kept, inner) and name != "__wrapped__"]
        # A proxy of wrapt's calls what stands in this attribute, which it lets others set.
        if not names and type(wrapper).__module__.startswith("wrapt"):
            names = ["__wrapped__"]
        yield from (Slot(wrapper, name) for name in names)
        return
    for _, cell in _backend(wrapper):
        if _is(cell.cell_contents, inner):
            yield Slot(cell, "cell_contents")
        elif depth and isfunction(cell.cell_contents) and cell.cell_contents is not wrapper:
            yield from _slots(cell.cell_contents, inner, depth - 1)


def _is(kept: Any, inner: Any) -> bool:
    return kept is inner or getattr(kept, "__dict__", {}).get(POINT) is inner


def _backend(function: Any) -> list[tuple[str, CellType]]:
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    backend = zip(code.co_freevars, function.__closure__ or (), strict=True)
    return [(name, cell) for name, cell in backend if _is_filled(cell)]


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _module(function: Any) -> str:
    """Where it is defined, whatever ``functools.wraps`` has copied from what it wraps."""
    known = getattr(function, "__globals__", None)
    return str(type(function).__module__ if known is None else known.get("__name__", ""))


def _code_name(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return "" if code is None else str(code.co_qualname)


@memoize
def belongs_to_admin(view: Any) -> bool:
    """Whether a view belongs to Django's admin, which checks permissions inside its views."""
    if hasattr(view, "admin_site") or hasattr(view, "model_admin") or _is_admin_view(view):
        return True
    # The login, the page for a user's password and the like: methods, maybe in admin_view().
    owners = (type(getattr(each, "__self__", None)) for each in _layers(view))
    # Not imported: a project need not have django.contrib.admin.
    modules = {each.__module__ for owner in owners for each in owner.__mro__}
    return not modules.isdisjoint({"django.contrib.admin.sites", "django.contrib.admin.options"})


def _is_admin_view(view: Any) -> bool:
    """Whether a function was wrapped with ``admin_site.admin_view()``.

    Its wrapper says that it wraps the function, and hides those between: the check is one of them.
    """
    while view is not None:
        code = getattr(view, "__code__", None)
        if code is not None and code.co_qualname.startswith("AdminSite.admin_view."):
            return True
        view = next(variables(view, "view_func"), None)
    return False


def _layers(view: Any) -> Iterator[Any]:
    """Yield a view and what its decorators wrap."""
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)
