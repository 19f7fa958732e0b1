"""What a request waits for beyond its view, counted on the wire."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from django.db import connection, connections

from django_idempotency.stores.cache.replay_cache import writer_of
from tests.conftest import Caller
from tests.support.adapters import MIDDLEWARE
from tests.support.counting import wire_to_database
from tests.support.databases import DATABASE
from tests.support.redis_server import RedisServer, caches
from tests.support.wire import Wire

servers = pytest.mark.skipif(DATABASE == "sqlite", reason="SQLite is in the process")


class Cost(NamedTuple):
    """Round trips to the database.

    :ivar first: of a first request, more than the bare view in ``transaction.atomic()``
    :ivar replay: of a replay, more than a view that only finds out who calls. It saves Django's
        BEGIN and COMMIT where the block of ``ATOMIC_REQUESTS`` has not begun yet
    :ivar cached: the same of a replay from Redis, which costs one round trip there
    """

    first: int
    replay: int = 1
    cached: int = 0


FUNCTION, DECORATED_FUNCTION = "/function/", "/decorated-function/"
REST, DECORATED_REST = "/rest/", "/decorated-rest/"

COSTS = {
    "postgresql": {
        FUNCTION: (Cost(1), Cost(1, -1, -2)),
        DECORATED_FUNCTION: (Cost(1), Cost(2)),
        REST: (Cost(1), Cost(2)),
        DECORATED_REST: (Cost(1), Cost(2)),
    },
    "mariadb": {
        FUNCTION: (Cost(0), Cost(0, -2, -3)),
        DECORATED_FUNCTION: (Cost(0), Cost(1)),
        REST: (Cost(0), Cost(1)),
        DECORATED_REST: (Cost(0), Cost(1)),
    },
}
"""By database and adapter: without and with ``ATOMIC_REQUESTS``."""

paths = pytest.mark.parametrize("path", [FUNCTION, DECORATED_FUNCTION, REST, DECORATED_REST])
modes = pytest.mark.parametrize("atomic_requests", [False, True], ids=["", "atomic-requests"])


@dataclass
class Project:
    """Sends requests to a view, guarded or not, and counts what they wait for."""

    wire: Wire
    settings: Any
    monkeypatch: pytest.MonkeyPatch
    to_redis: Wire | None = None
    redis_trips: int = 0
    callers: int = 0

    def bare(self, path: str, atomic_requests: bool) -> int:
        """Return the round trips of the view alone."""
        return self.trips(path.replace("decorated-", ""), atomic_requests, [], None)

    def guarded(self, path: str, atomic_requests: bool, *keys: str | None) -> int:
        """Return the round trips of the last of these requests."""
        return self.trips(path, atomic_requests, [MIDDLEWARE], *keys)

    def trips(self, path: str, atomic_requests: bool, guard: list[str], *keys: str | None) -> int:
        self.settings.MIDDLEWARE = [*self.settings.BASE_MIDDLEWARE, *guard]
        there = connections.settings["default"]
        self.monkeypatch.setitem(there, "ATOMIC_REQUESTS", atomic_requests)
        self.callers += 1
        caller = Caller(f"caller {self.callers}")  # a client keeps its middlewares
        for key in ("warm-up", *keys):
            with (
                self.wire.counted() as trips,
                (self.to_redis or self.wire).counted() as redis_trips,
            ):
                response = caller.post(path, {"item": "vm"}, key=key)
            assert response.status_code == 201
            writer_of("redis").flush()
        self.redis_trips = redis_trips.total
        return trips.total


@pytest.fixture
def wire(transactional_db: None, kept_claim_connections: None) -> Iterator[Wire]:
    with wire_to_database() as wire:
        yield wire


@pytest.fixture
def project(wire: Wire, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(wire, settings, monkeypatch)


@servers
@paths
@modes
def test_a_request_waits_for_the_database_this_often(
    path: str, atomic_requests: bool, project: Project
) -> None:
    expected = COSTS[DATABASE][path][atomic_requests]
    bare = project.bare(path, atomic_requests)
    first = project.guarded(path, atomic_requests, "k")
    replay = project.guarded(path, atomic_requests, "k", "k")
    in_atomic, insert = project.bare(path, atomic_requests=True), 1
    assert Cost(first - in_atomic, replay - (bare - insert), expected.cached) == expected


class KnowsTheUser:
    """A middleware that asks for the user before Django's block begins."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        assert request.user.is_authenticated
        return self.get_response(request)


@servers
@pytest.mark.parametrize("guard", [[], [MIDDLEWARE]], ids=["decorator", "middleware"])
@pytest.mark.parametrize("is_known", [False, True])
def test_in_djangos_block_the_lock_travels_with_begin_and_the_store_with_commit(
    guard: list[str], is_known: bool, project: Project
) -> None:
    """The block is Django's, which has sent nothing yet, if the caller is known already. A
    decorator ends inside that block."""
    early = [f"{__name__}.KnowsTheUser"] * is_known
    bare = project.trips(FUNCTION, True, early, None)
    first = project.trips(DECORATED_FUNCTION, True, [*early, *guard], "k")
    expected = {"postgresql": 1 if is_known else 2, "mariadb": 1}
    assert first - bare == expected[DATABASE]


@servers
@paths
@modes
def test_without_a_key_a_request_waits_for_nothing_more(
    path: str, atomic_requests: bool, project: Project
) -> None:
    """I9."""
    bare = project.bare(path, atomic_requests)
    assert project.guarded(path, atomic_requests, None) == bare


@servers
@paths
@modes
def test_a_replay_from_redis_waits_for_redis_once(
    path: str, atomic_requests: bool, project: Project, redis: RedisServer, settings: Any
) -> None:
    bare, insert = project.bare(path, atomic_requests), 1
    settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
    with Wire(("127.0.0.1", redis.port)) as project.to_redis:
        settings.CACHES = caches(f"redis://127.0.0.1:{project.to_redis.port}/0")
        replay = project.guarded(path, atomic_requests, "k", "k")
    expected = COSTS[DATABASE][path][atomic_requests]
    assert (replay - (bare - insert), project.redis_trips) == (expected.cached, 1)


@servers
@pytest.mark.parametrize("delay", [0.0, 0.002])
def test_every_answer_that_is_waited_for_is_a_round_trip(
    transactional_db: None, delay: float
) -> None:
    with wire_to_database(delay=delay) as wire:
        connection.ensure_connection()
        with wire.counted() as trips, connection.cursor() as cursor:
            for _ in range(3):
                cursor.execute("SELECT 1")
    assert trips.each == [3]


@servers
def test_statements_that_travel_together_are_one_round_trip(wire: Wire) -> None:
    connection.ensure_connection()
    with wire.counted() as trips, connection.cursor() as cursor:
        together(cursor, ["SELECT 1", "SELECT 2", "SELECT 3"])
    assert trips.each == [1]


def together(cursor: Any, statements: list[str]) -> None:
    if DATABASE == "mariadb":
        cursor.execute("BEGIN NOT ATOMIC " + "; ".join(statements) + "; END")
        while cursor.nextset():
            pass
        return
    with connection.connection.pipeline():
        for each in statements:
            connection.connection.execute(each)


@servers
def test_connections_are_counted_one_by_one(wire: Wire) -> None:
    rival = connections.create_connection("default")
    for each, count in ((connection, 2), (rival, 1)):
        each.ensure_connection()
        with wire.counted() as trips, each.cursor() as cursor:
            for _ in range(count):
                cursor.execute("SELECT 1")
        assert trips.each[-1] == count
    rival.close()
    assert trips.each == [0, 1]


@pytest.mark.once
def test_a_greeting_is_no_round_trip_and_both_ends_pass() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Wire(server.getsockname()) as wire,
        socket.create_connection(("127.0.0.1", wire.port)) as client,
        server.accept()[0] as there,
    ):
        there.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert wire.round_trips == 0
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert there.recv(8) == b"question"
        assert there.recv(1) == b""
        there.sendall(b"answer")
        there.close()
        assert client.recv(6) == b"answer"
        assert client.recv(1) == b""
        assert wire.round_trips == 1
