"""Checks of ``MIDDLEWARE``: where ours stands, and what the others do around it."""

import re
from collections.abc import Iterable, Iterator
from inspect import unwrap
from types import CodeType, FunctionType
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, register
from django.db.transaction import Atomic

from ..compat.frameworks import context_of
from ..conf.policy import POLICY_OPTIONS
from ..conf.settings import Configuration
from ..contract.endpoints import policies_of_endpoints
from ..contract.routes import is_ours, listed_middlewares
from .configuration import TAG, Databases, Messages, check
from .messages import message

# By name: a project may do without these apps, and then they cannot be imported.
_CHECK_CALLERS = {
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.auth.middleware.RemoteUserMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
}
_CORS = "corsheaders.middleware.CorsMiddleware"
_HOOKS = ("process_view", "process_exception", "process_template_response")


@register(TAG)
def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    listed = list(listed_middlewares())
    places = [place for place, (_, each) in enumerate(listed) if is_ours(each)]
    twice = [message("E002", times=len(places))] if len(places) > 1 else []
    below = listed[places[0] + 1 :] if places else []
    # Only classes can be looked into.
    others = [(path, each) for path, each in below if isinstance(each, type) and not is_ours(each)]
    return [*twice, *_misplaced(others)]


def _misplaced(below: list[tuple[str, type]]) -> Messages:
    """Yield mistakes in the order of middlewares below ours."""
    unchecked, stored = [], []
    for path, middleware in below:
        names = {f"{each.__module__}.{each.__name__}" for each in middleware.__mro__}
        hooks = [name for name in _HOOKS if hasattr(middleware, name)]
        if names & _CHECK_CALLERS:
            unchecked.append(path)
        elif hooks:
            yield message("W001", path=path, hooks=" and ".join(hooks))
        elif hasattr(middleware, "process_response"):
            stored.append(path)
    if unchecked:
        yield message("E003", paths=", ".join(unchecked))
    if stored:
        yield message("W002", paths=", ".join(stored))


@check()
def check_enclosing_transactions(valid: Configuration, databases: Databases) -> Messages:
    """Once per middleware."""
    listed = list(listed_middlewares())
    if any(is_ours(each) for _, each in listed) or policies_of_endpoints():
        for path, middleware in listed:
            if middleware is not None and encloses(middleware):
                yield message("W005", path=path)


def encloses(middleware: Any) -> bool:
    """Whether a middleware runs requests inside of ``transaction.atomic()``.

    django-reversion's says so by an attribute. Of others the code is read: some function in it
    uses both ``atomic`` and ``get_response``.
    """
    said = getattr(middleware, "atomic", None)
    if isinstance(said, bool):
        return said
    parts = [middleware]
    if isinstance(middleware, type):
        parts = [part for each in middleware.__mro__ for part in vars(each).values()]
    return any(isinstance(part, FunctionType) and _encloses(part) for part in parts)


def _encloses(function: FunctionType) -> bool:
    inner = unwrap(function)
    decorated = inner is not function and isinstance(context_of(function), Atomic)
    return any(
        any(name.endswith("get_response") for name in names)
        and (decorated or not names.isdisjoint({"atomic", "Atomic"}))
        for names in _names(inner.__code__)
    )


def _names(code: CodeType) -> Iterator[set[str]]:
    """Yield what a function and the functions inside it use, each by itself."""
    yield {*code.co_names, *code.co_freevars, *code.co_varnames}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@check()
def check_cors(valid: Configuration, databases: Databases) -> Messages:
    """Of django-cors-headers, for the guarded endpoints that its middleware serves.

    A page of another origin may send only header fields that the server allows, and reads only
    those that it exposes (Fetch standard, "CORS protocol": ``Access-Control-Allow-Headers``,
    ``Access-Control-Expose-Headers``).
    """
    if _CORS not in settings.MIDDLEWARE:
        return
    try:
        from corsheaders.conf import conf
        from corsheaders.signals import check_request_enabled
    except ImportError:  # Django fails at its start, and says so itself.
        return
    named = conf.CORS_ALLOWED_ORIGINS or conf.CORS_ALLOWED_ORIGIN_REGEXES
    if not (conf.CORS_ALLOW_ALL_ORIGINS or named or check_request_enabled.has_listeners()):
        return
    policies = [
        policy
        for endpoint, policy in policies_of_endpoints()
        if re.match(conf.CORS_URLS_REGEX, endpoint.path)
    ]
    # Where a function finds keys, a page need not send the header.
    headers = (each.header or "" for each in policies if each.key_from is None)
    asked = _missing(headers, conf.CORS_ALLOW_HEADERS)
    if asked:
        added = "".join(f', "{name.lower()}"' for name in asked)
        yield message("W040", names=", ".join(asked), added=added)
    options = [name for name, setting in POLICY_OPTIONS.items() if setting.sent]
    sent = {getattr(policy, name) or "" for policy in policies for name in options}
    told = _missing({*sent, "Retry-After"} - {""} if policies else (), conf.CORS_EXPOSE_HEADERS)
    if told:
        yield message("W041", names=", ".join(told))


def _missing(wanted: Iterable[str], given: Iterable[str]) -> list[str]:
    known = {name.lower() for name in given}
    if "*" in known:
        return []
    return sorted({name for name in wanted if name.lower() not in known})
