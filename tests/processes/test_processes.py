"""Real server processes: storms of duplicates, killed workers, cut connections."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller, row_locks
from tests.shop.models import Order
from tests.support.adapters import usual_and_whole
from tests.support.databases import DATABASE
from tests.support.server import Answer, Server, running_server, together
from tests.support.sessions import terminate

pytestmark = pytest.mark.processes

# One view that only the middleware guards, one that the decorator guards, one handler method.
WSGI = ["/rest/", "/decorated-rest/", "/decorated-create/"]
ASGI = ["/async-rest/", "/ninja/async-decorated/"]
# On every database through the middleware; the decorators where rows are locked.
FEW = [WSGI[0], ASGI[0]]
ALL = [*WSGI, *ASGI] if DATABASE == "postgresql" else FEW
paths = pytest.mark.parametrize("path", ALL)


@pytest.fixture(scope="module")
def servers(django_db_setup: None, tmp_path_factory: Any) -> Iterator[Callable[[bool], Server]]:
    """One server of each kind for all of these tests; it replaces workers that they kill."""
    with ExitStack() as stack:

        @cache
        def running(asgi: bool) -> Server:
            folder = tmp_path_factory.mktemp("server")
            return stack.enter_context(running_server(folder, asgi=asgi))

        yield running


@pytest.fixture
def server(
    request: Any, transactional_db: None, servers: Callable[[bool], Server]
) -> Iterator[Server]:
    connection.close()
    asgi = "path" in request.fixturenames and request.getfixturevalue("path") in ASGI
    running = servers(asgi)
    yield running
    running.forget()


@pytest.mark.parametrize("path", usual_and_whole(FEW, ALL))
def test_fifty_keys_with_eight_duplicates_each(server: Server, caller: Caller, path: str) -> None:
    """I1, I4: one order per key; everybody gets the result or is told to come again."""
    token, answers = caller.token.key, Counter[str]()
    for number in range(50):
        key, item = f"key-{number}", f"item-{number}"
        storm = together(8, partial(server.post, path, token, key, {"item": item}))
        bodies = {answer.body for answer in storm if answer.status == 201}
        assert len(bodies) <= 1
        for answer in storm:
            assert answer.status in {201, 409}, (answer, server.log())
            assert answer.status == 201 or answer.headers["retry-after"] == "1"
            answers["replay" if answer.replayed else str(answer.status)] += 1
    items = Order.objects.values_list("item", flat=True)
    assert sorted(items) == sorted(f"item-{number}" for number in range(50))
    assert answers["201"] == 50, answers
    if connection.vendor == "sqlite":
        assert answers["409"] == 0, answers


def test_two_hundred_simultaneous_replays(server: Server, caller: Caller) -> None:
    """I13: a replay takes no lock, so none of them sees another."""
    token = caller.token.key
    first = server.post("/rest/", token, "k")
    assert first is not None
    replays = together(200, lambda: server.post("/rest/", token, "k"))
    assert {(answer.status, answer.body, answer.replayed) for answer in replays} == {
        (201, first.body, True)
    }


@paths
def test_a_killed_worker_frees_the_key_at_once(server: Server, caller: Caller, path: str) -> None:
    """I3: SIGKILL after the view's write; the very next retry runs."""
    first = _hanging_request(server, caller, path)
    os.kill(server.hanging()[0], signal.SIGKILL)
    assert first() is None
    assert _retry(server, caller, path).status == 201
    _assert_one_order_and_one_record()


@row_locks
@paths
def test_a_terminated_connection_frees_the_key_at_once(
    server: Server, caller: Caller, path: str
) -> None:
    """I3: the database ends the session; the view's answer was never remembered."""
    first = _hanging_request(server, caller, path)
    terminate(server.hanging()[1])
    retry = _retry(server, caller, path)
    server.go_on()
    answer = first()
    assert retry.status == 201
    assert answer is not None
    assert answer.status == 500
    _assert_one_order_and_one_record()


@row_locks
def test_a_stalled_worker_changes_nothing_after_its_session_ended(
    server: Server, caller: Caller
) -> None:
    """I12: SIGSTOP, its session is terminated, a successor finishes, SIGCONT."""
    first = _hanging_request(server, caller, "/rest/")
    pid, session = server.hanging()
    os.kill(pid, signal.SIGSTOP)
    terminate(session)
    retry = _retry(server, caller, "/rest/")
    before = IdempotencyRecord.objects.values().get()
    server.go_on()
    os.kill(pid, signal.SIGCONT)
    answer = first()
    assert answer is not None
    assert answer.status == 500
    assert IdempotencyRecord.objects.values().get() == before
    assert retry.status == 201
    _assert_one_order_and_one_record()


def _hanging_request(server: Server, caller: Caller, path: str) -> Callable[[], Any]:
    server.hang_next()
    pool = ThreadPoolExecutor(1)
    future = pool.submit(server.post, path, caller.token.key, "k", {"item": "vm"})
    server.hanging()
    return lambda: future.result(60)


def _retry(server: Server, caller: Caller, path: str) -> Answer:
    """Retry as a client does. The server may need a moment to notice the end of a process,
    but no lease: a single 409 would be one too many if it lasted."""
    for _ in range(20):
        answer = server.post(path, caller.token.key, "k", {"item": "vm"})
        assert answer is not None
        if answer.status != 409:
            assert not answer.replayed
            return answer
        time.sleep(0.01)
    raise AssertionError("the key is stuck")


def _assert_one_order_and_one_record() -> None:
    assert Order.objects.count() == 1
    record = IdempotencyRecord.objects.get()
    assert (record.state, record.response_status, record.attempt) == ("completed", 201, 2)
