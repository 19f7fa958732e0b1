"""Real server processes and a real Redis that fails, and workers that are killed and stopped."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django_redis import get_redis_connection

from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.redis_server import RedisServer, caches, running_redis
from tests.support.server import Answer, Server, running_server, together

pytestmark = pytest.mark.processes

SECONDS = float(os.environ.get("IDEMPOTENCY_TEST_OUTAGES", "6"))
"""How long Redis fails in one way after another. The long form takes 30 seconds or more."""

PATH = "/decorated-rest/"
CACHED = {"STORE": "cached_db", "CACHE": "redis"}
LEASED = {"STORE": "cache", "CACHE": "redis", "LEASE": 1}


@pytest.fixture
def own_redis(tmp_path: Path, settings: Any) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        settings.CACHES = caches(server.url)
        yield server


@pytest.fixture
def server(
    transactional_db: None, tmp_path: Path, own_redis: RedisServer, request: Any
) -> Iterator[Server]:
    connection.close()
    policy = request.param
    with running_server(tmp_path, policy=policy, redis=own_redis.url) as running:
        yield running


def policy(given: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("server", [given], indirect=True, ids=[given["STORE"]])


class Duplicates:
    """Clients that send every key several times, one client beside the other."""

    def __init__(self, server: Server, token: str) -> None:
        self._server = server
        self._token = token
        self._numbers = iter(range(10**6))
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self.bodies: dict[str, set[bytes]] = {}
        self.statuses = Counter[int]()
        self.replays = 0
        self.longest = 0.0

    def run(self, clients: int, faults: Callable[[], None]) -> None:
        with ThreadPoolExecutor(clients) as pool:
            running = [pool.submit(self._client) for _ in range(clients)]
            try:
                faults()
            finally:
                self._is_over.set()
            for each in running:
                each.result(120)

    def _client(self) -> None:
        while not self._is_over.is_set():
            with self._lock:
                key = f"key-{next(self._numbers) // 2}"  # two clients at a time have one key
            for _ in range(3):
                self._send(key)

    def _send(self, key: str) -> None:
        start = time.monotonic()
        answer = self._server.post(PATH, self._token, key, {"item": key})
        took = time.monotonic() - start
        assert answer is not None
        with self._lock:
            self.longest = max(self.longest, took)
            self.statuses[answer.status] += 1
            self.replays += answer.replayed
            if answer.status == 201:
                self.bodies.setdefault(key, set()).add(answer.body)


@policy(CACHED)
def test_redis_fails_in_every_way_and_nobody_notices(
    server: Server, own_redis: RedisServer, caller: Caller
) -> None:
    """I1: no order twice, no 5xx, one answer per key."""

    def faults() -> None:
        start = time.monotonic()
        steps = (
            *(own_redis.stop, own_redis.start, own_redis.pause, own_redis.resume),
            *(partial(own_redis.ask, "FLUSHALL"), own_redis.stop, own_redis.start),
        )
        pause = SECONDS / (len(steps) + 1)
        for step in steps:
            time.sleep(pause)
            step()
        time.sleep(max(0.0, SECONDS - (time.monotonic() - start)))

    # Workers load the project with their first request.
    together(16, partial(server.post, PATH, caller.token.key, "warm-up", {"item": "warm-up"}))
    duplicates = Duplicates(server, caller.token.key)
    duplicates.run(8, faults)
    items = Counter(Order.objects.values_list("item", flat=True))
    assert set(items.values()) == {1}
    assert set(duplicates.statuses) <= {201, 409}, (duplicates.statuses, server.log())
    assert {len(bodies) for bodies in duplicates.bodies.values()} == {1}
    assert duplicates.replays > len(duplicates.bodies)
    print(
        f"{len(items)} orders; {dict(duplicates.statuses)}; {duplicates.replays} replays; "
        f"the longest request took {duplicates.longest:.2f} s"
    )


@pytest.mark.once
@policy(LEASED)
def test_fifty_keys_with_eight_duplicates_each(server: Server, caller: Caller) -> None:
    """I1, on the cache alone."""
    token, runs = caller.token.key, 0
    for number in range(50):
        data = {"item": f"item-{number}"}
        storm = together(8, partial(server.post, PATH, token, f"key-{number}", data))
        assert {answer.status for answer in storm} <= {201, 409}, (storm, server.log())
        assert len({answer.body for answer in storm if answer.status == 201}) == 1
        runs += sum(answer.status == 201 and not answer.replayed for answer in storm)
    items = Order.objects.values_list("item", flat=True)
    assert sorted(items) == sorted(f"item-{number}" for number in range(50))
    assert runs == 50


def hanging_request(server: Server, caller: Caller) -> Callable[[], Answer | None]:
    server.hang_next()
    future = ThreadPoolExecutor(1).submit(server.post, PATH, caller.token.key, "k", {"item": "vm"})
    server.hanging()
    return lambda: future.result(60)


def retries(server: Server, caller: Caller) -> Iterator[Answer]:
    """Retry as a client does that was told to come again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = server.post(PATH, caller.token.key, "k", {"item": "vm"})
        assert answer is not None
        yield answer
        time.sleep(0.05)
    raise AssertionError("the key is stuck")


def after_the_lease(server: Server, caller: Caller) -> Answer:
    """Return the first answer that does not say "in flight"."""
    in_flight = "idempotency_in_flight"
    return next(
        each for each in retries(server, caller) if each.status != 409 or code(each) != in_flight
    )


def code(answer: Answer) -> str:
    return str(answer.json["code"])


def record() -> dict[bytes, bytes]:
    raw = get_redis_connection("redis")
    (name,) = raw.keys("*:record:*")
    return dict(raw.hgetall(name))


@pytest.mark.once
@policy(LEASED | {"ON_INTERRUPTED": "run"})
def test_a_stopped_attempt_changes_nothing_when_it_wakes_up(server: Server, caller: Caller) -> None:
    """I12: SIGSTOP beyond its lease, a successor finishes, SIGCONT."""
    first = hanging_request(server, caller)
    pid, _ = server.hanging()
    os.kill(pid, signal.SIGSTOP)
    retry = after_the_lease(server, caller)
    before = record()
    server.go_on()
    os.kill(pid, signal.SIGCONT)
    woken = first()
    assert woken is not None
    assert woken.status == 500  # what it did is done; nobody will replay it
    assert (retry.status, before[b"attempt"]) == (201, b"2")
    assert record() == before
    assert next(retries(server, caller)).body == retry.body


@pytest.mark.once
@policy(LEASED | {"ON_INTERRUPTED": "run"})
def test_a_killed_attempt_runs_again_after_its_lease(server: Server, caller: Caller) -> None:
    first = hanging_request(server, caller)
    os.kill(server.hanging()[0], signal.SIGKILL)
    assert first() is None
    retry = after_the_lease(server, caller)
    assert (retry.status, retry.replayed) == (201, False)
    assert Order.objects.count() == 2  # policy wants that


@pytest.mark.once
@policy(LEASED | {"ON_INTERRUPTED": "refuse"})
def test_a_killed_attempt_is_refused_after_its_lease(server: Server, caller: Caller) -> None:
    """I11: a known unknown."""
    first = hanging_request(server, caller)
    os.kill(server.hanging()[0], signal.SIGKILL)
    assert first() is None
    for _ in range(2):
        refused = after_the_lease(server, caller)
        assert (refused.status, code(refused)) == (409, "outcome_unknown")
    assert Order.objects.count() == 1


@pytest.mark.once
@policy(LEASED)
def test_a_long_attempt_keeps_its_lease(server: Server, caller: Caller) -> None:
    """It runs for longer than its lease, and is in flight all the time."""
    first = hanging_request(server, caller)
    start = time.monotonic()
    for answer in retries(server, caller):
        assert (answer.status, code(answer)) == (409, "idempotency_in_flight")
        if time.monotonic() - start > 2.5 * LEASED["LEASE"]:
            break
    server.go_on()
    answer = first()
    assert answer is not None
    assert answer.status == 201
    assert next(retries(server, caller)).body == answer.body
    assert Order.objects.count() == 1
