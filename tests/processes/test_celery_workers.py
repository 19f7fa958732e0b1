"""Real workers of Celery, killed and fed with duplicates, on RabbitMQ and on Redis (I20)."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.__main__ import amqp_url, why_left_out
from tests.shop.models import Order
from tests.support.redis_server import RedisServer
from tests.support.workers import all_were_killed, kill, running_worker

pytestmark = pytest.mark.processes

TASKS, TIMES = 50, 8
KILLED_IN, KILLED_AFTER = {7, 21}, {3, 35}
"""Numbers of tasks whose worker is killed after their write, and after their commit."""


class Running:
    """A worker, and a queue that only it takes tasks from."""

    def __init__(self, broker: str, stage: Path, stack: ExitStack) -> None:
        self._queue = f"idempotency-{uuid.uuid4()}"
        self._app = Celery("sender", broker=broker, set_as_current=False)
        stack.callback(self._remove)
        worker = running_worker(
            stage,
            *("-m", "tests.support.celery_worker"),
            IDEMPOTENCY_TEST_BROKER=broker,
            IDEMPOTENCY_TEST_QUEUE=self._queue,
        )
        self.worker = stack.enter_context(worker)

    def send(self, item: str) -> None:
        self._app.send_task("order", (item,), task_id=f"{self._queue}-{item}", queue=self._queue)

    def _remove(self) -> None:
        """Leave nothing on the broker."""
        with self._app.connection_for_write() as broker:
            broker.default_channel.queue_delete(self._queue)
            broker.default_channel.exchange_delete(self._queue)
        self._app.close()


@pytest.fixture
def running(
    transactional_db: None, redis_server: RedisServer, tmp_path_factory: Any
) -> Iterator[dict[str, Running]]:
    """A worker per broker. They work at the same time."""
    connection.close()
    redis_server.ask("FLUSHALL")
    brokers = {"redis": redis_server.url}
    if not why_left_out("rabbitmq"):
        brokers["rabbitmq"] = amqp_url()
    with ExitStack() as stack:
        yield {
            name: Running(broker, tmp_path_factory.mktemp(name), stack)
            for name, broker in brokers.items()
        }


def test_a_task_has_one_effect_however_often_it_is_delivered(running: dict[str, Running]) -> None:
    """I20: fifty tasks, sent eight times each, while processes are killed in the middle."""
    for name, each in running.items():
        kill(each.worker.stage, "in it", *(f"{name} {number}" for number in KILLED_IN))
        kill(each.worker.stage, "after it", *(f"{name} {number}" for number in KILLED_AFTER))
        for _ in range(TIMES):
            for number in range(TASKS):
                each.send(f"{name} {number}")
    for each in running.values():
        each.worker.wait_for(lambda each=each: each.worker.ended() >= TASKS * TIMES)
    wanted = sorted(f"{name} {number}" for name in running for number in range(TASKS))
    assert sorted(Order.objects.values_list("item", flat=True)) == wanted
    records = IdempotencyRecord.objects.all()
    assert {record.state for record in records} == {"completed"}
    assert len(records) == len(wanted)
    for each in running.values():
        assert all_were_killed(each.worker.stage)
        assert each.worker.ended() == TASKS * TIMES
