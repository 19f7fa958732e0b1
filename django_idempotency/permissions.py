"""Permission checks that are part of a function view."""

from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest

from .looks import per_function

Test = Callable[[Any], Any]


def passes_view_checks(view: Any, request: HttpRequest) -> bool:
    """Whether the caller passes the view's own checks, such as ``permission_required``.

    The middleware cannot start its guard below a function view's decorators, so it asks
    them first: who fails is left to the view, which refuses without doing anything (I5).

    :raises ImproperlyConfigured: if a check is there that cannot be asked
    """
    if not hasattr(view, "login_url"):
        return True
    if hides_its_check(view):
        raise ImproperlyConfigured(
            f"{view!r} checks permissions in a way that IdempotencyMiddleware cannot look into. "
            "Put @idempotent below the check, or @idempotency_exempt above it."
        )
    user = getattr(request, "user", None)
    try:
        return all(_passes(test, user) for test in view_tests(view))
    except PermissionDenied:
        return False


def _passes(test: Test, user: Any) -> bool:
    """The test of an async view may be async, too; a coroutine would count as passed."""
    if not iscoroutinefunction(test):
        return bool(test(user))
    bool(user)  # Django loads it when it is first used, which must not be within the event loop.
    return bool(async_to_sync(test)(user))


def hides_its_check(view: Any) -> bool:
    """Whether a function view checks permissions in a way that nobody can look into."""
    return hasattr(view, "login_url") and next(view_tests(view), None) is None


@per_function
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
        view = next(_variables(view, "view_func"), None)
    return False


def _variables(function: Any, name: str) -> Iterator[Any]:
    code = getattr(function, "__code__", None)
    if code is not None:
        names = zip(code.co_freevars, function.__closure__ or (), strict=True)
        yield from (cell.cell_contents for free, cell in names if free == name)


def _layers(view: Any) -> Iterator[Any]:
    """Yield a view and what its decorators wrap."""
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)


def view_tests(view: Any) -> Iterator[Test]:
    """Find what was passed to ``django.contrib.auth.decorators.user_passes_test``."""
    yield from captured(view, "user_passes_test.", "test_func")


def captured(view: Any, decorator: str, name: str) -> Iterator[Any]:
    """Yield what a view's decorators keep in a variable.

    :param decorator: where the qualified name of the wrapping function begins
    """
    for layer in _layers(view):
        code = getattr(layer, "__code__", None)
        if code is not None and code.co_qualname.startswith(decorator):
            yield from _variables(layer, name)
