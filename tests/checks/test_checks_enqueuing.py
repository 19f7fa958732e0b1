"""Guarded views that hand tasks to a queue in the middle of their transaction (I19)."""

from functools import wraps
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views import View
from ninja import NinjaAPI
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ModelViewSet

from django_idempotency.decorators import idempotent
from tests.shop.models import Order
from tests.support import db_tasks, queued
from tests.support.checking import URLconf, only, silent
from tests.support.queued import letter, queue, receipt

pytestmark = pytest.mark.once

OURS = "django_idempotency.middleware.IdempotencyMiddleware"


def by_celery(request: HttpRequest) -> HttpResponse:
    receipt.delay(1)
    return HttpResponse()


def by_a_signature(request: HttpRequest) -> HttpResponse:
    receipt.s(1).apply_async()
    return HttpResponse()


def by_rq(request: HttpRequest) -> HttpResponse:
    queue.enqueue(receipt, 1)
    return HttpResponse()


def by_a_job_of_rq(request: HttpRequest) -> HttpResponse:
    letter.delay(1)
    return HttpResponse()


def within(request: HttpRequest) -> HttpResponse:
    def send() -> None:
        receipt.delay(1)

    send()
    return HttpResponse()


def imports_it(request: HttpRequest) -> HttpResponse:
    from tests.support.queued import receipt

    receipt.delay(1)
    return HttpResponse()


def mentions_a_module(request: HttpRequest) -> HttpResponse:
    queued.receipt.apply_async((1,))
    return HttpResponse()


def wrapped(view: Any) -> Any:
    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        return view(request)

    return checked


@api_view(["POST"])
def by_rest_function(request: Any) -> Response:
    receipt.delay(1)
    return Response()


class ByMethod(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        self.send()
        return HttpResponse()

    def send(self) -> None:
        receipt.delay(1)


class Inheriting(ByMethod):
    def post(self, request: HttpRequest) -> HttpResponse:
        return super().post(request)

    def send(self) -> None: ...


class SuperSends(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        receipt.delay(1)
        return HttpResponse()


class CallsSuper(SuperSends):
    def post(self, request: HttpRequest) -> HttpResponse:
        return super().post(request)


class Orders(ModelViewSet):
    queryset = Order.objects.all()

    def perform_create(self, serializer: Any) -> None:
        receipt.delay(serializer.save().pk)


def operations() -> Any:
    api = NinjaAPI(urls_namespace="enqueuing")
    api.post("/")(by_celery)
    return api.urls


def after_the_commit(request: HttpRequest) -> HttpResponse:
    transaction.on_commit(lambda: receipt.delay(1))
    return HttpResponse()


def staged(request: Any) -> HttpResponse:
    request.idempotency.after_commit(receipt, 1)
    return HttpResponse()


class Timer:
    delay = 1

    def enqueue(self, item: int) -> None: ...


timer = Timer()


def means_something_else(request: HttpRequest) -> HttpResponse:
    timer.enqueue(timer.delay)
    return HttpResponse()


@pytest.fixture(autouse=True)
def guarded(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, OURS]
    settings.IDEMPOTENCY = {"PATHS": [""]}


SENDING = [
    (by_celery, "receipt.delay()"),
    (by_a_signature, "receipt.apply_async()"),
    (by_rq, "queue.enqueue()"),
    (by_a_job_of_rq, "letter.delay()"),
    (within, "receipt.delay()"),
    (imports_it, "receipt.delay()"),
    (mentions_a_module, "receipt.apply_async()"),
    (wrapped(by_celery), "receipt.delay()"),
    (idempotent(by_celery), "receipt.delay()"),
    (by_rest_function, "receipt.delay()"),
    (ByMethod.as_view(), "receipt.delay()"),
    (CallsSuper.as_view(), "receipt.delay()"),
]


@pytest.mark.parametrize(("view", "call"), SENDING)
def test_a_task_is_sent_in_the_middle(view: Any, call: str, settings: Any) -> None:
    settings.ROOT_URLCONF = URLconf(view)
    found = only("W045")
    assert f"outside of its transaction: {call}." in found.msg
    assert "after_commit" in found.hint
    settings.ROOT_URLCONF = URLconf(after_the_commit, staged, means_something_else)
    silent("W045")


def test_methods_and_operations_of_frameworks(settings: Any) -> None:
    router = SimpleRouter()
    router.register("orders", Orders)
    for pattern in (path("", include(router.urls)), path("api/", operations())):
        urlconf = URLconf()
        urlconf.urlpatterns = [pattern]
        settings.ROOT_URLCONF = urlconf
        assert "receipt.delay()" in only("W045").msg
    settings.ROOT_URLCONF = URLconf(Inheriting.as_view())
    silent("W045")


def test_a_view_that_owns_its_transactions_is_left_alone(settings: Any) -> None:
    settings.ROOT_URLCONF = URLconf(idempotent(atomic=False)(by_celery))
    silent("W045")


def enqueues(request: HttpRequest) -> HttpResponse:
    db_tasks.order.enqueue("vm")
    return HttpResponse()


class Elsewhere:
    """Keeps tasks in another database."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "elsewhere" if model._meta.app_label.startswith("django_tasks") else None


class TestDjangoTasks:
    @pytest.fixture(autouse=True)
    def urls(self, settings: Any) -> None:
        settings.ROOT_URLCONF = URLconf(enqueues)
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, *db_tasks.APPS]

    def test_a_backend_that_shares_the_transaction(self, settings: Any) -> None:
        settings.TASKS = {"default": {"BACKEND": "tests.support.db_tasks.Elsewhere"}}
        assert "order.enqueue()" in only("W045").msg
        settings.TASKS = db_tasks.TASKS
        silent("W045")

    def test_another_database_does_not(self, settings: Any) -> None:
        settings.TASKS = db_tasks.TASKS
        settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]
        only("W045")

    def test_nothing_leaves_the_process_without_a_queue(self, settings: Any) -> None:
        module = db_tasks.task.__module__.partition(".base")[0]
        settings.TASKS = {"default": {"BACKEND": f"{module}.backends.immediate.ImmediateBackend"}}
        silent("W045")
