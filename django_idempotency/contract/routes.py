"""What a project declares: its routes, the write methods and callers of their views, and its
middlewares."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.urls import ResolverMatch, URLResolver
from django.utils.module_loading import import_string
from django.utils.regex_helper import normalize

from ..adapters.class_based import works_in_dispatch
from ..adapters.dispatch import class_of
from ..adapters.ninja import operations_behind
from ..adapters.position import layers
from ..compat.frameworks import required_methods
from ..middleware import IdempotencyMiddleware

View = Callable[..., Any]

WRITES = ("POST", "PUT", "PATCH", "DELETE")
"""Methods that a policy can guard, in the order in which people name them."""


@dataclass(frozen=True, slots=True)
class Route:
    """One pattern of a URLconf.

    :param path: for people: parameters stand in braces
    :param example: what ``request.path_info`` may be: each parameter is a zero
    :param name: ``view_name`` of a request's ``resolver_match``
    :param route: ``route`` of it
    """

    path: str
    example: str
    name: str
    route: str
    view: View


def routes(resolver: URLResolver) -> Iterator[Route]:
    """Yield every route below a resolver, in the order of the URLconf."""
    return _walk(resolver, ("", ""), (), "")


def _walk(
    resolver: URLResolver, above: tuple[str, str], outer: tuple[Any, ...], route: str
) -> Iterator[Route]:
    try:
        patterns = list(resolver.url_patterns)
    except Exception:  # Django's own checks report a broken URLconf.
        return
    here, namespaces = _joined(above, resolver), (*outer, resolver.namespace)
    for pattern in patterns:
        view: Any = getattr(pattern, "callback", None)
        if not isinstance(pattern, URLResolver) and not callable(view):
            continue
        # As Django joins them, which leaves out what the root's own pattern is.
        joined = route + str(pattern.pattern).removeprefix("^" if route else "")
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern, here, namespaces, joined)
        else:
            match = ResolverMatch(view, (), {}, pattern.name, namespaces=list(namespaces))
            path, example = (f"/{each.removeprefix('/')}" for each in _joined(here, pattern))
            yield Route(path, example, match.view_name, joined, view)


def _joined(above: tuple[str, str], pattern: Any) -> tuple[str, str]:
    """Add text that a pattern matches, or nearly, to the path for people and to the example."""
    template, parameters = normalize(pattern.pattern.regex.pattern)[0]
    named = template % {name: f"{{{name}}}" for name in parameters}
    return above[0] + named, above[1] + template % dict.fromkeys(parameters, "0")


def write_methods(view: View) -> tuple[str, ...]:
    """Return the methods of :data:`WRITES` that a view takes, as far as it can be known.

    A function may take any, unless ``require_http_methods`` (or ``require_POST`` ...) says which.
    """
    view_class = class_of(view)
    taken = _answered(view) if view_class is None else _handled(view, view_class)
    for layer in layers(view):
        allowed = required_methods(layer.wrapper)
        taken &= taken if allowed is None else set(allowed)
    return tuple(method for method in WRITES if method in taken)


def _answered(view: Any) -> set[str]:
    operations = operations_behind(view)
    if operations:
        return {method for each in operations for method in each.methods}
    # Pages of Django Ninja's own (the document, the docs) only read.
    page = str(getattr(getattr(view, "func", view), "__module__", "")).startswith("ninja.openapi.")
    return set() if page else set(WRITES)


def _handled(view: Any, view_class: Any) -> set[str]:
    given: dict[str, Any] = getattr(view, "initkwargs", getattr(view, "view_initkwargs", {}))
    allowed = given.get("http_method_names", view_class.http_method_names)
    handlers: Any = getattr(view, "actions", None)
    if handlers is None:
        handlers = [name for name in allowed if hasattr(view_class, name)]
        if works_in_dispatch(view_class) and not set(handlers) - {"options"}:
            handlers = allowed
    return {name.upper() for name in handlers if name in allowed}


def name_of_view(view: Any, method: str) -> str:
    """Return the dotted name of the function or the handler behind a route."""
    operation = operation_behind(view, method)
    if operation is not None:
        return f"{operation.view_func.__module__}.{operation.view_func.__qualname__}"
    view_class: Any = class_of(view)
    if view_class is None:
        return f"{view.__module__}.{getattr(view, '__qualname__', type(view).__qualname__)}"
    if view_class.__qualname__ == "WrappedAPIView":  # what @api_view makes of a function
        return f"{view_class.__module__}.{view_class.__name__}"
    return f"{view_class.__module__}.{view_class.__qualname__}.{action_for(view, method)}"


def operation_behind(view: View, method: str) -> Any:
    """Return the operation of Django Ninja that a view calls; ``None`` if there is none."""
    return next((each for each in operations_behind(view) if method in each.methods), None)


def action_for(view: View, method: str) -> str:
    """Return the name of the method of a class that handles a request."""
    return str(getattr(view, "actions", {}).get(method.lower(), method.lower()))


def admits_anybody(view: Any, method: str) -> bool:
    """Whether an endpoint declares that callers need not authenticate: by the permission classes of
    Django REST framework, or the ``auth`` of Django Ninja.

    A function view, and a permission class of the project, may still refuse a caller.
    """
    operation = operation_behind(view, method)
    if operation is not None:
        return not operation.auth_callbacks
    view_class: Any = class_of(view)
    if not hasattr(view_class, "permission_classes"):
        return False
    if view_class.get_permissions.__module__ != "rest_framework.views":  # code decides
        return False
    handler = getattr(view_class, getattr(view, "actions", {}).get(method.lower(), ""), None)
    given = getattr(handler, "kwargs", {}) | getattr(view, "initkwargs", {})
    permissions = given.get("permission_classes", view_class.permission_classes)
    # By name: DRF may be absent, and need not be imported to be recognised.
    named = {(each.__module__, getattr(each, "__name__", "")) for each in permissions}
    return named <= {("rest_framework.permissions", "AllowAny")}


def listed_middlewares() -> Iterator[tuple[str, Any]]:
    """Yield each path in ``MIDDLEWARE``, and what it names."""
    for path in settings.MIDDLEWARE:
        try:
            yield path, import_string(path)
        except Exception:  # Django fails at its start, and says so itself.
            yield path, None


def is_ours(middleware: Any) -> bool:
    return isinstance(middleware, type) and issubclass(middleware, IdempotencyMiddleware)


def is_installed() -> bool:
    """Whether the middleware, or a subclass of it, is in ``MIDDLEWARE``."""
    return any(is_ours(middleware) for _, middleware in listed_middlewares())
