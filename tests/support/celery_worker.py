"""``python -m tests.support.celery_worker``: a worker of Celery on the tests' database.

A task writes an order; that of an item "held" runs until another delivery of it has been told to
come again. The file ``killed in it`` or ``killed after it`` of the stage, with the
task's item in its name, kills the worker's process with SIGKILL there, once.
"""

import json
import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import django
from celery import Celery
from celery.exceptions import Retry
from celery.signals import task_retry, task_success, worker_process_init

STAGE = Path(os.environ["IDEMPOTENCY_TEST_STAGE"])
QUEUE = os.environ["IDEMPOTENCY_TEST_QUEUE"]

django.setup()

from django.db import connections  # noqa: E402  (the apps must be ready)

from django_idempotency.operations import OperationInFlight, idempotent_function  # noqa: E402
from tests.shop.models import Order  # noqa: E402
from tests.support.workers import killed  # noqa: E402

app = Celery("tests", broker=os.environ["IDEMPOTENCY_TEST_BROKER"])
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_lost_wait=0.2,  # seconds until a task of a killed process is rejected
    broker_transport_options=json.loads(os.environ.get("IDEMPOTENCY_TEST_TRANSPORT", "{}")),
    # Other workers on the same broker need not hear of this one.
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)


def killed_before_it_is_acknowledged(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(item: str) -> Any:
        result = function(item)
        killed("after it", item)
        return result

    return run


@app.task(name="order", autoretry_for=(OperationInFlight,), max_retries=None, retry_backoff=True)
@killed_before_it_is_acknowledged
@idempotent_function(scope="orders")
def order(item: str) -> int:
    made = Order.objects.create(item=item)
    killed("in it", item)
    while item.endswith("held") and not (STAGE / "refused").exists():
        time.sleep(0.05)
    return int(made.pk)


@task_success.connect
def note(**signal: Any) -> None:
    with (STAGE / "ended").open("a") as ended:
        ended.write("one\n")


@task_retry.connect
def note_refusal(reason: Retry, **signal: Any) -> None:
    if isinstance(reason.exc, OperationInFlight):
        (STAGE / "refused").touch()


@worker_process_init.connect
def start_afresh(**signal: Any) -> None:
    connections.close_all()


if __name__ == "__main__":
    app.worker_main(
        [
            *("worker", "--concurrency", "3", "--hostname", f"{QUEUE}@%h", "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )
