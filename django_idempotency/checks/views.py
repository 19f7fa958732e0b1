"""Checks of the views in the URLconf."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.urls import get_resolver

from ..class_views import class_of, mark_of
from ..contract.endpoints import Endpoint, endpoints
from ..contract.middlewares import is_installed
from ..contract.routes import View, routes
from ..doors import OPTIONS, Options
from ..middleware import leaves_alone
from ..permissions import hides_its_check
from ..policy import Policy
from .configuration import TAG, valid_configuration


@register(TAG, Tags.urls)
def check_views(**kwargs: Any) -> list[CheckMessage]:
    """E004, once per view that the middleware guards."""
    valid = valid_configuration()
    if valid is None or not getattr(settings, "ROOT_URLCONF", None) or not is_installed():
        return []
    hidden = {
        id(route.view): route.view
        for route in routes(get_resolver())
        if _is_asked(route.view) and hides_its_check(route.view) and valid.covers(route.example)
    }
    return [_hidden(view) for view in hidden.values()]


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


def _is_asked(view: View) -> bool:
    """Whether the middleware starts before a view, so that it has to ask the view's checks."""
    return class_of(view) is None and not leaves_alone(view)


def _hidden(view: View) -> CheckMessage:
    name = getattr(view, "__qualname__", type(view).__qualname__)
    return Error(
        f"The view {view.__module__}.{name} checks permissions in a way that "
        "IdempotencyMiddleware cannot look into; requests with a key would fail.",
        hint="Put @idempotent below the check, or @idempotency_exempt above it.",
        id="django_idempotency.E004",
    )
