"""Effects that are tasks of Celery, when their broker is down, or hangs (I19)."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery

from django_idempotency.effects import after_commit, declaring, effect
from django_idempotency.effects.runner import run_due
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.effects import make_due, states, the_only, void
from tests.support.redis_server import RedisServer

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
