"""Checks of the place of ``IdempotencyMiddleware`` in ``MIDDLEWARE``."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from ..contract.middlewares import Listed, is_ours, listed_middlewares
from .configuration import TAG

# By name: a project may do without these apps, and then they cannot be imported.
_CHECK_CALLERS = {
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.auth.middleware.RemoteUserMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
}
_HOOKS = ("process_view", "process_exception", "process_template_response")
_MOVE = "List IdempotencyMiddleware last in MIDDLEWARE."


@register(TAG)
def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    """E002, E003, W001, W002."""
    listed = list(listed_middlewares())
    places = [place for place, each in enumerate(listed) if is_ours(each)]
    if not places:
        return []
    below = [each for each in listed[places[0] + 1 :] if not is_ours(each)]
    messages = list(_misplaced(below))
    return messages if len(places) == 1 else [_twice(len(places)), *messages]


def _twice(times: int) -> CheckMessage:
    return Error(
        f"IdempotencyMiddleware is listed {times} times in MIDDLEWARE.",
        hint="List it once, last.",
        id="django_idempotency.E002",
    )


def _misplaced(below: list[Listed]) -> Iterator[CheckMessage]:
    """What is wrong with middlewares below ours; only classes can be looked into."""
    unchecked, stored = [], []
    for path, middleware in below:
        if not isinstance(middleware, type):
            continue
        names = {f"{each.__module__}.{each.__name__}" for each in middleware.__mro__}
        hooks = [name for name in _HOOKS if hasattr(middleware, name)]
        if names & _CHECK_CALLERS:
            unchecked.append(path)
        elif hooks:
            yield _bypassed(path, hooks)
        elif hasattr(middleware, "process_response"):
            stored.append(path)
    if unchecked:
        yield _unchecked(unchecked)
    if stored:
        yield _stored(stored)


def _unchecked(paths: list[str]) -> CheckMessage:
    return Error(
        f"IdempotencyMiddleware stands above {', '.join(paths)} in MIDDLEWARE: a stored response "
        "would be replayed before the caller is checked.",
        hint=_MOVE,
        id="django_idempotency.E003",
    )


def _bypassed(path: str, hooks: list[str]) -> CheckMessage:
    return Warning(
        f"IdempotencyMiddleware stands above {path} in MIDDLEWARE, which has "
        f"{' and '.join(hooks)}: it would not see a request that is answered with a stored "
        "response, and would act within the transaction of one that runs.",
        hint=_MOVE,
        id="django_idempotency.W001",
    )


def _stored(paths: list[str]) -> CheckMessage:
    return Warning(
        f"IdempotencyMiddleware stands above {', '.join(paths)} in MIDDLEWARE: what is done there "
        "to a response for one request (compression, language, headers) would be stored and "
        "replayed to others.",
        hint=_MOVE,
        id="django_idempotency.W002",
    )
