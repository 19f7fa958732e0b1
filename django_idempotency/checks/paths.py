"""Checks of settings that name paths."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Info, Tags, Warning, register

from ..contract.endpoints import Adapter, Endpoint, State, endpoints
from .configuration import TAG, valid_configuration


@register(TAG, Tags.urls)
def check_policies(**kwargs: Any) -> list[CheckMessage]:
    """W052, once per policy by path that holds for nothing."""
    valid = valid_configuration()
    if valid is None or not valid.policies or not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = [each.example for each in endpoints() if each.verdict.state is State.GUARDED]
    used = {next((each for each in valid.policies if each.search(path)), None) for path in found}
    return [_unused(each.pattern) for each in valid.policies if each not in used]


@register(TAG, Tags.urls)
def check_pages(**kwargs: Any) -> list[CheckMessage]:
    """I050: nobody has said which paths are meant, and some are for browsers."""
    if valid_configuration() is None or not getattr(settings, "ROOT_URLCONF", None):
        return []
    if "PATHS" in getattr(settings, "IDEMPOTENCY", {}):
        return []
    pages = [
        each
        for each in endpoints()
        if each.verdict.adapter is Adapter.MIDDLEWARE and each.takes_forms
    ]
    return [_pages(pages)] if pages else []


def _pages(pages: list[Endpoint]) -> CheckMessage:
    first = pages[0]
    others = f" and {len(pages) - 1} more" if pages[1:] else ""
    return Info(
        "IdempotencyMiddleware guards every path, also what browsers send forms to: "
        f"{first.method} {first.path}{others}. Some browsers and proxies add keys by themselves, "
        "of which the project's own clients know nothing.",
        hint='Name the paths of the API: IDEMPOTENCY["PATHS"] = [r"^/api/"]. If all paths are '
        'meant, say so: [""].',
        id="django_idempotency.I050",
    )


def _unused(pattern: str) -> CheckMessage:
    return Warning(
        f'IDEMPOTENCY["POLICIES"]["{pattern}"] holds for no guarded endpoint.',
        hint="The first entry that matches request.path_info (which begins with a slash) holds, "
        "and PATHS and decorators say what is guarded: manage.py idempotency_contract lists it. "
        "Each parameter of a path is tried with 0; if that is why nothing matches, add "
        '"django_idempotency.W052" to SILENCED_SYSTEM_CHECKS.',
        id="django_idempotency.W052",
    )
