"""Requests are counted by how they end, and none of them pays for it."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase

from django_idempotency.test import assert_idempotent
from tests.conftest import Caller
from tests.support import statistics
from tests.support.counting import counted, trips
from tests.support.outage import rename
from tests.support.redis_server import RedisServer
from tests.support.server import ROOT, running_server
from tests.support.threads import no_more_threads

TABLE = "django_idempotency_statistics_idempotencystatistics"
PATH, ANYBODY = "/decorated-rest/", "/decorated-function/"


def replays() -> list[int]:
    """Return the replays that the table knows, by day."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT replayed FROM {TABLE} WHERE hours = 24 ORDER BY start")
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
        from django_idempotency.contrib.statistics import receiving
        from django_idempotency.signals import replayed

        replay(caller, 1)
        counting_replays = statements(lambda: replay(caller, 4))
        assert counter.waiting == 6
        assert replayed.disconnect(receiving.count_outcome)
        assert statements(lambda: replay(caller, 4)) == counting_replays
        assert replays() == []
        assert counter.waiting == 6

    def test_a_request_without_a_key_sends_nothing_more(
        self, caller: Caller, counter: Any, use_middleware: None
    ) -> None:
        """I9, with the app, which counts it; and nobody else asks whether its view is guarded."""
        from django_idempotency.contrib.statistics import receiving
        from django_idempotency.signals import without_key

        caller.post("/function/", key=None)
        with_the_app = statements(lambda: caller.post("/function/", key=None))
        assert counter.waiting == 2
        assert without_key.disconnect(receiving.count_without_key)
        assert statements(lambda: caller.post("/function/", key=None)) == with_the_app

    def test_a_replay_from_redis_still_asks_the_database_nothing(
        self, redis: RedisServer, caller: Caller, counter: Any, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}
        bare = statements(lambda: caller.post(PATH, {"item": "vm"}, key=None))[0]
        replay(caller, 1)
        with trips() as sent:
            again = statements(lambda: caller.post(PATH, {"item": "vm"}))[0]
        assert (again, len(sent)) == (bare - 1, 1)  # the view's insert is missing
        assert counter.waiting == 3


class TestThread:
    def test_it_writes_by_itself_and_ends(
        self, caller: Caller, counter: Any, monkeypatch: Any
    ) -> None:
        from django_idempotency.contrib.statistics import counting

        monkeypatch.setattr(counting, "INTERVAL", 0)
        replay(caller, 2)
        with counter._changed:
            assert counter._changed.wait_for(lambda: not counter._is_running, 60)
        assert (replays(), counter.waiting) == ([2], 0)

    def test_it_sends_one_statement_however_many_views_there_are(
        self, counter: Any, monkeypatch: Any
    ) -> None:
        from django_idempotency.contrib.statistics import writing

        sent = []
        upserts = writing._upserts

        def seen(*args: Any) -> Iterator[Any]:
            for statement in upserts(*args):
                sent.append(statement)
                yield statement

        monkeypatch.setattr(writing, "_upserts", seen)
        for number in range(15):
            counter.count(f"view-{number}", "executed", 0.001)
        counter.flush()
        assert len(sent) == 1
        assert len(statistics.counted()) == 15

    def test_what_comes_while_it_writes_is_written_next(
        self, counter: Any, monkeypatch: Any
    ) -> None:
        from django_idempotency.contrib.statistics import counting

        write = counting.write

        def interrupted(batch: Any, using: str) -> None:
            monkeypatch.setattr(counting, "write", write)
            counter.count("pay", "replayed")
            assert counter.waiting == 2
            write(batch, using)

        monkeypatch.setattr(counting, "write", interrupted)
        counter.count("pay", "replayed")
        counter.flush()
        assert (replays(), counter.waiting) == ([2], 0)

    def test_an_outage_disturbs_no_request_and_loses_nothing(
        self, caller: Caller, counter: Any, caplog: Any
    ) -> None:
        rename("TABLE", TABLE, "elsewhere")
        try:
            with caplog.at_level(logging.WARNING, "django_idempotency"):
                for _ in range(2):
                    replay(caller, 2)
                    counter.flush()
            assert counter.waiting == 5
        finally:
            rename("TABLE", "elsewhere", TABLE)
        said = [record.getMessage() for record in caplog.records]
        assert [line.startswith("Statistics could not be written") for line in said] == [True]
        counter.count("pay", "replayed")
        counter.flush()
        assert (sum(replays()), counter.waiting) == (5, 0)

    def test_who_waits_for_numbers_that_cannot_be_written_does_not_wait_for_ever(
        self, counter: Any, caplog: Any, monkeypatch: Any
    ) -> None:
        """The thread is writing them when somebody asks for that: at the exit of the process."""
        from django_idempotency.contrib.statistics import counting

        begun, asked = threading.Event(), threading.Event()

        def fail(batch: Any, using: str) -> None:
            begun.set()
            assert asked.wait(60)
            raise OSError

        monkeypatch.setattr(counting, "write", fail)
        monkeypatch.setattr(counting, "INTERVAL", 0)
        counter.count("pay", "replayed")
        assert begun.wait(60)
        monkeypatch.setattr(counting, "INTERVAL", 3600)
        wait_for = counter._changed.wait_for

        def ask(*args: Any) -> bool:
            asked.set()
            return bool(wait_for(*args))

        monkeypatch.setattr(counter._changed, "wait_for", ask)
        counter.flush(60)
        assert (counter._is_running, counter.waiting) == (False, 1)

    def test_a_column_that_is_missing_disturbs_no_request_either(
        self, caller: Caller, counter: Any, caplog: Any
    ) -> None:
        """The app is newer than its table: migrate has not run."""
        rename_column = f"ALTER TABLE {TABLE} RENAME COLUMN %s TO %s"
        with connection.cursor() as cursor:
            cursor.execute(rename_column % ("not_done", "elsewhere"))
        try:
            replay(caller, 2)
            counter.flush(60)
            assert (counter._is_running, counter.waiting) == (False, 3)
        finally:
            with connection.cursor() as cursor:
                cursor.execute(rename_column % ("elsewhere", "not_done"))
        counter.flush(60)
        assert (replays(), counter.waiting) == ([2], 0)

    def test_a_long_outage_does_not_fill_the_memory(
        self, counter: Any, caplog: Any, monkeypatch: Any
    ) -> None:
        from django_idempotency.contrib.statistics import counting

        monkeypatch.setattr(counting, "MOST_WAITING", 3)
        for number in range(5):
            counter.count(f"view-{number % 4}", "executed")
        assert counter.waiting == 4  # all but those of the fourth

    def test_one_that_could_not_start_is_started_by_the_next_request(
        self, caller: Caller, counter: Any, caplog: Any
    ) -> None:
        with no_more_threads():
            replay(caller, 2)
            counter.flush()
        assert counter.waiting == 3
        replay(caller, 1)
        counter.flush()
        assert (replays(), counter.waiting) == ([3], 0)
        assert "Thread idempotency-statistics: can't start new thread" in caplog.text

    def test_it_goes_on_by_itself_after_an_outage(self, counter: Any, monkeypatch: Any) -> None:
        from django_idempotency.contrib.statistics import counting

        write = counting.write

        def fail(batch: Any, using: str) -> None:
            monkeypatch.setattr(counting, "write", write)
            raise OSError

        monkeypatch.setattr(counting, "write", fail)
        monkeypatch.setattr(counting, "INTERVAL", 0)
        counter.count("pay", "replayed")
        with counter._changed:
            assert counter._changed.wait_for(lambda: not counter._is_running, 60)
        assert (replays(), counter.waiting) == ([1], 0)


class TestProjectsTests(TestCase):
    """A thread sees nothing of their transaction, and would write into what is not theirs."""

    @pytest.fixture(autouse=True)
    def _installed(self, installed: None) -> None:
        """The app, without its table."""

    def test_nothing_is_counted_in_them(self) -> None:
        from django_idempotency.contrib.statistics.counting import counter

        self.client.force_login(User.objects.create_user("ada.lovelace"))
        before = set(threading.enumerate())
        body = {"item": "vm"}
        assert_idempotent(self.client, ANYBODY, body, content_type="application/json")
        begun = set(threading.enumerate()) - before
        assert counter.waiting == 0
        assert "idempotency-statistics" not in {thread.name for thread in begun}


@pytest.mark.processes
class TestProcesses:
    def test_workers_add_up_and_write_when_they_end(
        self, table: None, caller: Caller, tmp_path: Path, monkeypatch: Any
    ) -> None:
        """Prefork: each worker has a thread of its own, or none of its replays were written."""
        monkeypatch.setenv("IDEMPOTENCY_TEST_APPS", statistics.APP)
        connection.close()
        with running_server(tmp_path, workers=3, grace=60) as server:

            def post(_: int) -> bool:
                answer = server.post(PATH, caller.token.key, "k", {"item": "vm"})
                assert answer is not None, server.log()
                return answer.replayed

            assert not post(0)
            with ThreadPoolExecutor(6) as pool:
                assert all(pool.map(post, range(30)))
        assert sum(replays()) == 30, server.log()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
    def test_a_fork_takes_nothing_along(self, table: None) -> None:
        """Three replays in two processes; both write at their end, nobody waits for seconds."""
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.support.server_settings",
            "IDEMPOTENCY_TEST_APPS": statistics.APP,
        }
        command = [sys.executable, "-m", "tests.support.statistics_fork"]
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
        assert sum(replays()) == 3
