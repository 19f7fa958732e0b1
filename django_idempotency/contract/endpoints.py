"""Which endpoints are guarded, by what, under which policy; and why the others are not.

The adapters decide that for one request at a time. Here their own functions are asked without one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLResolver, get_resolver

from ..adapters.base import EXEMPT, OPTIONS, options_of, resolve_policy
from ..adapters.class_based import (
    class_policy,
    handler_name,
    handler_position,
    mark_of,
    working_class,
)
from ..adapters.dispatch import class_of
from ..adapters.position import GuardPosition, named, position_of
from ..compat.frameworks import belongs_to_admin
from ..conf.policy import VIEW, Anonymous, Policy, Scope, StoreKind
from ..conf.settings import configuration
from ..conf.values import dotted_path
from ..http.kept_request import request_to
from ..models import IdempotencyRecord
from ..stores.database.interrupted import ResumableOperation
from .routes import (
    Route,
    View,
    action_for,
    admits_anybody,
    is_installed,
    name_of_view,
    operation_behind,
    routes,
    write_methods,
)

ADMIN = "Django's admin checks permissions inside its views"
HIDDEN = "its permission check cannot be asked before it runs"


class Coverage(StrEnum):
    """What happens to a write that carries a key."""

    GUARDED = "guarded"
    EXEMPT = "exempt"
    UNGUARDED = "unguarded"
    FAILS = "fails"


class GuardedBy(StrEnum):
    """Where an endpoint got its guard."""

    MIDDLEWARE = "middleware"
    FUNCTION = "decorated function"
    VIEW = "decorated view"
    CLASS = "decorated class"
    HANDLER = "decorated handler"


@dataclass(frozen=True, slots=True)
class Protection:
    """What holds for one method of one view.

    :param by: ``None`` if it is not guarded
    :param policy: ``None`` unless it is guarded, or would be if it did not fail
    :param reason: why it is exempt, or fails
    :param hides: name of a decorator that cannot be asked before a replay
    :param is_opaque: whether it may stand inside of a decorator that does not say what it wraps
    """

    coverage: Coverage
    by: GuardedBy | None = None
    policy: Policy | None = None
    reason: str = ""
    hides: str = ""
    is_opaque: bool = False

    @property
    def guards(self) -> Policy | None:
        """The policy under which it is guarded."""
        return self.policy if self.coverage is Coverage.GUARDED else None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one route.

    :param path: parameters stand in braces
    :param example: what ``request.path_info`` may be: each parameter is a zero
    :param name: of the view in the URLconf, with namespaces; ``view`` of an
        :class:`~django_idempotency.signals.Event`
    :param route: the URL pattern, as in an event
    :param view: dotted name of the function or of the handler
    :param callback: what the URLconf names
    :param admits_anybody: it declares that callers need not authenticate
    :param takes_forms: whether Django's CSRF check is on, as for what browsers send
    """

    path: str
    example: str
    method: str
    name: str
    route: str
    view: str
    callback: View = field(repr=False, compare=False)
    protection: Protection
    admits_anybody: bool = False
    takes_forms: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it is guarded for everybody, or exempt for a reason that is written down."""
        if self.protection.coverage is Coverage.EXEMPT:
            return self.protection.reason != ""
        return self.protection.guards is not None and not self.ignores_callers

    @property
    def ignores_callers(self) -> bool:
        """Whether it is known to run for anonymous callers as if they had sent no key."""
        policy = self.protection.policy
        if policy is None or policy.required or policy.anonymous is not Anonymous.IGNORE:
            return False
        return self.admits_anybody and policy.scope in (Scope.PRINCIPAL, Scope.TOKEN)


def endpoints(resolver: URLResolver | None = None) -> list[Endpoint]:
    """Return every write endpoint, in the order of the URLconf; none if there is no URLconf.

    The list is made once for a URLconf, ``IDEMPOTENCY`` and ``MIDDLEWARE``: system checks and the
    retry guide ask for it again and again.

    :param resolver: where to begin; the project's URLconf if it is left out
    """
    global _latest
    if resolver is None and not getattr(settings, "ROOT_URLCONF", None):
        return []
    wanted = (resolver or get_resolver(), configuration(), tuple(settings.MIDDLEWARE))
    source, found = _latest
    if source != wanted:
        found = tuple(_endpoints(routes(wanted[0])))
        _latest = wanted, found
    return list(found)


_latest: tuple[object, tuple[Endpoint, ...]] = (None, ())
"""The list that was made last, and of what. One assignment replaces it: threads need no lock."""


def policies_of_endpoints() -> list[tuple[Endpoint, Policy]]:
    """Return the endpoints that have a policy, also those that fail with a key."""
    found = [(endpoint, endpoint.protection.policy) for endpoint in endpoints()]
    return [(endpoint, policy) for endpoint, policy in found if policy is not None]


def longest_tombstone() -> timedelta:
    """Return the longest tombstone that the settings or a guarded view declare.

    A record does not say whose it is, so a purge that spares the longest spares all of them.
    """
    known = configuration()
    policies = [known.policy, *known.policies.values()]
    policies += [policy for _, policy in policies_of_endpoints()]
    return max(policy.tombstone for policy in policies)


def resumable_handlers(using: str) -> dict[str, Policy]:
    """Return the policies with a handler that finishes interrupted operations, by its name.

    Records hold names only, and nothing is imported by a name from there: it must be one of these.
    A handler under two different policies is left out, because a record does not say which is
    meant.

    :param using: only views whose records are in this database
    """
    declared = declared_handlers(using)
    return {name: policies[0] for name, policies in declared.items() if len(policies) == 1}


def declared_handlers(using: str | None = None) -> dict[str, list[Policy]]:
    """Return the names of all handlers that views declare, with the policies they are under.

    A handler whose views are all atomic, or have their records elsewhere, has none.
    """
    found: dict[str, list[Policy]] = {}
    for _, policy in policies_of_endpoints():
        if policy.resumable is None or policy.resumable is True:
            continue
        policies = found.setdefault(dotted_path(policy.resumable), [])
        if is_resumed(policy, using) and policy not in policies:
            policies.append(policy)
    return found


def is_resumed(policy: Policy, using: str | None = None) -> bool:
    """Whether operations under a policy can be resumed, if it says how.

    :param using: only if its records are in this database
    """
    if policy.atomic or policy.store is StoreKind.CACHE:
        return False
    return using is None or IdempotencyRecord.alias(policy.using) == using


def policy_to_resume(
    found: ResumableOperation, handlers: Mapping[str, Policy], using: str
) -> Policy | None:
    """Return the policy under which an operation is resumed; ``None`` if no view, or no single
    policy, says how.

    Where the view is its own handler, it is the view that a retry would get today: the one at the
    path of the operation.

    :param handlers: what :func:`resumable_handlers` has found
    """
    if found.handler != VIEW:
        return handlers.get(found.handler)
    request = request_to(found.method, found.path)
    if request.resolver_match is None:
        return None
    view = request.resolver_match.func
    policy = protection_of(view, found.method, request.path_info).guards
    is_its_own = policy is not None and policy.resumable is True and is_resumed(policy, using)
    return policy if is_its_own else None


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


def protection_of(view: View, method: str, path: str) -> Protection:
    """Return what holds for requests with this method.

    :param view: what the URLconf names
    :param path: ``request.path_info``
    """
    view_class = class_of(view)
    operation = operation_behind(view, method)
    if operation is not None:
        protection = _operation(operation, view, path)
    elif view_class is None:
        protection = _function(view, path)
    else:
        protection = _handler(view, view_class, method, path)
    policy = protection.policy
    if policy is not None and method not in policy.methods:
        guarded = ", ".join(sorted(policy.methods))
        return Protection(Coverage.EXEMPT, reason=f"its policy guards {guarded} only")
    return protection


def _endpoint(route: Route, method: str) -> Endpoint:
    protection = protection_of(route.view, method, route.example)
    return Endpoint(
        route.path,
        route.example,
        method,
        route.name,
        route.route,
        name_of_view(route.view, method),
        route.view,
        protection,
        admits_anybody=protection.policy is not None and admits_anybody(route.view, method),
        takes_forms=not getattr(route.view, "csrf_exempt", False),
    )


def _is_format_suffix(route: Route, new: list[Endpoint], known: dict[str, list[Endpoint]]) -> bool:
    """Whether a route is a known one with ``.json`` at its end, and nothing else."""
    path = route.path.removesuffix(".{format}")
    if path == route.path:
        return False
    without = [*known.get(path, ()), *known.get(f"{path}/", ())]
    return [(each.view, each.protection) for each in new] == [
        (each.view, each.protection) for each in without
    ]


def _function(view: Any, path: str) -> Protection:
    protection = _around(view, path, GuardedBy.FUNCTION)
    if protection.by is GuardedBy.FUNCTION:  # its guard begins where the decorator stands
        return protection
    return _unless_hidden(protection, position_of(view))


def _operation(operation: Any, view: Any, path: str) -> Protection:
    """What holds for an operation of Django Ninja."""
    function = operation.view_func
    if hasattr(function, EXEMPT):
        return Protection(Coverage.EXEMPT, reason=getattr(function, EXEMPT))
    by = GuardedBy.FUNCTION if hasattr(function, OPTIONS) else GuardedBy.VIEW
    if hasattr(function, OPTIONS) or hasattr(operation, OPTIONS):
        protection = Protection(Coverage.GUARDED, by, resolve_policy(path, operation, function))
    else:
        protection = _middleware(view, path)
    if by is GuardedBy.FUNCTION:
        return protection
    return _unless_hidden(protection, position_of(function))


def _unless_hidden(protection: Protection, position: GuardPosition) -> Protection:
    if protection.guards is None or position.hidden is None:
        return replace(protection, is_opaque=position.opaque)
    return Protection(
        Coverage.FAILS, policy=protection.policy, reason=HIDDEN, hides=named(position.hidden)
    )


def _handler(view: Any, view_class: type, method: str, path: str) -> Protection:
    try:
        name = handler_name(view_class, action_for(view, method))
        worker = working_class(view_class) if name == "dispatch" else view_class
        handler = getattr(worker, name)
    except ImproperlyConfigured as error:
        protection = _unmarked(view, view_class, path)
        fails = Protection(Coverage.FAILS, policy=protection.policy, reason=str(error))
        return fails if protection.guards else protection
    options = mark_of(handler, OPTIONS)
    if options is not None:
        policy = resolve_policy(path, view_class).override(**options)
        return Protection(Coverage.GUARDED, GuardedBy.HANDLER, policy)
    reason = mark_of(handler, EXEMPT)
    if reason is not None:
        return Protection(Coverage.EXEMPT, reason=reason)
    return _unless_hidden(_unmarked(view, view_class, path), handler_position(view_class, handler))


def _unmarked(view: Any, view_class: type, path: str) -> Protection:
    """What class, view and middleware say of a handler that says nothing itself."""
    outside = _around(view, path, GuardedBy.VIEW)
    watched = None if outside.policy is None else options_of(view)
    policy = class_policy(view_class, watched, path)
    if policy is not None:
        own = hasattr(view_class, OPTIONS)
        return Protection(Coverage.GUARDED, GuardedBy.CLASS if own else outside.by, policy)
    reason = getattr(view_class, EXEMPT, None)
    return outside if reason is None else Protection(Coverage.EXEMPT, reason=reason)


def _around(view: Any, path: str, by: GuardedBy) -> Protection:
    """What decorators of a view say, or else the middleware."""
    if hasattr(view, OPTIONS):
        return Protection(Coverage.GUARDED, by, resolve_policy(path, view))
    if hasattr(view, EXEMPT):
        return Protection(Coverage.EXEMPT, reason=getattr(view, EXEMPT))
    return _middleware(view, path)


def _middleware(view: Any, path: str) -> Protection:
    if belongs_to_admin(view):
        return Protection(Coverage.EXEMPT, reason=ADMIN)
    known = configuration()
    reason = known.exemption(path)
    if reason is not None:
        return Protection(Coverage.EXEMPT, reason=reason)
    if is_installed() and known.covers(path):
        return Protection(Coverage.GUARDED, GuardedBy.MIDDLEWARE, known.policy_for(path))
    return Protection(Coverage.UNGUARDED)
