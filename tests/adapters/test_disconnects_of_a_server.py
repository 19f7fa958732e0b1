"""Clients of a real ASGI server that go away at any moment."""

import json
import os
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.server import Server, running_server
from tests.support.sessions import open_transactions, sessions

pytestmark = pytest.mark.processes

COUNT = int(os.environ.get("IDEMPOTENCY_TEST_DISCONNECTS", "60"))
PAUSE = 0.02
"""Seconds that the view awaits before its write, and again after it."""
LONGEST = 0.6
"""Seconds until the last client has gone."""


@pytest.fixture(scope="module")
def running(django_db_setup: None, tmp_path_factory: Any) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server"), workers=1, asgi=True) as server:
        yield server


@pytest.fixture
def server(transactional_db: None, running: Server) -> Iterator[Server]:
    connection.close()
    yield running
    running.forget()


def request(server: Server, path: str, token: str, key: str) -> bytes:
    body = json.dumps({"item": key, "pause": PAUSE})
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Authorization: Token {token}",
        f"Idempotency-Key: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", body]).encode()


def go_away(server: Server, message: bytes, after: float) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(message)
        time.sleep(after)


def descriptors(server: Server) -> int:
    """Files and sockets that the server has open: clients, database connections, SQLite's file."""
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def settled(server: Server, before: int) -> bool:
    """Wait until the server has ended what it was doing."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not open_transactions() and not sessions() and descriptors(server) <= before:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("path", ["/async-rest/", "/async-decorated-rest/"])
def test_leave_no_stuck_key_no_transaction_and_no_connection(
    path: str, server: Server, caller: Caller
) -> None:
    token, keys = caller.token.key, [f"key-{number}" for number in range(COUNT)]
    assert server.post(path, token, "warm", {"item": "warm"}) is not None
    before = descriptors(server)
    chance = random.Random(COUNT)
    with ThreadPoolExecutor(8) as pool:
        for key in keys:
            message = request(server, path, token, key)
            pool.submit(go_away, server, message, chance.uniform(0, LONGEST))
    assert settled(server, before), (open_transactions(), sessions(), descriptors(server), before)

    interrupted = IdempotencyRecord.objects.filter(state="claimed").count()
    completed = IdempotencyRecord.objects.filter(state="completed").count() - 1
    assert Order.objects.count() - 1 == completed
    print(f"{path}: of {COUNT} {completed} were stored, {interrupted} rolled back")
    for key in keys:
        answer = server.post(path, token, key, {"item": key, "pause": PAUSE})
        assert answer is not None
        assert answer.status == 201, (answer, server.log())
    items = Order.objects.exclude(item="warm").values_list("item", flat=True)
    assert sorted(items) == sorted(keys)
    assert settled(server, before), (open_transactions(), sessions(), descriptors(server), before)


@pytest.mark.parametrize("path", ["/rest/", "/ninja/sync/"])
def test_a_sync_view_ends_all_the_same_and_its_retry_replays(
    path: str, server: Server, caller: Caller
) -> None:
    """I2: the server says that the client has gone while the view runs in its thread."""
    token = caller.token.key
    server.hang_next()
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(request(server, path, token, "k-1"))
        server.hanging()
    server.go_on()
    retry = server.post(path, token, "k-1", {"item": "k-1", "pause": PAUSE})
    while retry is not None and retry.status == 409:  # the first has not ended yet
        retry = server.post(path, token, "k-1", {"item": "k-1", "pause": PAUSE})
    assert retry is not None
    assert (retry.status, retry.replayed) == (201, True), (retry, server.log())
    assert Order.objects.count() == 1
