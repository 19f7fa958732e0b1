"""Apps that one test has in its project."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.signals import request_started

from django_idempotency.signals import SIGNALS, unprotected, without_key


def install(settings: Any, name: str) -> Iterator[None]:
    """Have an app in INSTALLED_APPS for one test."""
    signals = (*SIGNALS.values(), unprotected, without_key, request_started)
    before = {signal: list(signal.receivers) for signal in signals}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, name]
    assert apps.is_installed(name)
    yield
    for signal, receivers in before.items():
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()
