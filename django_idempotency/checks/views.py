"""Checks of the views in the URLconf."""

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.urls import URLResolver, get_resolver
from django.utils.regex_helper import normalize

from ..doors import EXEMPT, OPTIONS, Options
from ..permissions import belongs_to_admin, view_tests
from .configuration import TAG, valid_configuration
from .middleware import is_installed

View = Callable[..., Any]

_LOOKED_AFTER = (EXEMPT, OPTIONS, "view_class", "cls")
"""Attributes of views whose function need not be asked. Nobody sends keys to Django's admin."""


@register(TAG, Tags.urls)
def check_views(**kwargs: Any) -> list[CheckMessage]:
    """E004, once per view that the middleware guards."""
    valid = valid_configuration()
    if valid is None or not getattr(settings, "ROOT_URLCONF", None) or not is_installed():
        return []
    hidden = {
        id(view): view
        for path, view in _views(get_resolver(), "")
        if _hides_its_check(view) and valid.covers(path)
    }
    return [_hidden(view) for view in hidden.values()]


def options_of_views() -> Iterator[Options]:
    """Yield the arguments of every ``@idempotent`` that a URL leads to."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return
    for _, view in _views(get_resolver(), ""):
        view_class = getattr(view, "cls", None) or getattr(view, "view_class", None)
        for thing in (view, view_class, *vars(view_class or object).values()):
            # @api_view hides the function it wraps in a closure.
            cells = getattr(thing, "__closure__", None) or ()
            for found in (thing, *(cell.cell_contents for cell in cells)):
                if hasattr(found, OPTIONS):
                    yield getattr(found, OPTIONS)


def _views(resolver: URLResolver, above: str) -> Iterator[tuple[str, View]]:
    """Yield each view below a resolver, and a path that leads to it."""
    try:
        patterns = list(resolver.url_patterns)
    except Exception:  # Django's own checks report a broken URLconf.
        return
    path = above + _example(resolver)
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _views(pattern, path)
        elif callable(getattr(pattern, "callback", None)):
            yield path + _example(pattern), pattern.callback


def _example(pattern: Any) -> str:
    """Return text that a pattern matches, or nearly: each parameter is a zero."""
    template, parameters = normalize(pattern.pattern.regex.pattern)[0]
    return template % dict.fromkeys(parameters, "0")


def _hides_its_check(view: View) -> bool:
    if not hasattr(view, "login_url") or belongs_to_admin(view):
        return False
    if any(hasattr(view, name) for name in _LOOKED_AFTER):
        return False
    return next(view_tests(view), None) is None


def _hidden(view: View) -> CheckMessage:
    name = getattr(view, "__qualname__", type(view).__qualname__)
    return Error(
        f"The view {view.__module__}.{name} checks permissions in a way that "
        "IdempotencyMiddleware cannot look into; requests with a key would fail.",
        hint="Put @idempotent below the check, or @idempotency_exempt above it.",
        id="django_idempotency.E004",
    )
