"""Effects that are tasks of Celery, when their broker is down, or hangs (I19)."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from celery import Celery

from django_idempotency.effects import after_commit, declaring, effect
from django_idempotency.effects.runner import run_due
from tests.__main__ import amqp_url, why_left_out
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.effects import make_due, states, the_only, void
from tests.support.redis_server import RedisServer, free_port
from tests.support.wire import Wire

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def app(fragile_redis: RedisServer, monkeypatch: Any) -> Iterator[Celery]:
    monkeypatch.setattr(declaring, "_known", dict(declaring._known))
    with Celery("tests", broker=fragile_redis.url, set_as_current=False) as app:
        app.conf.broker_transport_options = {"socket_timeout": 0.3}
        yield app


def ids(app: Celery) -> Iterator[str]:
    """Yield the ids of the tasks that have come to the broker."""
    with app.connection_for_read() as broker:
        messages = broker.SimpleQueue("celery")
        with suppress(messages.Empty):
            while True:
                yield messages.get_nowait().headers["id"]


@pytest.mark.parametrize("ends", ["stop", "pause"])
def test_a_broker_that_is_down_changes_no_answer_and_gets_the_task_later(
    ends: str,
    app: Celery,
    fragile_redis: RedisServer,
    use_middleware: None,
    caller: Caller,
    after_write: Callable[[Callable[[], None]], None],
) -> None:
    @effect(name="receipt")
    @app.task(name="receipt", shared=False)
    def receipt(order: int) -> None: ...

    after_write(lambda: void(after_commit(receipt, 7)))
    getattr(fragile_redis, ends)()
    assert caller.post("/function/").status_code == 201
    assert (Order.objects.count(), states()) == (1, ["pending"])
    fragile_redis.start() if ends == "stop" else fragile_redis.resume()
    make_due()
    assert run_due("default").done == 1
    assert run_due("default").done == 0
    # One that hangs may have taken what nobody could know: the same task, under the same id.
    assert set(ids(app)) == {str(the_only().key)}


@pytest.mark.skipif(bool(why_left_out("rabbitmq")), reason=why_left_out("rabbitmq"))
def test_a_port_of_rabbitmq_that_refuses(
    monkeypatch: Any,
    use_middleware: None,
    caller: Caller,
    after_write: Callable[[Callable[[], None]], None],
) -> None:
    monkeypatch.setattr(declaring, "_known", dict(declaring._known))
    port, queue = free_port(), f"idempotency-{uuid4()}"
    real = urlsplit(amqp_url())
    there = real._replace(netloc=f"{real.username}:{real.password}@127.0.0.1:{port}").geturl()
    with Celery("tests", broker=there, set_as_current=False) as app:
        app.conf.task_default_queue = queue

        @effect(name="receipt")
        @app.task(name="receipt", shared=False)
        def receipt(order: int) -> None: ...

        after_write(lambda: void(after_commit(receipt, 7)))
        first = caller.post("/function/")
        assert (first.status_code, states()) == (201, ["pending"])
        assert the_only().error == "OperationalError"
        with Wire((real.hostname or "", real.port or 5672), port=port):
            assert caller.post("/function/").content == first.content
            assert states() == ["pending"]  # a replay is none of its business
            make_due()
            assert run_due("default").done == 1
            with app.connection_for_read() as broker:
                messages = broker.SimpleQueue(queue)
                message = messages.get(timeout=10)
                message.ack()
                messages.close()
                broker.default_channel.queue_delete(queue)
                broker.default_channel.exchange_delete(queue)
            app.pool.force_close_all()
    assert message.headers["id"] == str(the_only().key)
    assert message.payload[0] == [7]
