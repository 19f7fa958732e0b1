"""Which endpoints are guarded, by which adapter, under which policy; and why the others are not.

The adapters decide that for one request at a time. Here their own functions are asked without one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLResolver, get_resolver

from ..adapters.base import EXEMPT, OPTIONS, options_of, resolve_policy
from ..adapters.class_based import class_of, class_policy, handler_name, handler_position, mark_of
from ..adapters.ninja import operations_behind
from ..adapters.position import GuardPosition, named, position_of
from ..compat.frameworks import belongs_to_admin
from ..conf.policy import Anonymous, Policy, Scope
from ..conf.settings import Configuration, configuration
from .admission import admits_anybody
from .middlewares import is_installed
from .routes import Route, View, routes, write_methods

ADMIN = "Django's admin checks permissions inside its views"
HIDDEN = "its permission check cannot be asked before it runs"


class State(StrEnum):
    """What happens to a write that carries a key."""

    GUARDED = "guarded"
    EXEMPT = "exempt"
    UNGUARDED = "unguarded"
    FAILS = "fails"


class Adapter(StrEnum):
    """Where an endpoint got its guard."""

    MIDDLEWARE = "middleware"
    FUNCTION = "decorated function"
    VIEW = "decorated view"
    CLASS = "decorated class"
    HANDLER = "decorated handler"


@dataclass(frozen=True, slots=True)
class Protection:
    """What holds for one method of one view.

    :param adapter: ``None`` if it is not guarded
    :param policy: ``None`` if it is not guarded
    :param reason: why it is exempt, or fails
    :param hides: name of a decorator that cannot be asked before a replay
    :param is_opaque: whether it may stand inside of a decorator that does not say what it wraps
    """

    state: State
    adapter: Adapter | None = None
    policy: Policy | None = None
    reason: str = ""
    hides: str = ""
    is_opaque: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one route.

    :param path: parameters stand in braces
    :param example: what ``request.path_info`` may be: each parameter is a zero
    :param view: dotted name of the function or of the handler
    :param admits_anybody: it declares that callers need not authenticate
    :param takes_forms: whether Django's CSRF check is on, as for what browsers send
    """

    path: str
    example: str
    method: str
    view: str
    verdict: Protection
    admits_anybody: bool = False
    takes_forms: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it is guarded for everybody, or exempt for a reason that somebody wrote down."""
        verdict = self.verdict
        exempt = verdict.state is State.EXEMPT and verdict.reason != ""
        return exempt or (verdict.state is State.GUARDED and not self.ignores_callers)

    @property
    def ignores_callers(self) -> bool:
        """Whether it is known to run for anonymous callers as if they had sent no key."""
        policy = self.verdict.policy
        if policy is None or policy.required or policy.anonymous is not Anonymous.IGNORE:
            return False
        return self.admits_anybody and isinstance(policy.scope, Scope)


def endpoints(resolver: URLResolver | None = None) -> list[Endpoint]:
    """Return every write endpoint, in the order of the URLconf.

    The list is made once for a URLconf, ``IDEMPOTENCY`` and ``MIDDLEWARE``: system checks and the
    retry guide ask for it again and again.

    :param resolver: where to begin; the project's URLconf if it is left out
    """
    global _latest
    wanted = _Source(resolver or get_resolver(), configuration(), tuple(settings.MIDDLEWARE))
    source, found = _latest
    if source is None or not source.is_same(wanted):
        found = tuple(_endpoints(routes(wanted.resolver)))
        _latest = wanted, found
    return list(found)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a list of endpoints is made from. The objects are kept, so identity is safe to ask."""

    resolver: URLResolver
    configuration: Configuration
    middlewares: tuple[str, ...]

    def is_same(self, other: "_Source") -> bool:
        return (
            self.resolver is other.resolver
            and self.configuration is other.configuration
            and self.middlewares == other.middlewares
        )


_latest: tuple[_Source | None, tuple[Endpoint, ...]] = (None, ())
"""The list that was made last. One assignment replaces it, so threads need no lock."""


def _endpoints(found: Iterable[Route]) -> Iterator[Endpoint]:
    known: dict[str, list[Endpoint]] = {}
    for route in found:
        # Django Ninja has a route for each operation, and the first one takes all of them.
        here = known.setdefault(route.path, [])
        taken = {each.method for each in here}
        methods = [each for each in write_methods(route.view) if each not in taken]
        new = [_endpoint(route, method) for method in methods]
        if not _is_format_suffix(route, new, known):
            here += new
            yield from new


def judge(view: View, method: str, path: str) -> Protection:
    """Return what holds for requests with this method.

    :param view: what the URLconf names
    :param path: ``request.path_info``
    """
    view_class = class_of(view)
    operation = next((each for each in operations_behind(view) if method in each.methods), None)
    if operation is not None:
        verdict = _operation(operation, view, path)
    elif view_class is None:
        verdict = _function(view, path)
    else:
        verdict = _handler(view, view_class, method, path)
    policy = verdict.policy
    if policy is not None and method not in policy.methods:
        return Protection(State.EXEMPT, reason=f"its policy guards {_listed(policy.methods)} only")
    return verdict


def _endpoint(route: Route, method: str) -> Endpoint:
    verdict = judge(route.view, method, route.example)
    is_open = verdict.policy is not None and admits_anybody(route.view, method)
    takes_forms = not getattr(route.view, "csrf_exempt", False)
    name = _name(route.view, method)
    return Endpoint(route.path, route.example, method, name, verdict, is_open, takes_forms)


def _is_format_suffix(route: Route, new: list[Endpoint], known: dict[str, list[Endpoint]]) -> bool:
    """Whether a route is a known one with ``.json`` at its end, and nothing else."""
    path = route.path.removesuffix(".{format}")
    if path == route.path:
        return False
    without = [*known.get(path, ()), *known.get(f"{path}/", ())]
    return [(each.view, each.verdict) for each in new] == [
        (each.view, each.verdict) for each in without
    ]


def _function(view: Any, path: str) -> Protection:
    if hasattr(view, OPTIONS):
        return Protection(State.GUARDED, Adapter.FUNCTION, resolve_policy(path, view))
    if hasattr(view, EXEMPT):
        return Protection(State.EXEMPT, reason=getattr(view, EXEMPT))
    return _unless_hidden(_middleware(view, path), position_of(view))


def _operation(operation: Any, view: Any, path: str) -> Protection:
    """What holds for an operation of Django Ninja."""
    function = operation.view_func
    if hasattr(function, EXEMPT):
        return Protection(State.EXEMPT, reason=getattr(function, EXEMPT))
    adapter = Adapter.FUNCTION if hasattr(function, OPTIONS) else Adapter.VIEW
    if hasattr(function, OPTIONS) or hasattr(operation, OPTIONS):
        verdict = Protection(State.GUARDED, adapter, resolve_policy(path, operation, function))
    else:
        verdict = _middleware(view, path)
    # What is decorated itself has its guard where it says.
    return (
        verdict if adapter is Adapter.FUNCTION else _unless_hidden(verdict, position_of(function))
    )


def _unless_hidden(verdict: Protection, position: GuardPosition) -> Protection:
    if verdict.state is not State.GUARDED or position.hidden is None:
        return replace(verdict, is_opaque=position.opaque)
    return Protection(
        State.FAILS, policy=verdict.policy, reason=HIDDEN, hides=named(position.hidden)
    )


def _handler(view: Any, view_class: type, method: str, path: str) -> Protection:
    try:
        handler = _handler_of(view, view_class, method)
    except ImproperlyConfigured as error:
        verdict = _unmarked(view, view_class, path)
        fails = Protection(State.FAILS, policy=verdict.policy, reason=str(error))
        return fails if verdict.state is State.GUARDED else verdict
    options = mark_of(handler, OPTIONS)
    if options is not None:
        policy = resolve_policy(path, view_class).override(**options)
        return Protection(State.GUARDED, Adapter.HANDLER, policy)
    reason = mark_of(handler, EXEMPT)
    if reason is not None:
        return Protection(State.EXEMPT, reason=reason)
    return _unless_hidden(_unmarked(view, view_class, path), handler_position(view_class, handler))


def _handler_of(view: Any, view_class: type, method: str) -> Any:
    name = getattr(view, "actions", {}).get(method.lower(), method.lower())
    return getattr(view_class, handler_name(view_class, name))


def _unmarked(view: Any, view_class: type, path: str) -> Protection:
    """What class, view and middleware say of a handler that says nothing itself."""
    outside = _around(view, path)
    watched = None if outside.policy is None else options_of(view)
    policy = class_policy(view_class, watched, path)
    if policy is not None:
        own = hasattr(view_class, OPTIONS)
        return Protection(State.GUARDED, Adapter.CLASS if own else outside.adapter, policy)
    reason = getattr(view_class, EXEMPT, None)
    return outside if reason is None else Protection(State.EXEMPT, reason=reason)


def _around(view: Any, path: str) -> Protection:
    """What stands around a class-based view."""
    if hasattr(view, OPTIONS):
        return Protection(State.GUARDED, Adapter.VIEW, resolve_policy(path, view))
    if hasattr(view, EXEMPT):
        return Protection(State.EXEMPT, reason=getattr(view, EXEMPT))
    return _middleware(view, path)


def _middleware(view: Any, path: str) -> Protection:
    """What the middleware does with a view that does not look after itself."""
    if belongs_to_admin(view):
        return Protection(State.EXEMPT, reason=ADMIN)
    known = configuration()
    reason = known.exemption(path)
    if reason is not None:
        return Protection(State.EXEMPT, reason=reason)
    if is_installed() and known.covers(path):
        return Protection(State.GUARDED, Adapter.MIDDLEWARE, known.policy_for(path))
    return Protection(State.UNGUARDED)


def _name(view: Any, method: str) -> str:
    for operation in operations_behind(view):
        if method in operation.methods:
            return f"{operation.view_func.__module__}.{operation.view_func.__qualname__}"
    view_class: Any = class_of(view)
    if view_class is None:
        return f"{view.__module__}.{getattr(view, '__qualname__', type(view).__qualname__)}"
    if view_class.__qualname__ == "WrappedAPIView":  # what @api_view makes of a function
        return f"{view_class.__module__}.{view_class.__name__}"
    name = getattr(view, "actions", {}).get(method.lower(), method.lower())
    return f"{view_class.__module__}.{view_class.__qualname__}.{name}"


def _listed(methods: frozenset[str]) -> str:
    return ", ".join(sorted(methods))
