"""Guards inside of transactions: Django's block of ``ATOMIC_REQUESTS``, and other people's."""

import json
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import RequestFactory
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.doors import MIDDLEWARE
from tests.shop.models import Order
from tests.shop.views import buy

REVERSION = "reversion.middleware.RevisionMiddleware"


class Enclosing:
    """A middleware that undoes what it has written in its own block if the answer is an error."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            Order.objects.create(item="of the middleware")
            response: HttpResponse = self.get_response(request)
            transaction.set_rollback(True)
        return response


@csrf_exempt
def plain(request: HttpRequest) -> HttpResponse:
    status, body = buy(json.loads(request.body))
    return JsonResponse(body, status=status)


decorated = csrf_exempt(idempotent(plain))
not_atomic = transaction.non_atomic_requests(csrf_exempt(transaction.atomic(idempotent(plain))))


class Rest(APIView):
    @idempotent
    def post(self, request: Any) -> Response:
        status, body = buy(request.data)
        return Response(body, status=status)


urlpatterns = [
    path("plain/", plain),
    path("decorated/", decorated),
    path("not-atomic/", not_atomic),
    path("rest/", Rest.as_view()),
]


@pytest.fixture(autouse=True)
def _project(settings: Any, monkeypatch: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic-requests"])
def atomic_requests(request: Any, monkeypatch: Any) -> bool:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)
    return bool(request.param)


def items() -> set[str]:
    return set(Order.objects.values_list("item", flat=True))


class TestSomebodyElsesBlock:
    """It could undo what is stored, or we could commit what it means to undo (I2)."""

    @pytest.mark.parametrize("middleware", [REVERSION, f"{__name__}.Enclosing"])
    @pytest.mark.parametrize("url", ["/plain/", "/decorated/", "/rest/"])
    def test_a_middlewares_is_refused_and_nothing_of_it_committed(
        self, middleware: str, url: str, atomic_requests: bool, settings: Any, caller: Caller
    ) -> None:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, middleware, MIDDLEWARE]
        caller._client.raise_request_exception = True
        with pytest.raises(Exception, match="check names it"):
            caller.post(url, {"item": "vm"})
        assert items() == set()
        assert not connection.in_atomic_block

    def test_the_one_of_a_view_without_djangos(self, atomic_requests: bool, caller: Caller) -> None:
        """``non_atomic_requests``, and a block around the guard."""
        assert caller.post("/not-atomic/").status_code == 500
        assert items() == set()

    @pytest.mark.django_db(transaction=True)
    def test_the_one_around_a_view_that_no_handler_calls(self, atomic_requests: bool) -> None:
        headers = {"idempotency-key": "k"}
        request = RequestFactory().post("/", {}, "application/json", headers=headers)
        request.user = type("User", (), {"is_authenticated": True, "pk": 1})()
        with pytest.raises(Exception, match="could undo it"), transaction.atomic():
            decorated(request)
        assert items() == set()

    @pytest.mark.parametrize("url", ["/plain/", "/decorated/", "/rest/"])
    def test_a_middleware_that_does_without_is_fine(
        self, url: str, atomic_requests: bool, settings: Any, caller: Caller
    ) -> None:
        quiet = "tests.test_checks.QuietRevisions"
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, quiet, MIDDLEWARE]
        assert caller.post(url, {"item": "vm"}).status_code == 201
        assert caller.post(url, {"item": "vm"})["Idempotency-Replayed"] == "true"
        assert items() == {"vm"}
