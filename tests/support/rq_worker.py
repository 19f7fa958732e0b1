"""``python -m tests.support.rq_worker``: two workers of RQ on the tests' database, until the queue
is empty.

The file ``killed in it`` or ``killed after it`` of the stage, with a job's item in its name, kills
the process of the job with SIGKILL there, once.
"""

import os

import django

django.setup()

from django.db import connections  # noqa: E402  (the apps must be ready)
from redis import Redis  # noqa: E402
from rq import Queue, Worker  # noqa: E402

from django_idempotency.operations import idempotent_function  # noqa: E402
from tests.shop.models import Order  # noqa: E402
from tests.support.workers import killed  # noqa: E402


@idempotent_function(scope="orders")
def order(item: str) -> int:
    made = Order.objects.create(item=item)
    killed("in it", item)
    return int(made.pk)


def job(item: str) -> int:
    connections.close_all()
    made = order(item)
    killed("after it", item)
    return made


def work() -> None:
    redis = Redis.from_url(os.environ["IDEMPOTENCY_TEST_BROKER"])
    Worker([Queue(connection=redis)], connection=redis).work(burst=True)


if __name__ == "__main__":
    twin = os.fork()
    work()
    if twin:
        os.waitpid(twin, 0)
