"""One row for an hour and a view, and one for the day, whoever writes and however often."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import override_settings

from tests.support import statistics
from tests.support.admin import figures
from tests.support.counting import counted
from tests.support.statistics import batch, write

HOUR = statistics.DAY


def test_columns_are_what_is_counted(installed: None) -> None:
    from django_idempotency.contrib.statistics.figures import COLUMNS, Row
    from django_idempotency.contrib.statistics.models import IdempotencyStatistics

    columns = [field.name for field in IdempotencyStatistics._meta.concrete_fields]
    assert columns == ["id", *Row._fields, *COLUMNS]


def test_migrations_are_complete(installed: None, db: None) -> None:
    call_command("makemigrations", statistics.LABEL, "--check", "--dry-run", verbosity=0)


def test_hours_and_their_day(table: None) -> None:
    write(batch(executed=2), batch(HOUR + 23, executed=1, mismatch=4), batch(HOUR + 24, executed=8))
    from django_idempotency.contrib.statistics.models import IdempotencyStatistics

    rows = IdempotencyStatistics.rows().order_by("hours", "start")
    assert list(rows.values_list("hours", "start", "executed", "mismatch")) == [
        (1, HOUR, 2, 0),
        (1, HOUR + 23, 1, 4),
        (1, HOUR + 24, 8, 0),
        (24, HOUR, 3, 4),
        (24, HOUR + 24, 8, 0),
    ]
    assert str(rows.last()) == "pay 2024-10-05 00:00 UTC, 24 h"


def test_durations_fall_into_ranges(table: None) -> None:
    from django_idempotency.contrib.statistics.figures import RANGES, Batch, count, nothing
    from django_idempotency.contrib.statistics.models import IdempotencyStatistics

    found = Batch()
    here = found.hours[HOUR, "pay"] = nothing()
    for milliseconds in (0.2, 1, 1.5, 999, 1500):
        count(here, "executed", milliseconds / 1000)
    write(found, found)
    day = IdempotencyStatistics.rows().get(hours=24)
    assert {name: getattr(day, name) for name in RANGES if getattr(day, name)} == {
        "guard_1ms": 4,
        "guard_2ms": 2,
        "guard_1000ms": 2,
        "guard_slower": 2,
    }
    assert day.guard_seconds == pytest.approx(2 * 2.5017)
    assert day.guard_longest == 1.5


def test_an_existing_row_takes_one_statement(table: None) -> None:
    write(batch(executed=1))
    with counted() as count:
        write(batch(executed=2))
    assert (count.statements, count.control) == (1, 0)
    assert statistics.counted() == {"pay": {"executed": 3}}


def test_many_processes_write_at_once(table: None) -> None:
    """All begin with the first row of an hour."""
    barrier = threading.Barrier(4)

    def add(number: int) -> None:
        found = batch(executed=10)
        for view in range(20):
            found.add(batch(view=f"view-{view if number % 2 else 19 - view}", executed=1))
        try:
            connection.ensure_connection()
            barrier.wait(30)
            write(found)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert statistics.counted()["pay"] == {"executed": 40}
    assert statistics.counted()["view-7"] == {"executed": 4}


def test_more_rows_than_a_statement_takes_are_written_all_or_not_at_all(
    table: None, monkeypatch: Any
) -> None:
    from django_idempotency.contrib.statistics import writing

    found = batch(executed=1)
    for view in range(30):
        found.add(batch(view=f"view-{view}", executed=1))
    monkeypatch.setattr(writing, "_PARAMETERS", 300)
    monkeypatch.setattr(type(connection.features), "max_query_params", None)
    upserts = writing._upserts

    def broken(*args: Any) -> Iterator[Any]:
        yield from upserts(*args)
        yield "SELECT nothing_of_that_name", []

    monkeypatch.setattr(writing, "_upserts", broken)
    with pytest.raises(Exception, match="nothing_of_that_name"):
        write(found)
    assert statistics.counted() == {}
    monkeypatch.setattr(writing, "_upserts", upserts)
    write(found)
    assert len(statistics.counted(hours=1)) == len(statistics.counted()) == 31


def test_outdated_rows(table: None) -> None:
    from django_idempotency.contrib.statistics import models

    now = models.hour_now()
    write(*(batch(now - 24 * days, executed=1) for days in (0, 7, 10, 399, 402)))
    gone = models.IdempotencyStatistics.outdated()
    assert sorted(gone.values_list("hours", "start")) == [
        (1, now - 24 * 402),
        (1, now - 24 * 399),
        (1, now - 240),
        (24, models.today_now() - 24 * 402),
    ]


def test_the_purge_removes_outdated_rows(table: None) -> None:
    from django_idempotency.contrib.statistics import models

    now = models.hour_now()
    write(*(batch(now - 24 * days, executed=1) for days in (0, 10, 402)))
    from django_idempotency.contrib.statistics.figures import Reuse

    found = batch(now)
    for days in (0, 29, 40):
        found.reuses[Reuse(models.today_now() - 24 * days, "pay", "a scope")] = days + 1
    write(found)
    told = StringIO()
    call_command("purge_idempotency_records", stdout=told, batch_size=2)
    assert "Removed 4 old rows of statistics." in told.getvalue()
    assert models.IdempotencyStatistics.outdated().count() == 0
    assert sorted(models.ReusedKeys.rows().values_list("times", flat=True)) == [1, 30]
    assert statistics.counted() == {"pay": {"executed": 1}}


class TestReplaysServed:
    """The line above the list of records in the admin."""

    def test_today_and_recently(self, admin_client: Any, table: None) -> None:
        from django_idempotency.contrib.statistics.models import hour_now

        assert figures(admin_client)["Replays served"] == "0 today, 0 in 30 days"
        now = hour_now()
        write(batch(now, replayed=2), batch(now - 24 * 29, replayed=1200))
        write(batch(now - 24 * 30, replayed=7))
        assert figures(admin_client)["Replays served"] == "2 today, 1,202 in 30 days"

    def test_they_take_one_statement(self, admin_client: Any, table: None, settings: Any) -> None:
        figures(admin_client)
        within = statements(lambda: figures(admin_client))
        others = [app for app in settings.INSTALLED_APPS if app != statistics.APP]
        with override_settings(INSTALLED_APPS=others):
            assert "Replays served" not in figures(admin_client)
            without = statements(lambda: figures(admin_client))
        assert (within - without, within <= 10) == (1, True)

    def test_without_its_table_the_list_works(
        self, installed: None, transactional_db: None, admin_client: Any
    ) -> None:
        assert figures(admin_client)["Replays served"] == "unknown"


def statements(action: Any) -> int:
    with counted() as count:
        action()
    return count.statements
