"""The pages about task queues and functions: from a view to one effect, as they say.

``how-to/celery.md``, ``how-to/django-tasks.md``, ``how-to/rq.md``, ``how-to/functions.md``.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any
from weakref import WeakSet

import celery._state as celery_state
import pytest
from celery import Celery
from django.core.management import CommandError
from redis import Redis
from rq import Queue, SimpleWorker

from django_idempotency.effects import declaring
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import KeyReused, OperationInFlight, run_once
from tests.conftest import Caller
from tests.docs import run_blocks
from tests.docs.pages import how_to, run_block
from tests.shop import models
from tests.shop.models import Order
from tests.support import db_tasks
from tests.support.adapters import MIDDLEWARE
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def run(monkeypatch: Any, settings: Any) -> Callable[..., Any]:
    """Run a page's code as the URLconf."""
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    module = ModuleType("shop.models")
    vars(module).update(Order=models.Order)
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.models", module)
    for file in ("tasks", "jobs", "views"):
        monkeypatch.setitem(sys.modules, f"shop.{file}", module)
    # What pages declare is gone after the test.
    monkeypatch.setattr(declaring, "_known", dict(declaring._known))
    finalizers = set(celery_state._on_app_finalizers)
    monkeypatch.setattr(celery_state, "_on_app_finalizers", finalizers)
    monkeypatch.setattr(celery_state, "_apps", WeakSet())  # those of other tests get no tasks

    def run_page(name: str, first: int = 0) -> Any:
        page: Any = ModuleType("page_of_docs")
        monkeypatch.setitem(sys.modules, "page_of_docs", page)
        for code in how_to(name)[first:]:
            run_block(code, page, name)
        settings.ROOT_URLCONF = "page_of_docs"
        return page

    return run_page


def order_twice(caller: Caller) -> int:
    first, replay = (caller.post("/orders/") for _ in range(2))
    assert (first.status_code, replay.content) == (201, first.content)
    assert replay["Idempotency-Replayed"] == "true"
    return int(first.json()["id"])


def result_of(order: int) -> dict[str, str]:
    return {"server": f"server of order {order}"}


class TestCelery:
    @pytest.fixture
    def app(self) -> Iterator[Celery]:
        """A project's Celery, with a broker in memory."""
        before = celery_state.get_current_app()
        with Celery("pages", broker="memory://") as app:
            yield app
        celery_state._set_current_app(before)

    def test_the_task_is_sent_once_and_runs_once(
        self, app: Celery, run: Any, caller: Caller
    ) -> None:
        page = run("celery")
        order = order_twice(caller)
        with app.connection_for_read() as broker:
            messages = broker.SimpleQueue("celery")
            task_id = messages.get_nowait().headers["id"]
            with pytest.raises(messages.Empty):
                messages.get_nowait()
        assert task_id == str(IdempotencyEffect.objects.get().key)
        results = [page.provision.apply((order,), task_id=task_id).get() for _ in range(2)]
        assert results == [result_of(order)] * 2
        assert IdempotencyRecord.objects.get(method="RUN").key == task_id

    def test_its_options_are_those_of_the_page(self, app: Celery, run: Any) -> None:
        task = run("celery").provision
        assert (task.acks_late, task.reject_on_worker_lost, task.max_retries) == (True, True, None)
        assert task.autoretry_for == (OperationInFlight,)


class TestDjangoTasks:
    @pytest.fixture
    def results(self, transactional_db: None, settings: Any, monkeypatch: Any) -> Iterator[Any]:
        with db_tasks.installed(settings) as model:
            run_blocks.add_django_tasks()
            yield model.objects
        if "django_tasks" in db_tasks.APPS:
            sys.modules.pop("django.tasks")

    def work(self) -> None:
        from django_tasks_db.management.commands.db_worker import Worker

        names: dict[str, Any] = {"queue_names": ["default"], "excluded_queue_names": []}
        at_once: dict[str, Any] = {"interval": 0, "startup_delay": False, "batch": True}
        Worker(**names, **at_once, backend_name="default", max_tasks=None, worker_id="w").run()

    def test_the_task_is_one_of_the_writes(self, results: Any, run: Any, caller: Caller) -> None:
        run("django-tasks", first=1)
        order = order_twice(caller)
        self.work()
        (row,) = results.all()
        assert (row.status, row.return_value) == ("SUCCESSFUL", result_of(order))

    def test_a_lost_task_runs_again(self, results: Any, run: Any, caller: Caller) -> None:
        page = run("django-tasks", first=1)
        order = order_twice(caller)
        self.work()
        results.update(status="RUNNING", return_value=None)
        assert page.run_again() == 0
        assert page.run_again(timedelta(seconds=-1)) == 1
        self.work()
        assert results.get().return_value == result_of(order)
        assert IdempotencyRecord.objects.filter(method="RUN").count() == 1

    def test_another_backend_gets_the_key_of_the_effect(
        self, results: Any, run: Any, caller: Caller, settings: Any
    ) -> None:
        page = run("django-tasks", first=1)
        page.urlpatterns.append(page.path("elsewhere/", page.buy_elsewhere))
        assert caller.post("/elsewhere/").status_code == 201
        (row,) = results.all()
        assert row.task_result.kwargs == {"key": str(IdempotencyEffect.objects.get().key)}
        page.print_receipt.enqueue(*row.task_result.args, **row.task_result.kwargs)
        self.work()
        assert [each.status for each in results.all()] == ["SUCCESSFUL"] * 2
        assert IdempotencyRecord.objects.filter(method="RUN").count() == 1


@pytest.fixture
def handlers() -> Iterator[None]:
    """RQ's workers leave theirs behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_rq(run: Any, caller: Caller, redis_server: RedisServer) -> None:
    page = run("rq")
    redis_server.ask("FLUSHALL")
    with Redis.from_url(redis_server.url) as redis:
        page.queue = vars(sys.modules["shop.jobs"])["queue"] = Queue(connection=redis)
        order = order_twice(caller)
        (job,) = page.queue.jobs
        assert job.id == str(IdempotencyEffect.objects.get().key)
        page.queue.push_job_id(job.id)
        SimpleWorker([page.queue], connection=redis).work(burst=True)
        assert job.return_value(refresh=True) == result_of(order)
        assert page.queue.failed_job_registry.count == 0
    assert IdempotencyRecord.objects.get(method="RUN").key == job.id


class Consumer(list[dict[str, str]]):
    """Messages, and what became of them."""

    def __init__(self, *messages: dict[str, str]) -> None:
        super().__init__(messages)
        self.ends: list[str] = []

    def acknowledge(self, message: Any) -> None:
        self.ends.append("acknowledged")

    def put_aside(self, message: Any) -> None:
        self.ends.append("put aside")

    def deliver_again(self, message: Any, seconds: int) -> None:
        self.ends.append(f"again in {seconds}")


class TestFunctions:
    """The page about functions."""

    def test_a_message_is_acknowledged_as_often_as_it_comes(self, run: Any) -> None:
        page = run("functions")
        message = {"id": "m1", "item": "vm"}
        consumer = Consumer(message, message, message | {"item": "another"})
        page.consume_and_acknowledge(consumer)
        assert consumer.ends == ["acknowledged", "acknowledged", "put aside"]
        assert Order.objects.get().item == "vm"

    def test_one_that_is_in_flight_comes_again(self, run: Any) -> None:
        page, consumer = run("functions"), Consumer({"id": "m1", "item": "vm"})

        def in_flight(*args: Any, **kwargs: Any) -> None:
            raise OperationInFlight("later", 7)

        page.run_once = in_flight
        page.consume_and_acknowledge(consumer)
        with pytest.raises(CommandError, match="later"):
            page.Command().handle("2026-01")
        assert consumer.ends == ["again in 7"]

    def test_a_key_of_what_it_is_about_swallows_the_second_charge(self, run: Any) -> None:
        page, charged = run("functions"), []

        def charge(order_id: int, amount: int) -> None:
            charged.append(amount)

        page.charge = charge
        for _ in range(2):
            page.second_instalment(7)
        assert charged == [50]
        with pytest.raises(KeyReused):
            run_once(charge, 7, 60, key="charge:7", scope="payments")

    def test_a_command_runs_once_a_month(self, run: Any) -> None:
        page, sent = run("functions"), []

        def send_invoices(month: str) -> None:
            sent.append(month)

        page.send_invoices = send_invoices
        for month in ("2026-01", "2026-01", "2026-02"):
            page.Command().handle(month)
        assert sent == ["2026-01", "2026-02"]
