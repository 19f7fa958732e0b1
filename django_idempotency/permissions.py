"""Views of Django's admin, which check permissions where nobody outside can ask."""

from collections.abc import Iterator
from typing import Any

from .layers import variables
from .looks import per_function


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
        view = next(variables(view, "view_func"), None)
    return False


def _layers(view: Any) -> Iterator[Any]:
    """Yield a view and what its decorators wrap."""
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)
