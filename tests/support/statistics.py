"""The app that counts, in one test's project."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core import mail
from django.core.management import call_command

from django_idempotency.signals import unprotected, without_key
from tests.support.apps import install

APP, LABEL = "django_idempotency.contrib.statistics", "django_idempotency_statistics"


def installed(settings: Any) -> Iterator[None]:
    """Have the app in INSTALLED_APPS, without its tables."""
    before = {signal: list(signal.receivers) for signal in (unprotected, without_key)}
    yield from install(settings, APP)
    for signal, receivers in before.items():
        signal.receivers = receivers


@contextmanager
def tables() -> Iterator[None]:
    """Made by the app's own migrations."""
    call_command("migrate", LABEL, verbosity=0)
    yield
    call_command("migrate", LABEL, "zero", verbosity=0)


def fresh_counter(monkeypatch: Any) -> Iterator[Any]:
    """Counts as outside of tests, and writes when it is told to, or ends."""
    from django_idempotency.contrib.statistics import counting

    fresh = counting.Counter()
    monkeypatch.setattr(counting, "counter", fresh)
    monkeypatch.setattr(counting, "INTERVAL", 3600)
    monkeypatch.delattr(mail, "outbox")
    yield fresh
    fresh.flush()


def counted(hours: int = 24) -> dict[str, dict[str, Any]]:
    """Return what the table says that is not zero, by view; of days, or of hours."""
    from django_idempotency.contrib.statistics.figures import REQUESTS
    from django_idempotency.contrib.statistics.models import IdempotencyStatistics

    rows = IdempotencyStatistics.rows().filter(hours=hours).order_by("start").values()
    return {row["view"]: {name: row[name] for name in REQUESTS if row[name]} for row in rows}
