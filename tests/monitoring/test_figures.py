"""The figures behind the gauges: what they count, what they cost, and that a scrape never fails."""

from collections.abc import Iterator
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.admin import overview
from django_idempotency.contrib import figures as module
from django_idempotency.contrib.figures import MEANINGS, Figures
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.breaker import breaker_of
from django_idempotency.stores.database import statistics
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import views
from tests.support.admin import remember
from tests.support.counting import counted
from tests.support.effects import down, order
from tests.support.holding import an_operation, interrupt
from tests.support.large_table import fill, plan, reads_all
from tests.support.outage import no_table
from tests.support.story import PATH

pytestmark = pytest.mark.django_db(transaction=True)

RECORDS = {"collector": "records", "database": "default"}


def read() -> dict[str, float]:
    """Return what a process that knows nothing yet reads, by name and labels."""
    return {" ".join([each.name, *each.labels.values()]): each.value for each in Figures().read()}


def fail() -> None:
    raise views.Broken


class TestRecords:
    @row_locks
    def test_in_flight_and_interrupted(self, caller: Caller, after_write: Any) -> None:
        seen: list[Any] = []
        after_write(fail)
        caller.post(PATH, key="interrupted")
        after_write(lambda: seen.append(in_thread(read).result()))
        caller.post(PATH, key="running")
        assert seen[0]["records default in_flight"] == 1
        assert seen[0]["records default interrupted"] == 1
        assert seen[0]["unknown_outcomes default"] == 0
        assert read()["records default in_flight"] == 0

    @pytest.mark.skipif("connection.vendor != 'sqlite'")
    def test_where_the_database_cannot_say(self, caller: Caller, after_write: Any) -> None:
        """SQLite has no locks on records: as in the admin, they are in flight or interrupted."""
        after_write(fail)
        caller.post(PATH, key="interrupted")
        found = read()
        assert found["records default claimed"] == 1
        assert "records default in_flight" not in found

    def test_unknown_outcomes_of_non_atomic_mode(self) -> None:
        """Known unknowns wait for somebody (I11). One that runs is none."""
        operation, _ = an_operation(key="unknown")
        operation.begin()
        assert read()["unknown_outcomes default"] == 0
        interrupt(operation)
        assert read()["unknown_outcomes default"] == 1

    def test_expired_records_and_the_lag_of_the_purge(self) -> None:
        remember("living")
        for hours in (1, 2, 50):
            remember(f"{hours}", expires_at=timezone.now() - timedelta(hours=hours))
        found = read()
        assert found["expired_records default"] == 3
        assert found["purge_lag_seconds default"] == pytest.approx(50 * 3600, abs=600)

    def test_a_tombstone_is_not_late(self, settings: Any) -> None:
        """The purge spares what is refused until its tombstone is over."""
        settings.IDEMPOTENCY = {"TOMBSTONE": timedelta(days=1)}
        remember("refused", expires_at=timezone.now() - timedelta(hours=1))
        found = read()
        assert found["expired_records default"] == 0
        assert found["purge_lag_seconds default"] == 0

    def test_an_unknown_outcome_that_is_old_is_found_by_its_index(self, monkeypatch: Any) -> None:
        """PostgreSQL has one; others look at the newest records."""
        operation, _ = an_operation(key="unknown")
        operation.begin()
        interrupt(operation)
        monkeypatch.setattr(module, "WIDTH", 5)
        for number in range(6):
            remember(f"{number}")
        expected = 1 if connection.vendor == "postgresql" else 0
        assert read()["unknown_outcomes default"] == expected


class TestEffects:
    def test_pending_failed_and_waiting(self) -> None:
        with down(), transaction.atomic():
            order("failed", "pending")
            order("waiting")
        rows = IdempotencyEffect.objects
        rows.update(due_at=F("staged_at") + timedelta(days=1))
        first, second, _third = rows.order_by("staged_at", "key")
        rows.filter(pk=first.pk).update(state="failed", due_at=None)
        rows.filter(pk=second.pk).update(due_at=F("staged_at") - timedelta(hours=2))
        found = read()
        assert found["effects default failed"] == 1
        assert found["effects default pending"] == 2
        assert found["effects_lag_seconds default"] == pytest.approx(7200, abs=600)

    def test_effects_that_have_run_are_no_figure(self) -> None:
        with transaction.atomic():
            order("done")
        found = read()
        assert found["effects default failed"] == found["effects default pending"] == 0
        assert found["effects_lag_seconds default"] == 0


class TestCost:
    def test_statements_are_few_whatever_the_tables_hold(self) -> None:
        for number in range(20):
            remember(f"{number}", state="claimed", response_body=None, completed_at=None)
        connection.ensure_connection()
        with counted() as count:
            read()
        assert count.statements <= 10

    @row_locks
    def test_no_statement_reads_the_whole_table(self, monkeypatch: Any) -> None:
        """20,000 records, which are many for these bounds, and the planner knows it."""
        for where, name, value in (
            (module, "WIDTH", 1000),
            (overview, "WIDTH", 1000),  # for who reads the plans
            (module, "COUNTED", 200),
            (statistics, "COUNTED", 200),
        ):
            monkeypatch.setattr(where, name, value)
        fill(20_000)
        with CaptureQueriesContext(connection) as queries:
            assert read()["expired_records default"] == 201
        asked = [query["sql"] for query in queries if is_about_records(query["sql"])]
        assert len(asked) >= 4
        for sql in asked:
            assert [access for access in plan(sql) if reads_all(access)] == [], sql

    def test_scrapes_that_follow_ask_nothing(self) -> None:
        here = Figures()
        first = here.current()
        with counted() as count:
            assert here.current() == first
        assert count.statements == 0

    def test_figures_are_read_anew_when_they_are_old(self, monkeypatch: Any) -> None:
        now = 100.0
        monkeypatch.setattr(module, "monotonic", lambda: now)
        here = Figures()
        here.current()
        remember("expired", expires_at=timezone.now() - timedelta(hours=1))
        now += module.KEPT - 0.1
        assert number_of(here, "expired_records") == 0
        now += 0.2
        assert number_of(here, "expired_records") == 1

    def test_a_thread_keeps_no_connection(self) -> None:
        """Nobody would close it."""

        def is_open() -> bool:
            read()
            return connections["default"].connection is not None

        assert in_thread(is_open).result() is False


def is_about_records(sql: str) -> bool:
    return sql.startswith(("SELECT", "WITH")) and IdempotencyRecord._meta.db_table in sql


def number_of(figures: Figures, name: str) -> float:
    return next(each.value for each in figures.current() if each.name == name)


class TestErrors:
    def test_a_figure_that_cannot_be_read_is_left_out(self, caplog: Any) -> None:
        here = Figures()
        with no_table():
            found = {each.name: each for each in here.current() if each.labels == RECORDS}
            names = {each.name for each in here.current()}
            here.forget()
            here.current()
        assert found["collector_up"].value == 0
        assert names.isdisjoint({"records", "expired_records", "purge_lag_seconds"})
        assert "effects" in names, "the others are there"
        assert caplog.text.count("cannot be read") == 1, "not at each scrape"
        here.forget()
        assert {each.value for each in here.current() if each.name == "collector_up"} == {1}

    def test_a_server_that_hangs_delays_a_scrape_and_no_more(self, monkeypatch: Any) -> None:
        """The counters say what happens to requests meanwhile."""
        answers, asked = Event(), []

        def hang(using: str) -> Iterator[Any]:
            asked.append(using)
            answers.wait(60)
            return iter(())

        monkeypatch.setattr(module, "_records", hang)
        monkeypatch.setattr(module, "LONGEST_WAIT", 0.01)
        monkeypatch.setattr(module, "KEPT", 0.0)
        here = Figures()
        for _ in range(3):
            assert {each.value for each in here.current()} == {0}
        assert asked == ["default"], "one thread waits for the server"
        answers.set()
        here._reading.join(60)
        monkeypatch.setattr(module, "LONGEST_WAIT", 60)
        assert number_of(here, "collector_up") == 1

    def test_without_a_thread_nothing_is_known(self, monkeypatch: Any, caplog: Any) -> None:
        def no_thread(self: Any) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(module.Thread, "start", no_thread)
        assert {each.name for each in Figures().current()} == {"collector_up"}
        assert "can't start new thread" in caplog.text

    def test_the_projects_transaction_goes_on(self, caplog: Any) -> None:
        with no_table(), transaction.atomic():
            Figures().current()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        assert "cannot be read" in caplog.text

    def test_a_setting_that_is_wrong_leaves_all_out(self, settings: Any, caplog: Any) -> None:
        settings.IDEMPOTENCY = {"RETENTOIN": 1}
        assert read() == {}
        assert "cannot be read" in caplog.text


@pytest.mark.once
class TestCache:
    @pytest.fixture(autouse=True)
    def forgotten(self) -> Iterator[None]:
        breaker_of.cache_clear()
        yield
        breaker_of.cache_clear()

    def test_without_a_cache_there_is_no_figure(self) -> None:
        assert not [name for name in read() if name.startswith("cache_up")]

    def test_up_and_down(self, fragile_redis: Any, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
        assert read()["cache_up redis"] == 1
        fragile_redis.stop()
        assert read()["cache_up redis"] == 0

    def test_records_in_the_cache_alone(self, settings: Any, redis: Any) -> None:
        """No table is asked that the project may not have."""
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}
        settings.ROOT_URLCONF = "tests.monitoring.test_prometheus"
        found = read()
        assert found["cache_up redis"] == 1
        assert not [name for name in found if name.startswith("records")]


def test_every_figure_has_a_meaning(settings: Any) -> None:
    assert {each.name for each in Figures().current()} | {"cache_up"} <= set(MEANINGS)
    assert IdempotencyRecord.objects.count() == 0, "reading writes nothing"
