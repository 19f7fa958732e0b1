"""Checks of the views in the URLconf."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.urls import get_resolver

from ..adapters.base import OPTIONS
from ..adapters.class_based import class_of, mark_of
from ..compat.frameworks import has_request_block
from ..conf.options import Options
from ..conf.policy import Policy, Recheck, Store
from ..contract.endpoints import Adapter, Endpoint, State, endpoints, judge
from ..contract.middlewares import is_installed
from ..contract.routes import Route, routes, write_methods
from .configuration import TAG, valid_configuration


@register(TAG, Tags.urls)
def check_views(**kwargs: Any) -> list[CheckMessage]:
    """E004 and W048, once per view."""
    if valid_configuration() is None or not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = endpoints()
    failing = {each.view: each.verdict.hides for each in found if each.verdict.hides}
    opaque = dict.fromkeys(
        each.view
        for each in found
        if each.verdict.is_opaque and each.verdict.state is State.GUARDED
    )
    return [_hidden(view, decorator) for view, decorator in failing.items()] + [
        _opaque(view) for view in opaque
    ]


@register(TAG, Tags.urls)
def check_recheck(**kwargs: Any) -> list[CheckMessage]:
    """W049, once per view: functions and methods that are decorated themselves begin their guard
    where the decorator stands; only the middleware comes before their checks."""
    if valid_configuration() is None or is_installed():
        return []
    decorated = {Adapter.FUNCTION, Adapter.HANDLER}
    late = dict.fromkeys(
        endpoint.view
        for endpoint, policy in guarded_endpoints()
        if policy.recheck is Recheck.AUTHENTICATION and endpoint.verdict.adapter in decorated
    )
    return [_late(view) for view in late]


@register(TAG, Tags.urls)
def check_request_blocks(**kwargs: Any) -> list[CheckMessage]:
    """E020, once per view that owns its transactions, and that Django would run in one."""
    aliases = {each for each in connections if connections[each].settings_dict["ATOMIC_REQUESTS"]}
    if not aliases or valid_configuration() is None or not getattr(settings, "ROOT_URLCONF", None):
        return []
    enclosed: dict[str, set[str]] = {}
    for route in routes(get_resolver()):
        blocks = {each for each in aliases if has_request_block(route.view, each)}
        if blocks and _owns_its_transactions(route):
            enclosed[_name(route.view)] = blocks
    return [_enclosed(name, min(blocks)) for name, blocks in enclosed.items()]


def _owns_its_transactions(route: Route) -> bool:
    verdicts = [judge(route.view, each, route.example) for each in write_methods(route.view)]
    policies = [each.policy for each in verdicts if each.policy and each.state is State.GUARDED]
    return any(not policy.atomic or policy.store is Store.CACHE for policy in policies)


def guarded_endpoints() -> list[tuple[Endpoint, Policy]]:
    """Return the endpoints that are guarded, with their policies."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = [(endpoint, endpoint.verdict.policy) for endpoint in endpoints()]
    return [(endpoint, policy) for endpoint, policy in found if policy is not None]


def options_of_views() -> Iterator[Options]:
    """Yield the arguments of every ``@idempotent`` that a URL leads to."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return
    for route in routes(get_resolver()):
        view_class = class_of(route.view)
        for thing in (route.view, view_class, *vars(view_class or object).values()):
            options = mark_of(thing, OPTIONS)
            if options is not None:
                yield options


def _hidden(view: str, decorator: str) -> CheckMessage:
    return Error(
        f"The decorator {decorator} around the view {view} cannot run before a replay, and the "
        "idempotency guard cannot begin below it; requests with a key fail.",
        hint="Put @idempotent below it, @transaction.atomic below both, or @idempotency_exempt "
        "above it.",
        id="django_idempotency.E004",
    )


def _opaque(view: str) -> CheckMessage:
    return Warning(
        f"{view} seems to be a decorator without functools.wraps. If it checks the caller, replays "
        "skip that check.",
        hint="Use functools.wraps in the decorator, and the guard begins below it. If it checks "
        "nothing, add django_idempotency.W048 to SILENCED_SYSTEM_CHECKS.",
        id="django_idempotency.W048",
    )


def _late(view: str) -> CheckMessage:
    return Warning(
        f'{view} has the policy recheck="authentication", but checks above its @idempotent come '
        "before the guard, and refuse the retry of a success.",
        hint="Add django_idempotency.middleware.IdempotencyMiddleware to MIDDLEWARE, or decorate "
        "the view's class.",
        id="django_idempotency.W049",
    )


def _enclosed(name: str, alias: str) -> CheckMessage:
    return Error(
        f'The view {name} owns its transactions (atomic=False, or store="cache"), and database '
        f'"{alias}" has ATOMIC_REQUESTS: requests with a key would fail.',
        hint="Put @transaction.non_atomic_requests on the view, outermost (on dispatch() of a "
        "class).",
        id="django_idempotency.E020",
    )


def _name(view: Any) -> str:
    named = class_of(view) or view
    return f"{named.__module__}.{getattr(named, '__qualname__', type(named).__qualname__)}"
