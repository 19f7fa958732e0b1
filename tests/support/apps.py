"""Apps that one test has in its project."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps

from django_idempotency.signals import SIGNALS


def install(settings: Any, name: str) -> Iterator[None]:
    """Have an app in INSTALLED_APPS for one test."""
    before = {signal: list(signal.receivers) for signal in SIGNALS.values()}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, name]
    assert apps.is_installed(name)
    yield
    for signal, receivers in before.items():
        signal.receivers = receivers
