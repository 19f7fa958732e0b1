"""Greenlets instead of threads: what holds under gunicorn's gevent worker."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django_redis import get_redis_connection

from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.support.databases import DATABASE
from tests.support.redis_server import RedisServer, caches, running_redis
from tests.support.server import Answer, running_server
from tests.support.sessions import lock_waits

pytest.importorskip("gevent")
pytestmark = pytest.mark.processes

PATH = "/decorated-rest/"
LEASED = {"STORE": "cache", "CACHE": "redis"}


@pytest.fixture
def own_redis(tmp_path: Path, settings: Any) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        settings.CACHES = caches(server.url)
        yield server


@row_locks
@pytest.mark.parametrize("patched", ["worker", "preload"])
def test_requests_of_one_process_keep_apart(
    patched: str, transactional_db: None, tmp_path: Path, caller: Caller
) -> None:
    """I1, I4: each greenlet has connections of its own, and waits for nobody."""
    connection.close()
    token = caller.token.key
    with running_server(tmp_path, workers=1, gevent=patched) as server:
        server.hang_next()
        first = in_thread(lambda: server.post(PATH, token, "k-1"))
        server.hanging()
        duplicate = server.post(PATH, token, "k-1")
        other = server.post(PATH, token, "k-2")
        server.go_on()
        original = first.result()
        retry = server.post(PATH, token, "k-1")
    assert [status(each) for each in (duplicate, other, original)] == [409, 201, 201], server.log()
    assert original is not None
    assert retry is not None
    assert (retry.body, retry.replayed) == (original.body, True)
    assert Order.objects.count() == 2


@pytest.mark.skipif(DATABASE != "postgresql", reason="needs a driver that yields")
def test_a_duplicate_that_waits_stops_nobody(
    transactional_db: None, tmp_path: Path, caller: Caller
) -> None:
    """It waits in the database, and yields to the request that it waits for."""
    pytest.importorskip("psycopg")
    connection.close()
    token, policy = caller.token.key, {"IN_FLIGHT": "wait", "WAIT_TIMEOUT": 30}
    with running_server(tmp_path, workers=1, gevent="worker", policy=policy) as server:
        server.hang_next()
        first = in_thread(lambda: server.post(PATH, token, "k-1"))
        server.hanging()
        second = in_thread(lambda: server.post(PATH, token, "k-1"))
        while not lock_waits():
            time.sleep(0.05)
        other = server.post(PATH, token, "k-2")
        server.go_on()
        original, replay = first.result(), second.result()
    assert [status(each) for each in (other, original)] == [201, 201], server.log()
    assert replay.replayed


@pytest.mark.once
def test_leases_are_renewed_while_a_view_waits(
    transactional_db: None, tmp_path: Path, own_redis: RedisServer, caller: Caller
) -> None:
    """And what renews them stops nobody: another request is served meanwhile."""
    connection.close()
    token, policy = caller.token.key, LEASED | {"LEASE": 1}
    with running_server(
        tmp_path, workers=1, gevent="preload", policy=policy, redis=own_redis.url
    ) as server:
        server.hang_next()
        first = in_thread(lambda: server.post(PATH, token, "k-1"))
        server.hanging()
        lapses = [lease()]
        deadline = time.monotonic() + 30
        while len(lapses) < 3:
            assert time.monotonic() < deadline, (lapses, server.log())
            time.sleep(0.05)
            now = lease()
            lapses += [now] if now > lapses[-1] else []
        duplicate = server.post(PATH, token, "k-1")
        server.go_on()
        original = first.result()
    assert (status(duplicate), status(original)) == (409, 201), server.log()


def lease() -> int:
    raw = get_redis_connection("redis")
    (name,) = raw.keys("*")
    return int(raw.hget(name, "lease"))


def status(answer: Answer | None) -> int | None:
    return None if answer is None else answer.status


@pytest.mark.once
def test_a_greenlet_that_never_waits_may_lose_its_lease(
    transactional_db: None, tmp_path: Path, own_redis: RedisServer, caller: Caller
) -> None:
    """I12: nobody renews it in that process, so another takes the record over; what the first one
    answers is not stored then."""
    connection.close()
    token = caller.token.key
    policy = LEASED | {"LEASE": 1, "ON_INTERRUPTED": "run"}
    with running_server(
        tmp_path, workers=2, gevent="worker", policy=policy, redis=own_redis.url
    ) as server:
        server.hang_next("busy")
        first = in_thread(lambda: server.post(PATH, token, "k-1"))
        server.hanging()
        second = server.post(PATH, token, "k-1")
        while status(second) == 409:
            time.sleep(0.05)
            second = server.post(PATH, token, "k-1")
        server.go_on()
        stalled = first.result()
        retry = server.post(PATH, token, "k-1")
    assert (status(stalled), status(second)) == (500, 201), server.log()
    assert second is not None
    assert retry is not None
    assert (retry.body, retry.replayed) == (second.body, True)


LATE = """
import django
django.setup()
from django_idempotency.operations.lease import renewer
from gevent import monkey, sleep
monkey.patch_all()

class Lease:
    def renew(self): ...

renewer.keep(Lease(), 3600)
sleep(0.01)
renewer.drop(None)
"""


@pytest.mark.once
def test_a_project_that_was_imported_before_threads_were_replaced_is_not_stopped() -> None:
    """The greenlet that renews leases waits as a greenlet; Django's connections do not bear it."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-W", "ignore", "-c", LATE]
    subprocess.run(command, env=environment, check=True, timeout=60)
