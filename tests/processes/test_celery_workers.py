"""Real workers of Celery, killed and fed with duplicates, on RabbitMQ and on Redis (I20)."""

import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.db import connection, transaction

from django_idempotency.effects import after_commit, declaring, effect
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.effects.runner import run_due
from django_idempotency.models import IdempotencyRecord
from tests.__main__ import amqp_url, why_left_out
from tests.shop.models import Order
from tests.support.databases import DATABASE
from tests.support.effects import make_due
from tests.support.redis_server import RedisServer
from tests.support.workers import Worker, all_were_killed, kill, running_worker

pytestmark = pytest.mark.processes

TASKS, TIMES = 50, 8
KILLED_IN, KILLED_AFTER = {7, 21}, {3, 35}
"""Numbers of tasks whose worker is killed after their write, and after their commit."""
HELD = [] if DATABASE == "sqlite" else ["held"]
"""A task that runs while another delivery finds it in flight; on SQLite that one waits."""


class Running:
    """A queue, and the worker that takes tasks from it.

    :param transport: options of the broker
    """

    def __init__(self, broker: str, stage: Path, stack: ExitStack, **transport: Any) -> None:
        self._queue = f"idempotency-{uuid.uuid4()}"
        self._broker, self._stage, self._stack = broker, stage, stack
        self._transport = json.dumps(transport)
        self._app = Celery("sender", broker=broker, set_as_current=False)
        self._app.conf.task_default_queue = self._queue
        stack.callback(self._remove)
        self.worker = self.start()

    def start(self) -> Worker:
        self.worker = self._stack.enter_context(
            running_worker(
                self._stage,
                *("-m", "tests.support.celery_worker"),
                IDEMPOTENCY_TEST_BROKER=self._broker,
                IDEMPOTENCY_TEST_TRANSPORT=self._transport,
                IDEMPOTENCY_TEST_QUEUE=self._queue,
            )
        )
        return self.worker

    def send(self, item: str) -> None:
        self._app.send_task("order", (item,), task_id=f"{self._queue}-{item}")

    def send_as_effect(self, item: str) -> str:
        """Send it twice: after a commit, and again as if nobody knew that it was; return its id."""

        @effect(name=f"order by {self._queue}")
        @self._app.task(name="order", shared=False)
        def order(item: str) -> None: ...

        with transaction.atomic():
            key = after_commit(order, item)
        IdempotencyEffect.objects.filter(key=key).update(state="pending")
        make_due()
        assert run_due("default").done == 1
        return key

    def _remove(self) -> None:
        """Leave nothing on the broker."""
        with self._app.connection_for_write() as broker:
            broker.default_channel.queue_delete(self._queue)
            broker.default_channel.exchange_delete(self._queue)
        self._app.close()


@pytest.fixture
def brokers(transactional_db: None, redis_server: RedisServer) -> dict[str, str]:
    connection.close()
    redis_server.ask("FLUSHALL")
    found = {"redis": redis_server.url, "rabbitmq": amqp_url()}
    return {name: url for name, url in found.items() if not why_left_out(name)}


@pytest.fixture
def running(
    brokers: dict[str, str], tmp_path_factory: Any, monkeypatch: Any
) -> Iterator[dict[str, Running]]:
    """A worker per broker. They work at the same time."""
    monkeypatch.setattr(declaring, "_known", dict(declaring._known))
    with ExitStack() as stack:
        yield {
            name: Running(broker, tmp_path_factory.mktemp(name), stack)
            for name, broker in brokers.items()
        }


def test_a_task_has_one_effect_however_often_it_is_delivered(running: dict[str, Running]) -> None:
    """I20: fifty tasks, sent eight times each, while processes are killed in the middle.

    I19: and an effect, whose key is the id of its task.
    """
    more = ["effect", *HELD]
    for name, each in running.items():
        for item in HELD * 2:
            each.send(f"{name} {item}")
        kill(each.worker.stage, "in it", *(f"{name} {number}" for number in KILLED_IN))
        kill(each.worker.stage, "after it", *(f"{name} {number}" for number in KILLED_AFTER))
        for _ in range(TIMES):
            for number in range(TASKS):
                each.send(f"{name} {number}")
    effects = {each.send_as_effect(f"{name} effect") for name, each in running.items()}
    connection.close()
    ends = TASKS * TIMES + 2 * len(more)
    for each in running.values():
        each.worker.wait_for(lambda each=each: each.worker.ended() >= ends)
    wanted = sorted(f"{name} {item}" for name in running for item in [*range(TASKS), *more])
    assert sorted(Order.objects.values_list("item", flat=True)) == wanted
    records = IdempotencyRecord.objects.all()
    assert {record.state for record in records} == {"completed"}
    assert len(records) == len(wanted)
    assert effects <= {record.key for record in records}
    for each in running.values():
        assert all_were_killed(each.worker.stage)
        assert each.worker.ended() == ends


@pytest.mark.once
@pytest.mark.whole
@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
def test_another_worker_takes_over_when_one_is_killed_as_a_whole(
    name: str, brokers: dict[str, str], tmp_path: Path
) -> None:
    """RabbitMQ notices at once, Redis when the task has been invisible for long enough."""
    if name not in brokers:
        pytest.skip(why_left_out(name))
    with ExitStack() as stack:
        running = Running(brokers[name], tmp_path, stack, visibility_timeout=1)
        kill(tmp_path, "in it", "a", whole=True)
        running.send("a")
        assert running.worker.process.wait(60) == -signal.SIGKILL
        assert not Order.objects.exists()
        connection.close()
        running.start()
        running.worker.wait_for(lambda: running.worker.ended() == 1)
    assert Order.objects.get().item == "a"
