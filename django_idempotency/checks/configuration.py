"""Checks of the ``IDEMPOTENCY`` setting."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, register
from django.core.exceptions import ImproperlyConfigured

from ..conf.settings import Configuration, SettingError, configuration, entry_of

TAG = "idempotency"
"""Tag of every check of this package."""


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
    return Error(
        f"{entry}: {text}.",
        hint=f"Correct {entry}, or remove it to get its default.",
        id="django_idempotency.E001",
    )
