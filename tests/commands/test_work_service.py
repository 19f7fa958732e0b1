"""``run_idempotent_work`` as a service: it waits for work, outlives its database, stops cleanly."""

import math
import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from django_idempotency.management.work import resumable
from django_idempotency.management.work.resumable import ResumableWork
from django_idempotency.management.work.stopping import Stop
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import effects
from tests.shop.models import Order
from tests.support.server import Stage
from tests.support.sessions import sessions, terminate
from tests.support.wire import Wire
from tests.support.work import Work, service

PATH = "/effects/resumable/"
LONG_AGO = "2020-01-01T00:00:00Z"


def interrupt(caller: Caller, *keys: str) -> None:
    """Clients whose only attempts break after their charge, and who never come back."""

    def breaks(operation: Any) -> None:
        raise RuntimeError("a broken network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effects, "after_charge", breaks)
        for key in keys:
            assert caller.post(PATH, {"item": "vm"}, key).status_code == 500


def serve(**options: Any) -> tuple[str, str]:
    """Serve in this process, until a handler sends a signal."""
    out, err = StringIO(), StringIO()
    options = {"poll": "1ms", "older_than": "0", **options}
    call_command("run_idempotent_work", forever=True, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def asks_to_stop(operation: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def handlers() -> Iterator[list[Any]]:
    """What signals do before, and must do afterwards."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(each) for each in numbers]
    yield before
    assert [signal.getsignal(each) for each in numbers] == before


@pytest.mark.usefixtures("handlers")
class TestServing:
    def test_it_finishes_what_runs_and_begins_nothing_more(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        interrupt(caller, "first", "second")
        monkeypatch.setattr(effects, "after_charge", asks_to_stop)
        out, err = serve()
        assert [line.partition(" (")[0] for line in out.splitlines()] == [
            'Waiting for work in database "default".',
            'Resumed 1 operations in database "default"',
            "Stopped.",
        ]
        assert err == ""
        assert IdempotencyRecord.objects.get(state="claimed").key == "second"

    def test_a_round_that_reached_its_limit_is_followed_by_the_next(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        interrupt(caller, "first", "second", "third")
        seen: list[str] = []

        def third_asks(operation: Any) -> None:
            seen.append(operation.key)
            if len(seen) == 3:
                asks_to_stop(operation)

        monkeypatch.setattr(effects, "after_charge", third_asks)
        out, _ = serve(limit=1, poll="1h")
        assert out.count("Resumed 1 operations") == 3

    def test_it_may_be_told_to_be_silent(self, caller: Caller, monkeypatch: Any) -> None:
        interrupt(caller, "first")
        monkeypatch.setattr(effects, "after_charge", asks_to_stop)
        assert serve(verbosity=0) == ("", "")

    def test_a_handler_that_no_view_declares_is_reported_once(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        interrupt(caller, "orphan", *map(str, range(3)))
        orphan = IdempotencyRecord.objects.get(key="orphan").pk
        IdempotencyStep.objects.filter(record_id=orphan, position=0).update(name="gone.away")
        monkeypatch.setattr(
            effects, "after_charge", lambda each: each.key == "2" and asks_to_stop(each)
        )
        out, _ = serve(limit=1)
        assert out.count("Resumed 1 operations") == 3

    def test_a_database_that_does_not_answer_is_asked_until_it_does(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        interrupt(caller, "first")
        monkeypatch.setattr(effects, "after_charge", asks_to_stop)
        failures = 3

        def gone(execute: Any, sql: str, *args: Any) -> Any:
            nonlocal failures
            if failures and "django_idempotency" in sql:
                failures -= 1
                raise OperationalError("gone away")
            return execute(sql, *args)

        with connection.execute_wrapper(gone):
            out, err = serve()
        assert failures == 0
        assert err == (
            'Database "default": gone away. It tries again until the database answers.\n'
        )
        assert 'Database "default" answers again.' in out.splitlines()
        assert "Resumed 1 operations" in out

    @pytest.mark.once
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"poll": "0"}, "--poll: '0' would ask"),
            ({"poll": "soon"}, "--poll: 'soon' is not a duration"),
            ({"dry_run": True}, "--forever: a dry run runs once"),
        ],
        ids=["no rest", "no duration", "dry run"],
    )
    def test_wrong_options(self, options: dict[str, Any], text: str) -> None:
        with pytest.raises(CommandError, match=text):
            serve(**options)


class TestResting:
    """A service would meet what does not end again and again."""

    @pytest.fixture
    def asked(self, settings: Any, monkeypatch: Any) -> list[Any]:
        """Operations whose resolver was asked, and does not know."""
        settings.IDEMPOTENCY = {"RESOLVER": effects.ask}
        found: list[Any] = []
        monkeypatch.setattr(
            effects, "resolver", lambda each: found.append(each) or effects.unknown(each)
        )
        return found

    @pytest.fixture
    def work(self, monkeypatch: Any) -> ResumableWork:
        """Work that looks in each round, for what has waited for an hour."""
        monkeypatch.setattr(resumable, "LOOKS", math.inf)
        return ResumableWork("default", timedelta(hours=1), str, str)

    @staticmethod
    def rounds(work: ResumableWork, count: int = 3) -> None:
        for _ in range(count):
            assert work.run(10, lambda: False) is False

    def test_what_is_still_unknown_rests(
        self, caller: Caller, asked: list[Any], work: ResumableWork
    ) -> None:
        interrupt(caller, "first")
        IdempotencyStep.objects.filter(position=0).update(started_at=LONG_AGO)
        self.rounds(work)
        assert len(asked) == 1

    def test_so_does_what_could_not_start(
        self, caller: Caller, work: ResumableWork, caplog: Any
    ) -> None:
        interrupt(caller, "first")
        IdempotencyStep.objects.filter(position=0).update(started_at=LONG_AGO, result="changed")
        self.rounds(work)
        assert caplog.text.count("not resumed") == 1

    def test_without_a_minimum_age_nothing_rests(self, caller: Caller, asked: list[Any]) -> None:
        interrupt(caller, "first")
        self.rounds(ResumableWork("default", timedelta(), str, str))
        assert len(asked) == 3

    @pytest.mark.django_db
    def test_it_looks_now_and_then(self) -> None:
        """No index finds operations on each database, and they have waited for long."""
        work = ResumableWork("default", timedelta(hours=1), str, str)
        with CaptureQueriesContext(connection) as queries:
            self.rounds(work)
        assert len(queries) == 1


@pytest.mark.once
@pytest.mark.usefixtures("handlers")
class TestStop:
    def test_it_ends_a_wait(self) -> None:
        with Stop() as stop:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
            try:
                stop.wait(3600)
            finally:
                signal.signal(signal.SIGALRM, before)
        assert stop.is_asked

    def test_a_wait_after_it_does_not_begin(self) -> None:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            stop.wait(3600)
            stop.wait(3600)
        assert stop.is_asked

    def test_a_second_one_does_what_it_did_before(self) -> None:
        # A shell that starts the tests in the background lets them ignore SIGINT.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with Stop():
                os.kill(os.getpid(), signal.SIGINT)
                with pytest.raises(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)

    def test_a_program_that_runs_the_command_hears_of_it(self) -> None:
        heard: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        try:
            with Stop() as stop:
                os.kill(os.getpid(), signal.SIGTERM)
            assert stop.is_asked
            assert heard == [signal.SIGTERM]
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_other_threads_leave_signals_alone(self, handlers: list[Any]) -> None:
        def inside() -> Any:
            with Stop() as stop:
                stop.wait(0.001)
                return signal.getsignal(signal.SIGTERM), stop.is_asked

        assert in_thread(inside).result() == (handlers[0], False)


@pytest.mark.processes
class TestProcesses:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_when_the_handler_has_ended(
        self, number: signal.Signals, caller: Caller, tmp_path: Path
    ) -> None:
        """I11: nothing stays unknown because of a deployment."""
        stage = Stage(tmp_path)
        connection.close()
        with service(tmp_path) as work:
            stage.hang_next()
            interrupt(caller, "first", "second")
            stage.hanging()
            work.process.send_signal(number)
            stage.go_on()
            status, said = work.end()
        assert (status, said.splitlines()[-1]) == (0, "Stopped.")
        assert "Resumed 1 operations" in said
        assert IdempotencyRecord.objects.get(state="completed").key == "first"
        assert caller.post(PATH, {"item": "vm"}, "first").status_code == 201

    def test_it_ends_while_it_waits(self, caller: Caller, tmp_path: Path) -> None:
        with service(tmp_path, "--poll=1h") as work:
            work.process.terminate()
            assert work.end() == (0, "Stopped.\n")

    def test_a_second_signal_ends_it_at_once(self, caller: Caller, tmp_path: Path) -> None:
        """What it did is interrupted once more, and nothing else."""
        stage = Stage(tmp_path)
        connection.close()
        with service(tmp_path) as work:
            stage.hang_next()
            interrupt(caller, "first")
            stage.hanging()
            deadline = time.monotonic() + 60
            while work.process.poll() is None and time.monotonic() < deadline:
                work.process.terminate()
            assert work.process.returncode == -signal.SIGTERM
        stage.forget()
        with service(tmp_path) as work:
            work.says("Resumed 1 operations")
        assert Order.objects.filter(item="vm").count() == 1
        assert Order.objects.filter(item__startswith="charge").count() == 1

    @row_locks
    def test_a_database_that_goes_and_comes_back(self, caller: Caller, tmp_path: Path) -> None:
        settings = connection.settings_dict
        server = (settings["HOST"], int(settings["PORT"]))
        with Wire(server) as wire:
            port = {"PGPORT": str(wire.port), "MYSQL_PORT": str(wire.port)}
            with service(tmp_path, **port) as work:
                interrupt(caller, "first")
                work.says("Resumed 1 operations")
                wire.__exit__(None, None, None)
                work.says("It tries again until the database answers.")
                interrupt(caller, "second")
                with Wire(server, port=wire.port):
                    work.says("Resumed 1 operations")
                    work.says("answers again")
                    work.process.terminate()
                    assert work.end() == (0, "Stopped.\n")

    @row_locks
    def test_sessions_that_end_below_a_handler(self, caller: Caller, tmp_path: Path) -> None:
        """I12: that attempt changes nothing more, and the next one has a connection that works."""
        stage = Stage(tmp_path)
        with service(tmp_path) as work:
            stage.hang_next()
            interrupt(caller, "first")
            stage.hanging()
            for session, *_ in sessions():
                terminate(session)
            stage.go_on()
            work.says("failed: 1")
            work.says("Resumed 1 operations")
        assert Order.objects.filter(item="vm").count() == 1

    def test_two_crons_at_once(self, caller: Caller, tmp_path: Path) -> None:
        """I1. Each may leave an operation to the other one; then the next run finishes it."""
        interrupt(caller, *map(str, range(12)))
        connection.close()
        commands = [Work(tmp_path, "--older-than=0") for _ in range(2)]
        ends = [each.end() for each in commands]
        ends.append(Work(tmp_path, "--older-than=0").end())
        assert [status for status, _ in ends] == [0, 0, 0], ends
        resumed = [re.findall(r"Resumed (\d+)", said) for _, said in ends]
        assert sum(int(count) for (count,) in resumed) == 12
        assert set(IdempotencyRecord.objects.values_list("state", flat=True)) == {"completed"}
        assert Order.objects.filter(item="vm").count() == 12
        assert Order.objects.filter(item__startswith="charge").count() == 12
