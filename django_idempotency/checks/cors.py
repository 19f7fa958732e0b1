"""Checks of django-cors-headers: browsers must be allowed to send keys and to see the answers.

A page of another origin may send only header fields that the server allows, and reads only those
that it exposes (Fetch standard, "CORS protocol": ``Access-Control-Allow-Headers``,
``Access-Control-Expose-Headers``).
"""

import re
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

from ..conf.policy import Policy
from .configuration import TAG
from .views import guarded_endpoints

_MIDDLEWARE = "corsheaders.middleware.CorsMiddleware"


@register(TAG)
def check_cors(**kwargs: Any) -> list[CheckMessage]:
    """W040, W041, for the guarded endpoints that the CORS middleware serves."""
    if _MIDDLEWARE not in settings.MIDDLEWARE:
        return []
    try:
        from corsheaders.conf import conf
    except ImportError:  # Django fails at its start, and says so itself.
        return []
    if not _admits_an_origin(conf):
        return []
    policies = [
        policy
        for endpoint, policy in guarded_endpoints()
        if re.match(conf.CORS_URLS_REGEX, endpoint.path)
    ]
    asked = _missing((policy.header for policy in policies), conf.CORS_ALLOW_HEADERS)
    told = _missing(
        (name for policy in policies for name in _told(policy)), conf.CORS_EXPOSE_HEADERS
    )
    return [*([_not_allowed(asked)] if asked else []), *([_not_exposed(told)] if told else [])]


def _admits_an_origin(conf: Any) -> bool:
    """Whether pages of any other origin may call: by the settings, or as receivers decide."""
    from corsheaders.signals import check_request_enabled

    named = conf.CORS_ALLOWED_ORIGINS or conf.CORS_ALLOWED_ORIGIN_REGEXES
    return bool(conf.CORS_ALLOW_ALL_ORIGINS or named or check_request_enabled.has_listeners())


def _told(policy: Policy) -> Iterable[str]:
    """Header fields that tell a client what became of its request."""
    optional = (
        policy.replay_header,
        policy.key_header,
        policy.completed_header,
        policy.expires_header,
        policy.status_header,
    )
    return [*filter(None, optional), "Retry-After"]


def _missing(wanted: Iterable[str], given: Iterable[str]) -> list[str]:
    known = {name.lower() for name in given}
    if "*" in known:
        return []
    return sorted({name for name in wanted if name.lower() not in known})


def _not_allowed(names: list[str]) -> CheckMessage:
    listed = "".join(f', "{name.lower()}"' for name in names)
    return Warning(
        f"CORS_ALLOW_HEADERS lacks {', '.join(names)}: browsers do not send requests with it from "
        "other origins.",
        hint=f"Set CORS_ALLOW_HEADERS = [*corsheaders.defaults.default_headers{listed}].",
        id="django_idempotency.W040",
    )


def _not_exposed(names: list[str]) -> CheckMessage:
    return Warning(
        f"CORS_EXPOSE_HEADERS lacks {', '.join(names)}: scripts of other origins cannot tell a "
        "replay from a first answer, or when to come again.",
        hint=f"Add to CORS_EXPOSE_HEADERS: {', '.join(names)}.",
        id="django_idempotency.W041",
    )
