"""Permission checks that are part of a function view."""

from collections.abc import Callable, Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest

Test = Callable[[Any], bool]


def passes_view_checks(view: Any, request: HttpRequest) -> bool:
    """Whether the caller passes the view's own checks, such as ``permission_required``.

    The middleware cannot start its guard below a function view's decorators, so it asks
    them first: who fails is left to the view, which refuses without doing anything (I5).

    :raises ImproperlyConfigured: if a check is there that cannot be asked
    """
    if not hasattr(view, "login_url"):
        return True
    tests = list(view_tests(view))
    if not tests:
        raise ImproperlyConfigured(
            f"{view!r} checks permissions in a way that IdempotencyMiddleware cannot look into. "
            "Put @idempotent below the check, or @idempotency_exempt above it."
        )
    user = getattr(request, "user", None)
    try:
        return all(test(user) for test in tests)
    except PermissionDenied:
        return False


def belongs_to_admin(view: Any) -> bool:
    """Whether a view belongs to Django's admin, which checks permissions inside its views."""
    return hasattr(view, "admin_site") or hasattr(view, "model_admin")


def view_tests(view: Any) -> Iterator[Test]:
    """Find what was passed to ``django.contrib.auth.decorators.user_passes_test``."""
    while view is not None:
        code = getattr(view, "__code__", None)
        cells = getattr(view, "__closure__", None) or ()
        if code is None or not code.co_qualname.startswith("user_passes_test."):
            code, cells = None, ()
        names = code.co_freevars if code else ()
        yield from (
            cell.cell_contents
            for name, cell in zip(names, cells, strict=True)
            if name == "test_func"
        )
        view = getattr(view, "__wrapped__", None)
