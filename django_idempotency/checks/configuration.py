"""Checks of the ``IDEMPOTENCY`` setting."""

from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, register
from django.core.exceptions import ImproperlyConfigured

from ..conf.policy import FIELDS
from ..conf.settings import OWN_SETTINGS, Configuration, SettingError, configuration, entry_of

TAG = "idempotency"
"""Tag of every check of this package."""

_POLICY_NAMES = sorted(name.upper() for name in FIELDS)
_NAMES = sorted([*OWN_SETTINGS, *_POLICY_NAMES])


def valid_configuration() -> Configuration | None:
    """Return the parsed setting; ``None`` if it has errors, which have a check of their own."""
    try:
        return configuration()
    except ImproperlyConfigured:
        return None


@register(TAG)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001, once per bad entry."""
    try:
        configuration()
    except SettingError as error:
        return [_error(name, text) for name, text in error.problems.items()]
    except ImproperlyConfigured:
        pass  # SECRET_KEY is empty: Django's to report.
    return []


@register(TAG, deploy=True)
def check_secret(**kwargs: Any) -> list[CheckMessage]:
    """I001."""
    if valid_configuration() is None or "SECRET" in getattr(settings, "IDEMPOTENCY", {}):
        return []
    return [
        Info(
            "Scopes are digests keyed with SECRET_KEY: a new SECRET_KEY forgets every key within "
            "its retention, and their retries run again.",
            hint='Set IDEMPOTENCY["SECRET"] to a value of its own, of at least 16 characters. To '
            "keep the keys of today, start with the present SECRET_KEY.",
            id="django_idempotency.I001",
        )
    ]


def _error(name: str, text: str) -> CheckMessage:
    entry = entry_of(name)
    return Error(f"{entry}: {text}.", hint=_hint(name, entry), id="django_idempotency.E001")


def _hint(name: str, entry: str) -> str:
    _, is_nested, last = name.rpartition('["')
    known = _POLICY_NAMES if is_nested else _NAMES
    last = last.removesuffix('"]')
    if last in known:
        return f"Correct {entry}, or remove it to get its default."
    close = get_close_matches(last.upper(), known, n=1)
    if close:
        return f'Did you mean "{close[0]}"?'
    return f"The settings {'of a policy ' if is_nested else ''}are {', '.join(known)}."
