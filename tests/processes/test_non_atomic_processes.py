"""Non-atomic mode in real processes: stalled and killed workers, a pool that is too small."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller, row_locks
from tests.shop.models import Order
from tests.support.server import Answer, Server, running_server, together
from tests.support.sessions import terminate

pytestmark = [pytest.mark.processes, row_locks]

PATH = "/effects/rest-running-again/"


def hanging(server: Server, caller: Caller, path: str = PATH) -> Callable[[], Answer | None]:
    server.hang_next()
    future = ThreadPoolExecutor(1).submit(server.post, path, caller.token.key, "k")
    server.hanging()
    return lambda: future.result(60)


def retried(server: Server, caller: Caller, key: str = "k", path: str = PATH) -> Answer:
    """Retry while the server takes a dying session for a living one, or is busy."""
    for _ in range(200):
        answer = server.post(path, caller.token.key, key)
        assert answer is not None
        if answer.status not in {409, 503}:
            return answer
    raise AssertionError("the key is stuck")


def test_a_killed_worker_is_noticed_at_once(caller: Caller, tmp_path: Path) -> None:
    """I3, I11: by the end of the session that held its record."""
    connection.close()
    with running_server(tmp_path) as server:
        first = hanging(server, caller)
        os.kill(server.hanging()[0], signal.SIGKILL)
        assert first() is None
        assert retried(server, caller).status == 201
    assert Order.objects.count() == 2  # what the first one had committed stays
    assert IdempotencyRecord.objects.get().attempt == 2


def test_a_stalled_worker_changes_nothing_after_its_successor_has_finished(
    caller: Caller, tmp_path: Path
) -> None:
    """I12: SIGSTOP, its lock is lost, a successor finishes, SIGCONT."""
    connection.close()
    with running_server(tmp_path) as server:
        first = hanging(server, caller)
        pid, session = server.hanging()
        os.kill(pid, signal.SIGSTOP)
        terminate(session)
        retry = retried(server, caller)
        before = IdempotencyRecord.objects.values().get()
        server.go_on()
        os.kill(pid, signal.SIGCONT)
        answer = first()
        assert answer is not None
        assert (answer.status, retry.status) == (500, 201)
        assert IdempotencyRecord.objects.values().get() == before
        assert retried(server, caller).body == retry.body


def test_a_pool_that_is_too_small_is_no_deadlock(
    caller: Caller, tmp_path: Path, monkeypatch: Any
) -> None:
    """Two connections, twenty requests: nobody waits for somebody who waits."""
    if connection.vendor != "postgresql":
        pytest.skip("Django has a pool for PostgreSQL only")
    pytest.importorskip("psycopg_pool")
    monkeypatch.setenv("IDEMPOTENCY_TEST_POOL", "2")
    connection.close()
    keys = iter([f"key-{number}" for number in range(19)])
    policy = {"LOCK_CONNECTIONS": 1}
    with running_server(tmp_path, workers=1, threads=20, policy=policy) as server:
        first = hanging(server, caller)
        busy = together(19, lambda: server.post(PATH, caller.token.key, next(keys)))
        assert {answer.status for answer in busy} == {503}
        assert {answer.headers["retry-after"] for answer in busy} == {"1"}
        assert {answer.json["code"] for answer in busy} == {"idempotency_store_busy"}
        server.go_on()
        answer = first()
        assert answer is not None
        assert answer.status == 201
        for number in range(19):
            assert retried(server, caller, f"key-{number}").status == 201
        storm = together(20, lambda: server.post(PATH, caller.token.key, "k"))
        assert {answer.body for answer in storm} == {answer.body}
    assert Order.objects.count() == 20
