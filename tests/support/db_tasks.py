"""Tasks of Django whose backend is a table of the tests' database (django-tasks-db).

Django 6 has ``django.tasks``; before that the package django-tasks has the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.admin import site
from django.db import connection
from django_tasks_db.compat import BaseTaskBackend

from django_idempotency.operations import idempotent_function
from tests.shop.models import Order
from tests.support.workers import killed

try:
    from django.tasks import task

    APPS = ["django_tasks_db"]
except ImportError:
    from django_tasks import task

    APPS = ["django_tasks", "django_tasks_db"]

TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}


class Elsewhere(BaseTaskBackend):
    """A backend whose queue is in no database."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError


@idempotent_function(scope="orders")
def make_order(context: Any, item: str) -> int:
    made = Order.objects.create(item=item)
    killed("in it", item)
    return int(made.pk)


@task(takes_context=True)
def order(context: Any, item: str) -> int:
    made = make_order(context, item)
    killed("after it", item)
    return int(made)


@contextmanager
def installed(settings: Any) -> Iterator[type[Any]]:
    """Have the backend and its table for one test; yield its model."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, *APPS]
    settings.TASKS = TASKS
    from django_tasks_db.models import DBTaskResult

    with connection.schema_editor() as editor:
        editor.create_model(DBTaskResult)
    try:
        yield DBTaskResult
    finally:
        if site.is_registered(DBTaskResult):  # or the admin would ask for its app for ever
            site.unregister(DBTaskResult)
        with connection.schema_editor() as editor:
            editor.delete_model(DBTaskResult)
