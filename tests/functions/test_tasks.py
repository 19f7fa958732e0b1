"""Functions below the decorators of task queues: the key is the task's id."""

from typing import Any

import dramatiq
import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import KeyReused, idempotent_function
from tests.shop.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

celery = Celery("tests", set_as_current=False)


@celery.task
@idempotent_function(scope="provision")
def provision(item: str) -> int:
    return int(Order.objects.create(item=item).pk)


@celery.task(bind=True)
@idempotent_function(scope="provision")
def provision_bound(self: Any, item: str) -> int:
    return int(Order.objects.create(item=item).pk)


@pytest.mark.parametrize("task", [provision, provision_bound])
def test_a_task_that_is_delivered_twice_runs_once(task: Any) -> None:
    """I20."""
    first, second = (task.apply(("vm",), task_id="t-1").get() for _ in range(2))
    assert first == second == Order.objects.get().pk
    assert task.apply(("vm",), task_id="t-2").get() != first


@pytest.mark.parametrize("task", [provision, provision_bound])
def test_a_bound_task_is_no_argument_but_the_others_are_compared(task: Any) -> None:
    task.apply(("vm",), task_id="t-1").get()
    with pytest.raises(KeyReused):
        task.apply(("another",), task_id="t-1").get()


class TestTwiceInOneTask:
    """Two calls that a task means would share its id: the second is refused, not swallowed."""

    def test_the_second_is_an_error(self) -> None:
        @celery.task(name="twice", shared=False)
        def twice() -> None:
            provision.run("vm")
            provision.run("vm")

        with pytest.raises(ImproperlyConfigured, match=r"provision has run in this task already"):
            twice.apply(task_id="t-1").get()
        assert Order.objects.count() == 1

    def test_another_delivery_gets_the_stored_result(self) -> None:
        calls: list[Any] = []

        @celery.task(name="again", shared=False)
        def again() -> None:
            calls.append(provision.run("vm"))

        for _ in range(2):
            again.apply(task_id="t-1").get()
        assert calls == [Order.objects.get().pk] * 2

    def test_a_call_that_failed_may_be_repeated(self) -> None:
        fails = [True]

        @idempotent_function(scope="flaky")
        def flaky() -> int:
            if fails and fails.pop():
                raise ZeroDivisionError
            return Order.objects.create(item="vm").pk

        @celery.task(name="repeats", shared=False)
        def repeats() -> int:
            with pytest.raises(ZeroDivisionError):
                flaky()
            return flaky()

        assert repeats.apply(task_id="t-1").get() == Order.objects.get().pk


def test_a_message_of_dramatiq_that_is_delivered_twice_runs_once() -> None:
    """I20."""
    broker = StubBroker(middleware=[CurrentMessage()])
    broker.emit_after("process_boot")
    made: list[int] = []

    @dramatiq.actor(broker=broker)
    def order(item: str) -> None:
        made.append(provision.run(item))
        connection.close()

    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    message = order.message("vm")
    for _ in range(2):
        broker.enqueue(message)
    broker.join(order.queue_name, fail_fast=True)
    worker.stop()
    broker.close()
    assert made == [Order.objects.get().pk] * 2
    assert IdempotencyRecord.objects.get().key == message.message_id


def test_eager_mode_in_a_transaction_is_refused() -> None:
    """The transaction could undo what is remembered; an effect runs after it."""
    with transaction.atomic(), pytest.raises(ImproperlyConfigured, match=r"transaction\.atomic"):
        provision.apply(("vm",), task_id="t-1", throw=True)
    assert not Order.objects.exists()
