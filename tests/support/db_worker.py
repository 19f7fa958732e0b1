"""``python -m tests.support.db_worker``: workers of django-tasks-db, one after another, each a
process of its own, until no task is left. What a killed one has left behind is made ready again.

Prints as JSON which orders there are after each of them.
"""

import json
import os

import django

django.setup()

from django.core.management import call_command  # noqa: E402  (the apps must be ready)
from django.db import connections  # noqa: E402
from django_tasks_db.models import DBTaskResult  # noqa: E402

from tests.shop.models import Order  # noqa: E402


def work() -> None:
    """Run the tasks that are ready, as far as the process lives."""
    connections.close_all()
    worker = os.fork()
    if worker == 0:
        call_command("db_worker", batch=True, startup_delay=False, interval=0)
        os._exit(0)
    os.waitpid(worker, 0)


if __name__ == "__main__":
    rounds = []
    while DBTaskResult.objects.ready().exists():
        work()
        rounds.append(sorted(Order.objects.values_list("item", flat=True)))
        DBTaskResult.objects.running().update(status="READY")
    print(json.dumps(rounds))
