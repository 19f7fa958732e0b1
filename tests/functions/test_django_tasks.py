"""Django's tasks in a table of the same database: what a guarded view enqueues commits with it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.views import Broken
from tests.support import db_tasks


def raise_it(error: Exception) -> Any:
    raise error


ENDS: dict[str, Callable[[], Any]] = {
    "201": lambda: JsonResponse({}, status=201),
    "a returned 404": lambda: JsonResponse({}, status=404),
    "a returned 429": lambda: JsonResponse({}, status=429),
    "500": lambda: JsonResponse({}, status=500),
    "an exception": lambda: raise_it(Broken()),
    "a raised 404": lambda: raise_it(Http404()),
    "a raised 403": lambda: raise_it(PermissionDenied()),
}
KEEPS_WRITES = {"201", "a returned 404", "a returned 429", "a raised 403"}


@csrf_exempt
def buy(request: HttpRequest, end: str) -> Any:
    db_tasks.order.enqueue("vm")
    return ENDS[end]()


urlpatterns = [path("buy/<end>/", buy)]


@pytest.fixture
def results(transactional_db: None, settings: Any, use_middleware: None) -> Iterator[Any]:
    settings.ROOT_URLCONF = __name__
    with db_tasks.installed(settings) as model:
        yield model.objects


@pytest.mark.parametrize("end", ENDS)
def test_a_task_commits_with_the_response_or_not_at_all(
    results: Any, caller: Caller, end: str
) -> None:
    """I2, I19: it is one of the view's writes, so whoever undoes those undoes it."""
    caller.post(f"/buy/{end}/")
    assert results.count() == (end in KEEPS_WRITES)


def test_a_replay_enqueues_nothing(results: Any, caller: Caller) -> None:
    first, replay = (caller.post("/buy/201/") for _ in range(2))
    assert (first.status_code, replay["Idempotency-Replayed"]) == (201, "true")
    assert results.count() == 1


def test_a_task_that_runs_again_has_one_effect(results: Any, caller: Caller) -> None:
    """I20: the key is the task's id, which its context says."""
    caller.post("/buy/201/")
    (row,) = results.all()
    made = [db_tasks.order.call(context_of(row), *row.task_result.args) for _ in range(2)]
    assert made == [Order.objects.get().pk] * 2
    assert IdempotencyRecord.objects.get(method="RUN").key == row.task_result.id


def context_of(row: Any) -> Any:
    from django_tasks_db.compat import TaskContext

    return TaskContext(task_result=row.task_result)


def test_a_backend_that_runs_tasks_at_once_runs_them_in_the_transaction(
    results: Any, caller: Caller, settings: Any
) -> None:
    """There a function that runs once per key is refused."""
    module = db_tasks.task.__module__.partition(".base")[0]
    settings.TASKS = {"default": {"BACKEND": f"{module}.backends.immediate.ImmediateBackend"}}
    assert caller.post("/buy/201/").status_code == 201
    assert not Order.objects.exists()
