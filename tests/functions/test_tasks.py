"""Functions below the decorators of task queues: the key is the task's id."""

from typing import Any

import pytest
from celery import Celery

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
