"""Replays are counted, and no request pays for it."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core import mail
from django.core.management import call_command
from django.db import connection, connections
from django.test import TestCase, override_settings
from django.urls import include, path

from django_idempotency.test import assert_idempotent
from tests.conftest import Caller
from tests.support.admin import figures
from tests.support.apps import install
from tests.support.counting import counted, trips
from tests.support.outage import rename
from tests.support.redis_server import RedisServer
from tests.support.server import ROOT, running_server
from tests.support.threads import no_more_threads

APP = "django_idempotency.contrib.replays"
LABEL, TABLE = "django_idempotency_replays", "django_idempotency_replays_replaycount"
PATH, ANYBODY = "/decorated-rest/", "/decorated-function/"

urlpatterns = [path("admin/", admin.site.urls), path("", include("tests.shop.urls"))]

pytestmark = [pytest.mark.urls(__name__)]


@pytest.fixture
def installed(settings: Any) -> Iterator[None]:
    yield from install(settings, APP)


@pytest.fixture
def table(installed: None, transactional_db: None) -> Iterator[None]:
    """Made by the app's own migrations."""
    call_command("migrate", LABEL, verbosity=0)
    yield
    call_command("migrate", LABEL, "zero", verbosity=0)


@pytest.fixture
def counter(table: None, monkeypatch: Any) -> Iterator[Any]:
    """Counts as outside of tests, and writes when it is told to, or ends."""
    from django_idempotency.contrib.replays import counting

    fresh = counting.Counter()
    monkeypatch.setattr(counting, "counter", fresh)
    monkeypatch.setattr(counting, "INTERVAL", 3600)
    monkeypatch.delattr(mail, "outbox")
    yield fresh
    fresh.flush()


def rows() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count FROM {TABLE} ORDER BY day")
        return [count for (count,) in cursor.fetchall()]


def replay(caller: Caller, times: int) -> None:
    """Have so many replays, after the first request if there was none yet."""
    is_replay = "Idempotency-Replayed" in caller.post(PATH, {"item": "vm"})
    for _ in range(times - is_replay):
        assert caller.post(PATH, {"item": "vm"})["Idempotency-Replayed"] == "true"


def statements(action: Callable[[], Any]) -> tuple[int, int]:
    with counted() as count:
        action()
    return count.statements, count.control


class TestCost:
    def test_the_request_sends_nothing_more(self, caller: Caller, counter: Any) -> None:
        """The same statements as without the app, and the sum is not even written meanwhile."""
        from django_idempotency.contrib.replays import counting
        from django_idempotency.signals import replayed

        replay(caller, 1)
        counting_replays = statements(lambda: replay(caller, 4))
        assert counter.waiting == 5
        assert replayed.disconnect(counting.count)
        assert statements(lambda: replay(caller, 4)) == counting_replays
        assert rows() == []
        assert counter.waiting == 5

    def test_a_replay_from_redis_still_asks_the_database_nothing(
        self, redis: RedisServer, caller: Caller, counter: Any, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}
        bare = statements(lambda: caller.post(PATH, {"item": "vm"}, key=None))[0]
        replay(caller, 1)
        with trips() as sent:
            again = statements(lambda: caller.post(PATH, {"item": "vm"}))[0]
        assert (again, len(sent)) == (bare - 1, 1)  # the view's insert is missing
        assert counter.waiting == 2


class TestTable:
    def test_one_row_a_day_whoever_writes(self, caller: Caller, counter: Any) -> None:
        from django_idempotency.contrib.replays import counting

        replay(caller, 2)
        counter.flush()
        assert (rows(), counter.waiting) == ([2], 0)
        replay(caller, 3)
        counting.flush_at_exit()
        assert rows() == [5]

    def test_writing_is_one_statement_but_for_the_first_of_a_day(self, counter: Any) -> None:
        from django_idempotency.contrib.replays.models import ReplayCount

        ReplayCount.add(1)
        assert statements(lambda: ReplayCount.add(2))[0] == 1
        assert rows() == [3]

    def test_the_first_of_a_day_may_be_many_at_once(self, table: None) -> None:
        from django_idempotency.contrib.replays.models import ReplayCount

        barrier = threading.Barrier(4)

        def add(_: int) -> None:
            try:
                connection.ensure_connection()
                barrier.wait(30)
                ReplayCount.add(10)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(4)))
        assert rows() == [40]

    def test_days_are_told_apart(self, table: None, monkeypatch: Any) -> None:
        from django_idempotency.contrib.replays import models

        today = models._today()
        assert models.ReplayCount.served() == (0, 0)
        for number, day in ((3, today - timedelta(1)), (4, today)):
            monkeypatch.setattr(models, "_today", lambda day=day: day)
            models.ReplayCount.add(number)
        assert models.ReplayCount.served() == (4, 7)
        row = models.ReplayCount._base_manager.latest("day")
        assert str(row) == f"{today}: 4"

    def test_migrations_are_complete(self, installed: None, db: None) -> None:
        call_command("makemigrations", LABEL, "--check", "--dry-run", verbosity=0)


class TestThread:
    def test_it_writes_by_itself_and_ends(
        self, caller: Caller, counter: Any, monkeypatch: Any
    ) -> None:
        from django_idempotency.contrib.replays import counting

        monkeypatch.setattr(counting, "INTERVAL", 0)
        replay(caller, 2)
        with counter._changed:
            assert counter._changed.wait_for(lambda: not counter._is_running, 60)
        assert (rows(), counter.waiting) == ([2], 0)

    def test_what_comes_while_it_writes_is_written_next(
        self, counter: Any, monkeypatch: Any
    ) -> None:
        from django_idempotency.contrib.replays.models import ReplayCount

        add = ReplayCount.add

        def interrupted(number: int, using: str) -> None:
            monkeypatch.setattr(ReplayCount, "add", add)
            counter.add()
            add(number, using)

        monkeypatch.setattr(ReplayCount, "add", interrupted)
        counter.add()
        counter.flush()
        assert (rows(), counter.waiting) == ([2], 0)

    def test_an_outage_disturbs_no_request_and_loses_nothing(
        self, caller: Caller, counter: Any, caplog: Any
    ) -> None:
        rename("TABLE", TABLE, "elsewhere")
        try:
            with caplog.at_level(logging.WARNING, "django_idempotency"):
                for _ in range(2):
                    replay(caller, 2)
                    counter.flush()
            assert counter.waiting == 4
        finally:
            rename("TABLE", "elsewhere", TABLE)
        said = [record.getMessage() for record in caplog.records]
        assert [line.startswith("Replays could not be counted") for line in said] == [True]
        counter.add()
        counter.flush()
        assert (rows(), counter.waiting) == ([5], 0)

    def test_one_that_could_not_start_is_started_by_the_next_replay(
        self, caller: Caller, counter: Any, caplog: Any
    ) -> None:
        with no_more_threads():
            replay(caller, 2)
            counter.flush()
        assert counter.waiting == 2
        replay(caller, 1)
        counter.flush()
        assert (rows(), counter.waiting) == ([3], 0)
        assert "Thread idempotency-replays: can't start new thread" in caplog.text

    def test_it_goes_on_by_itself_after_an_outage(self, counter: Any, monkeypatch: Any) -> None:
        from django_idempotency.contrib.replays import counting
        from django_idempotency.contrib.replays.models import ReplayCount

        add = ReplayCount.add

        def fail(number: int, using: str) -> None:
            monkeypatch.setattr(ReplayCount, "add", add)
            raise OSError

        monkeypatch.setattr(ReplayCount, "add", fail)
        monkeypatch.setattr(counting, "INTERVAL", 0)
        counter.add()
        with counter._changed:
            assert counter._changed.wait_for(lambda: not counter._is_running, 60)
        assert (rows(), counter.waiting) == ([1], 0)


class TestProjectsTests(TestCase):
    """A thread sees nothing of their transaction, and would write into what is not theirs."""

    @pytest.fixture(autouse=True)
    def _installed(self, installed: None) -> None:
        """The app, without its table."""

    def test_nothing_is_counted_in_them(self) -> None:
        from django_idempotency.contrib.replays.counting import counter

        self.client.force_login(User.objects.create_user("ada.lovelace"))
        before = set(threading.enumerate())
        body = {"item": "vm"}
        assert_idempotent(self.client, ANYBODY, body, content_type="application/json")
        begun = set(threading.enumerate()) - before
        assert counter.waiting == 0
        assert "idempotency-replays" not in {thread.name for thread in begun}


class TestProcesses:
    pytestmark = pytest.mark.processes

    def test_workers_add_up_and_write_when_they_end(
        self, table: None, caller: Caller, tmp_path: Path, monkeypatch: Any
    ) -> None:
        """Prefork: each worker has a thread of its own, or none of its replays were written."""
        monkeypatch.setenv("IDEMPOTENCY_TEST_APPS", APP)
        connection.close()
        with running_server(tmp_path, workers=3, grace=60) as server:

            def post(_: int) -> bool:
                answer = server.post(PATH, caller.token.key, "k", {"item": "vm"})
                assert answer is not None, server.log()
                return answer.replayed

            assert not post(0)
            with ThreadPoolExecutor(6) as pool:
                assert all(pool.map(post, range(30)))
        assert sum(rows()) == 30, server.log()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
    def test_a_fork_takes_nothing_along(self, table: None) -> None:
        """Three replays in two processes; both write at their end, nobody waits for seconds."""
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.support.server_settings",
            "IDEMPOTENCY_TEST_APPS": APP,
        }
        command = [sys.executable, "-m", "tests.support.replays_fork"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert sum(rows()) == 3


class TestAdmin:
    def test_the_line_above_the_list_shows_them(
        self, admin_client: Any, caller: Caller, counter: Any, monkeypatch: Any
    ) -> None:
        from django_idempotency.contrib.replays import models

        today = models._today()
        monkeypatch.setattr(models, "_today", lambda: today - timedelta(1))
        models.ReplayCount.add(1200)
        monkeypatch.setattr(models, "_today", lambda: today)
        replay(caller, 2)
        counter.flush()
        assert figures(admin_client)["Replays served"] == "2 today, 1,202 in all"

    def test_they_take_one_statement(self, admin_client: Any, table: None, settings: Any) -> None:
        figures(admin_client)
        within = statements(lambda: figures(admin_client))[0]
        others = [app for app in settings.INSTALLED_APPS if app != APP]
        with override_settings(INSTALLED_APPS=others):
            assert "Replays served" not in figures(admin_client)
            without = statements(lambda: figures(admin_client))[0]
        assert (within - without, within <= 10) == (1, True)

    def test_without_its_table_the_list_works(
        self, installed: None, transactional_db: None, admin_client: Any
    ) -> None:
        assert figures(admin_client)["Replays served"] == "unknown"
