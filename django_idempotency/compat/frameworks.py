"""Everything that we ask of views beyond the documented interfaces of Django, DRF and Ninja.

Decorators, URLs and operations do not say what they wrap, so it is looked up where they keep it: in
closures, and in attributes with a leading underscore. A test per name tells when a new version
keeps it elsewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from inspect import isfunction, ismethod
from types import CellType
from typing import Any

# What closures of decorators keep.

API_VIEWS = frozenset({"rest_framework.decorators", "adrf.decorators"})
"""Modules of ``@api_view``, whose handlers keep the function in a closure, without its attributes,
and do not say that they wrap it."""

POINT = "_idempotency_point"
"""Attribute of a function that has been put in the place of another: the other one."""


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


def closure_of(function: Any) -> list[tuple[str, CellType]]:
    """Return the variables that a function's closure keeps; those that are not set yet left out."""
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    return [(name, cell) for name, cell in cells if _is_filled(cell)]


def variables(function: Any, name: str) -> Iterator[Any]:
    """Yield what a function's closure keeps in a variable."""
    yield from (cell.cell_contents for free, cell in closure_of(function) if free == name)


def module_of(function: Any) -> str:
    """Return where a function is defined, despite the copies of ``functools.wraps``."""
    known = getattr(function, "__globals__", None)
    return str(type(function).__module__ if known is None else known.get("__name__", ""))


def code_name(function: Any) -> str:
    """Return the qualified name that a function was defined under."""
    code = getattr(function, "__code__", None)
    return "" if code is None else str(code.co_qualname)


def wrapped_by(function: Any) -> Any:
    """Return what a decorator, a method or a partial function calls; ``None`` if it is not said."""
    if isinstance(function, partial):
        return function.func
    if ismethod(function):
        return function.__func__
    if module_of(function) in API_VIEWS:
        return next(variables(function, "func"), None)
    inner = getattr(function, "__wrapped__", None)
    if inner is not None or isfunction(function):
        return inner
    called = vars(type(function)).get("__call__")
    return called if isfunction(called) else None


def slots_of(wrapper: Any, inner: Any, depth: int = 3) -> Iterator[Slot]:
    """Find what has to change for a wrapper to call something else."""
    if not isfunction(wrapper):
        own = getattr(wrapper, "__dict__", {})
        names = [name for name, kept in own.items() if _is(kept, inner) and name != "__wrapped__"]
        # A proxy of wrapt's calls what stands in this attribute, which it lets others set.
        if not names and type(wrapper).__module__.startswith("wrapt"):
            names = ["__wrapped__"]
        yield from (Slot(wrapper, name) for name in names)
        return
    for _, cell in closure_of(wrapper):
        if _is(cell.cell_contents, inner):
            yield Slot(cell, "cell_contents")
        elif depth and isfunction(cell.cell_contents) and cell.cell_contents is not wrapper:
            yield from slots_of(cell.cell_contents, inner, depth - 1)


def applied_by_method_decorator(wrapper: Any) -> list[Any] | None:
    """Return what ``method_decorator`` applies as one, the outermost first; ``None`` if the wrapper
    is not one of its. It keeps them in the order in which they are applied."""
    if not code_name(wrapper).startswith("_multi_decorate."):
        return None
    return list(reversed(next(variables(wrapper, "decorators"))))


def user_test_of(wrapper: Any) -> Any:
    """Return what was passed to ``user_passes_test``; ``None`` if the wrapper is not made by it."""
    is_test = code_name(wrapper).startswith("user_passes_test.")
    return next(variables(wrapper, "test_func"), None) if is_test else None


def context_of(wrapper: Any) -> Any:
    """Return the context manager that decorates a function (``contextlib.ContextDecorator``)."""
    return next(variables(wrapper, "self"), None)


def middleware_of(wrapper: Any) -> Any:
    """Return the middleware that ``decorator_from_middleware`` has made a decorator of.

    A helper function in the closure keeps it, not the wrapper itself. ``None`` if it is none.
    """
    if not code_name(wrapper).startswith("make_middleware_decorator."):
        return None
    helpers = (cell.cell_contents for _, cell in closure_of(wrapper))
    return next((each for helper in helpers for each in variables(helper, "middleware")), None)


def required_methods(wrapper: Any) -> Any:
    """Return the methods that ``require_http_methods`` allows; ``None`` if it is another one."""
    is_one = code_name(wrapper).startswith("require_http_methods.")
    return next(variables(wrapper, "request_method_list"), None) if is_one else None


def belongs_to_admin(view: Any) -> bool:
    """Whether a view belongs to Django's admin, which checks permissions inside its views."""
    if hasattr(view, "admin_site") or hasattr(view, "model_admin"):
        return True
    # What admin_site.admin_view() returns says that it wraps the view, and hides what is between:
    # the check is one of those.
    kept = view
    while kept is not None:
        if code_name(kept).startswith("AdminSite.admin_view."):
            return True
        kept = next(variables(kept, "view_func"), None)
    # The login, the page for a user's password and the like: methods, maybe in admin_view().
    while view is not None:
        # Not imported: a project need not have django.contrib.admin.
        modules = {each.__module__ for each in type(getattr(view, "__self__", None)).__mro__}
        if modules & {"django.contrib.admin.sites", "django.contrib.admin.options"}:
            return True
        view = getattr(view, "__wrapped__", None)
    return False


def _is(kept: Any, inner: Any) -> bool:
    return kept is inner or getattr(kept, "__dict__", {}).get(POINT) is inner


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


# Django's handler.


def has_request_block(view: Any, using: str) -> bool:
    """Whether a view is not excepted from ``ATOMIC_REQUESTS`` on a database.

    ``transaction.non_atomic_requests`` notes that where ``BaseHandler.make_view_atomic`` looks.
    """
    return using not in getattr(view, "_non_atomic_requests", ())


def answer_for_exceptions(resolver: Any, answer_of: Callable[[Any], Any]) -> None:
    """Let an answer that is known already stand for what an error handler would make.

    Django asks ``URLResolver.resolve_error_handler`` for ``handler404`` and its kin, and has no
    other place where one could stand between. It is replaced on the resolver, once.

    :param answer_of: given an exception; ``None`` to let the project's handler make the answer
    """
    if "resolve_error_handler" in vars(resolver):
        return
    resolve = resolver.resolve_error_handler

    def resolve_error_handler(view_type: int) -> Callable[..., Any]:
        handler = resolve(view_type)

        @wraps(handler)
        def handler_or_answer(request: Any, *args: Any, **kwargs: Any) -> Any:
            answer = answer_of(kwargs.get("exception"))
            return handler(request, *args, **kwargs) if answer is None else answer

        return handler_or_answer

    resolver.resolve_error_handler = resolve_error_handler


SYNC_USER, ASYNC_USER = "_cached_user", "_acached_user"
"""Where ``request.user`` and ``request.auser()`` keep the user that they have looked up."""


def share_user(request: Any, known: str, asked: str) -> None:
    """``request.user``, which we ask, and ``request.auser()``, which async views ask, look the user
    up and remember it each on its own; once is enough."""
    if hasattr(request, known) and not hasattr(request, asked):
        setattr(request, asked, getattr(request, known))


def authenticate_as(request: Any, user: Any) -> None:
    """Have Django, its decorators and Django REST framework take a user for the caller of a request
    that has no credentials, as their test clients do."""

    async def auser() -> Any:
        return user

    request.user, request.auser = user, auser
    request._dont_enforce_csrf_checks = True  # a browser's form was checked at the first time
    if user.is_authenticated:
        request._force_auth_user = user


# Django Ninja.

_OPERATION = "_ninja_operation"
_CONTRIBUTIONS = "_ninja_contribute_to_operation"


def operations_in(view: Any) -> list[Any] | None:
    """Return the operations that a view of Ninja's chooses from; ``None`` if it is not Ninja's.

    The view is a closure of the ``PathView`` that has them.
    """
    if getattr(view, "__module__", None) != "ninja.operation":
        return None
    kept = (cell.cell_contents for cell in view.__closure__ or ())
    return [each for path_view in kept for each in getattr(path_view, "operations", ())]


def operation_made_of(function: Any) -> Any:
    """Return the operation that ``@api.post`` has made of a function; ``None`` if there is none."""
    return getattr(function, _OPERATION, None)


def contribute_to_operation(function: Any, contribute: Callable[[Any], None]) -> None:
    """Have a function called with every operation that will be made of a view function."""
    setattr(function, _CONTRIBUTIONS, [*getattr(function, _CONTRIBUTIONS, ()), contribute])


def decorate_operation(operation: Any, decorate: Callable[[Any], Any]) -> None:
    """Decorate an operation's ``run``, and that of its clones, one per API that it is mounted in.

    ``decorate_view()`` is the documented way, but it takes the function before ``@api.post`` does.
    """
    from ninja.decorators import _apply_decorators

    _apply_decorators((decorate,), operation)


def response_of(operation: Any, request: Any, result: Any) -> Any:
    """Return the response that an operation makes of what its function returns."""
    draft = operation.api.create_temporal_response(request)
    return operation._result_to_response(request, result, draft)


def has_handler_of_project(operation: Any, error: BaseException) -> bool:
    """Whether the project's API has a handler for an exception, and not only Ninja itself."""
    handler = operation.api._lookup_exception_handler(error)
    return handler is not None and getattr(handler, "func", handler).__module__ != "ninja.errors"
