"""The app that counts, in one test's project."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib import admin
from django.core import mail
from django.core.management import call_command
from django.urls import include, path

from django_idempotency.admin import pages
from django_idempotency.signals import unprotected, without_key
from tests.support.apps import install

APP, LABEL = "django_idempotency.contrib.statistics", "django_idempotency_statistics"

DAY = 480_000
"""The first hour of a day."""


class Urls:
    """A URLconf that is made while the app is installed: the admin then has its pages."""

    def __init__(self) -> None:
        self.urlpatterns = [
            path("admin/", admin.site.urls),
            path("", include("tests.shop.urls")),
        ]


def installed(settings: Any) -> Iterator[None]:
    """Have the app in INSTALLED_APPS, without its tables, and the admin in the URLconf."""
    before = {signal: list(signal.receivers) for signal in (unprotected, without_key)}
    with contextmanager(install)(settings, APP):
        from django_idempotency.contrib.statistics.admin import PAGES

        for page in PAGES:
            pages.register(page)
        settings.ROOT_URLCONF = Urls()
        yield
        for page in PAGES:
            pages._pages.pop(page.name)
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


def batch(hour: int = DAY, view: str = "pay", **numbers: int) -> Any:
    """Return numbers of one hour and view; each duration of the guard is 3 milliseconds."""
    from django_idempotency.contrib.statistics.figures import Batch, count, nothing

    found = Batch()
    here = found.hours[hour, view] = nothing()
    for name, times in numbers.items():
        for _ in range(times):
            count(here, name, 0.003)
    return found


def write(*batches: Any) -> None:
    """Write numbers into the tables."""
    from django_idempotency.contrib.statistics.writing import write

    for each in batches:
        write(each, "default")


def month(last: int) -> None:
    """Write thirty days of a shop, the last hour included: a clock that goes wrong for a day, a
    client that reuses keys, an outage."""
    from django_idempotency.contrib.statistics.figures import REQUESTS, Batch, count, nothing

    found = Batch()
    for hour in range(last - 24 * 30 + 1, last + 1):
        ago, busy = last - hour, 4 + abs(hour % 24 - 12)
        for weight, view in ((4, "orders:create"), (2, "payments:pay"), (1, "carts:checkout")):
            here = found.hours[hour, view] = nothing()
            numbers = dict.fromkeys(REQUESTS, 0)
            numbers["executed"] = weight * (20 - busy) * 3
            numbers["replayed"] = weight * (20 - busy) // 2 + (40 if 26 < ago < 30 else 0)
            numbers["conflict"] = (hour * weight) % 3 + (ago in {5, 6}) * 12
            numbers["mismatch"] = (hour % 5 == 0) * weight + (9 if 100 < ago < 124 else 0)
            numbers["interrupted"] = numbers["recovered"] = int(hour % 7 == weight)
            numbers["refused"] = int(hour % 11 == 3)
            numbers["failed_open"] = 30 if ago == 200 else 0
            numbers["unprotected"] = int(hour % 6 == 0)
            numbers["without_key"] = weight * (20 - busy) * (30 + ago // 24) // 40
            for name, times in numbers.items():
                for number in range(times):
                    milliseconds = 0.6 + 7 * (number % 9 == 8) + 150 * (number % 97 == 96)
                    count(here, name, None if name == "without_key" else milliseconds / 1000)
    write(found)
