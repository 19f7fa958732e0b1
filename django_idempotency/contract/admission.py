"""Which endpoints are known to admit callers without credentials.

Only what is declared can be known: the permission classes of Django REST framework, the ``auth`` of
Django Ninja. A function view, and a permission class of the project's, may refuse anybody.
"""

from typing import Any

from ..adapters.class_based import class_of
from ..adapters.ninja import operations_behind
from .routes import View

ALLOW_ANY = ("rest_framework.permissions", "AllowAny")


def admits_anybody(view: View, method: str) -> bool:
    """Whether an endpoint declares that callers need not authenticate. ``False`` if nobody knows.

    :param view: what the URLconf names
    """
    for operation in operations_behind(view):
        if method in operation.methods:
            return not operation.auth_callbacks
    view_class: Any = class_of(view)
    if not hasattr(view_class, "permission_classes"):
        return False
    permissions = _permissions(view, view_class, method)
    return permissions is not None and all(_is_allow_any(each) for each in permissions)


def _permissions(view: Any, view_class: Any, method: str) -> Any:
    """Return the permission classes that are declared; ``None`` if code decides."""
    if view_class.get_permissions.__module__ != "rest_framework.views":
        return None
    handler = getattr(view_class, getattr(view, "actions", {}).get(method.lower(), ""), None)
    given = getattr(handler, "kwargs", {}) | getattr(view, "initkwargs", {})
    return given.get("permission_classes", view_class.permission_classes)


def _is_allow_any(permission: Any) -> bool:
    # By name: DRF may be absent, and need not be imported to be recognised.
    return (permission.__module__, getattr(permission, "__name__", "")) == ALLOW_ANY
