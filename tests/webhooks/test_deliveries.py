"""Deliveries to a real server: many at the same time, and to a worker that is killed."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.conftest import row_locks
from tests.shop.hooks import SECRET
from tests.shop.models import Order
from tests.support.senders import SENDERS
from tests.support.server import Answer, Server, running_server, together

pytestmark = pytest.mark.processes

STRIPE = SENDERS[1]


@pytest.fixture(scope="module")
def running(django_db_setup: None, tmp_path_factory: Any) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server"), workers=3) as server:
        yield server


@pytest.fixture
def server(transactional_db: None, running: Server) -> Iterator[Server]:
    connection.close()
    yield running
    running.forget()


def deliver(server: Server, event: str, tries: int = 0) -> Answer | None:
    body, headers = STRIPE.delivery(event, secret=SECRET, pending_webhooks=tries)
    return server.send("/hooks/paid/", body, headers)


def test_all_that_come_at_the_same_time_get_one_answer(server: Server) -> None:
    """I1: a duplicate waits, so no delivery fails, and each event is handled once."""
    for number in range(10):
        answers = together(3, partial(deliver, server, f"evt_{number}"))
        assert {answer.status for answer in answers} == {201}, server.log()
        assert len({answer.body for answer in answers}) == 1
    assert Order.objects.count() == 10


def test_a_delivery_to_a_killed_worker_comes_again(server: Server) -> None:
    """I3: nothing of the first one is left, and the next one need not wait."""
    server.hang_next()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(deliver, server, "evt_1")
        os.kill(server.hanging()[0], signal.SIGKILL)
        assert first.result(60) is None
    again, replay = deliver(server, "evt_1", 1), deliver(server, "evt_1", 2)
    assert again is not None
    assert replay is not None
    assert (again.status, again.replayed, replay.replayed) == (201, False, True)
    assert Order.objects.count() == 1
    assert IdempotencyRecord.objects.get().attempt == 2


@row_locks
def test_one_that_waits_for_a_worker_that_is_killed_is_handled(server: Server) -> None:
    """GitHub does not deliver again by itself: the second delivery is the only one left."""
    server.hang_next()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(deliver, server, "evt_1")
        worker, _ = server.hanging()
        second = pool.submit(deliver, server, "evt_1")
        os.kill(worker, signal.SIGKILL)
        assert first.result(60) is None
        answer = second.result(60)
    assert answer is not None
    assert (answer.status, answer.replayed) == (201, False)
    assert Order.objects.count() == 1


@pytest.mark.parametrize("asgi", [False, True], ids=["threads", "asgi"])
def test_none_of_many_duplicates_fails(transactional_db: None, tmp_path: Any, asgi: bool) -> None:
    """I1: all wait, however few duplicates of clients may."""
    with running_server(tmp_path, workers=2, threads=1 if asgi else 10, asgi=asgi) as server:
        connection.close()
        for number in range(3):
            answers = together(20, partial(deliver, server, f"evt_{number}"))
            statuses = [answer and answer.status for answer in answers]
            assert statuses == [201] * 20, server.log()
    assert Order.objects.count() == 3
