"""Duplicates that wait, on real processes: woken by the database, not by polling."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller, row_locks
from tests.shop.models import Order
from tests.support.server import Answer, Server, running_server
from tests.support.sessions import lock_waits, terminate

pytestmark = [pytest.mark.processes, row_locks]

WAIT = {"IN_FLIGHT": "wait", "WAIT_LIMIT": 50, "WAIT_TIMEOUT": 60}


def waiting() -> set[Any]:
    return set(lock_waits())


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again; workers that are only starting need the processor more than we do."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"it does not come; waiting: {waiting()}")


class Crowd:
    """One request that hangs in its view, and duplicates that wait for it."""

    def __init__(self, server: Server, caller: Caller, duplicates: int) -> None:
        self._pool = ThreadPoolExecutor(duplicates + 1)
        self._send = lambda: server.post("/rest/", caller.token.key, "k", {"item": "vm"})
        server.hang_next()
        self.first: Future[Answer | None] = self._pool.submit(self._send)
        self.pid, self.session = server.hanging()
        self.rest = [self._pool.submit(self._send) for _ in range(duplicates)]
        until(lambda: len(waiting()) == duplicates)

    def answers(self) -> list[Answer]:
        answers = [future.result(60) for future in self.rest]
        self._pool.shutdown(wait=False)
        return [answer for answer in answers if answer is not None]


def assert_one_order(answers: list[Answer]) -> None:
    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    assert Order.objects.count() == 1
    assert IdempotencyRecord.objects.get().state == "completed"


def test_twenty_duplicates_wait_without_polling(caller: Caller, tmp_path: Path) -> None:
    """I4: while they wait, each is in one and the same statement."""
    connection.close()
    with running_server(tmp_path, workers=2, threads=20, policy=WAIT) as server:
        crowd = Crowd(server, caller, 19)
        before = waiting()
        for _ in range(200):
            assert waiting() == before
        server.go_on()
        first = crowd.first.result(60)
        assert first is not None
        answers = crowd.answers()
    assert len(answers) == 19
    assert all(answer.replayed for answer in answers)
    assert_one_order([first, *answers])


@pytest.mark.parametrize("end", ["killed", "terminated"])
def test_a_waiter_takes_over_when_the_first_attempt_dies(
    caller: Caller, tmp_path: Path, end: str
) -> None:
    """I3 for those who wait: one runs, the others replay."""
    connection.close()
    with running_server(tmp_path, workers=5, policy=WAIT) as server:
        crowd = Crowd(server, caller, 3)
        if end == "killed":
            os.kill(crowd.pid, signal.SIGKILL)
        else:
            terminate(crowd.session)
        answers = crowd.answers()
        server.go_on()
        first = crowd.first.result(60)
    assert first is None if end == "killed" else first is not None and first.status == 500
    assert sorted(answer.replayed for answer in answers) == [False, True, True], answers
    assert_one_order(answers)


def test_a_wait_that_is_too_long_ends_in_a_conflict(caller: Caller, tmp_path: Path) -> None:
    connection.close()
    policy = {**WAIT, "WAIT_LIMIT": 1}
    with running_server(tmp_path, workers=1, threads=4, policy=policy) as server:
        crowd = Crowd(server, caller, 1)
        refused = server.post("/rest/", caller.token.key, "k", {"item": "vm"})
        assert refused is not None
        assert (refused.status, refused.headers["retry-after"]) == (409, "1")
        server.go_on()
        assert_one_order(crowd.answers())
