"""What a key cannot switch off: lockouts, quotas, audit rows (I2)."""

import json
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import NotFound, Throttled
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.remember import do_not_remember
from tests.conftest import Caller, in_thread, row_locks
from tests.doors import MIDDLEWARE
from tests.shop.models import Order
from tests.shop.views import Broken


def audit(item: str) -> None:
    Order.objects.create(item=item)


def guess(data: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Three wrong PINs, and the right one does not help any more."""
    if Order.objects.filter(item="wrong PIN").count() >= 3:
        return 423, {}
    if data["pin"] == "1234":
        return 201, {}
    audit("wrong PIN")
    return 403, {}


@csrf_exempt
def pin(request: HttpRequest) -> HttpResponse:
    status, body = guess(json.loads(request.body))
    return JsonResponse(body, status=status)


@csrf_exempt
def raises(request: HttpRequest) -> HttpResponse:
    data = json.loads(request.body)
    audit("of the view")
    kinds = {"403": PermissionDenied, "404": Http404, "500": Broken}
    error = kinds[data["status"]]()
    raise do_not_remember(error) if data.get("forget") else error


class RestPin(APIView):
    def post(self, request: Any) -> Response:
        status, body = guess(request.data)
        return Response(body, status=status)


class RestRaises(APIView):
    """Its exceptions are handled within the view, and that is written down."""

    def post(self, request: Any) -> Response:
        audit("of the view")
        raise {"404": NotFound, "429": Throttled, "500": Broken}[request.data["status"]]()

    def handle_exception(self, error: Exception) -> Response:
        handling()
        audit("of the handler")
        response: Response = super().handle_exception(error)
        return response


def handling() -> None:
    """Happens while an exception is handled, unless a test says otherwise."""


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    handling()
    audit("of the handler")
    return HttpResponse("not here", status=404)


handler404 = not_found

urlpatterns = [
    path("pin/", pin),
    path("decorated-pin/", csrf_exempt(idempotent(pin))),
    path("rest-pin/", RestPin.as_view()),
    path("decorated-rest-pin/", idempotent(RestPin.as_view())),
    path("raises/", raises),
    path("decorated-raises/", csrf_exempt(idempotent(raises))),
    path("rest-raises/", RestRaises.as_view()),
    path("decorated-rest-raises/", idempotent(RestRaises.as_view())),
]


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic-requests"], autouse=True)
def atomic_requests(request: Any, settings: Any, monkeypatch: Any) -> bool:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)
    return bool(request.param)


def items() -> list[str]:
    return sorted(Order.objects.values_list("item", flat=True))


@pytest.mark.parametrize("url", ["/pin/", "/decorated-pin/", "/rest-pin/", "/decorated-rest-pin/"])
def test_a_fresh_key_per_guess_does_not_get_around_a_lockout(url: str, caller: Caller) -> None:
    for number in range(3):
        assert caller.post(url, {"pin": "0000"}, key=f"guess-{number}").status_code == 403
    assert caller.post(url, {"pin": "1234"}, key="the-right-one").status_code == 423


class TestRaised:
    @pytest.mark.parametrize("url", ["/raises/", "/decorated-raises/"])
    def test_a_refusal_keeps_its_writes_unless_django_undoes_them(
        self, url: str, atomic_requests: bool, caller: Caller
    ) -> None:
        for _ in range(2):
            assert caller.post(url, {"status": "403"}).status_code == 403
        assert items() == ([] if atomic_requests else ["of the view"] * 2)

    @pytest.mark.parametrize("url", ["/rest-raises/", "/decorated-rest-raises/"])
    def test_in_rest_framework_too(self, url: str, atomic_requests: bool, caller: Caller) -> None:
        assert caller.post(url, {"status": "429"}).status_code == 429
        assert items() == ([] if atomic_requests else ["of the handler", "of the view"])

    @pytest.mark.parametrize("url", ["/raises/", "/decorated-raises/", "/rest-raises/"])
    def test_an_error_leaves_nothing_of_the_view(self, url: str, caller: Caller) -> None:
        assert caller.post(url, {"status": "500"}).status_code == 500
        assert "of the view" not in items()

    @pytest.mark.parametrize("url", ["/raises/", "/decorated-raises/"])
    def test_the_view_may_ask_for_the_undoing(self, url: str, caller: Caller) -> None:
        assert caller.post(url, {"status": "403", "forget": True}).status_code == 403
        assert items() == []

    @pytest.mark.parametrize("url", ["/raises/", "/rest-raises/"])
    def test_what_handles_a_stored_404_may_write(
        self, url: str, atomic_requests: bool, caller: Caller
    ) -> None:
        """As with the bare view: DRF handles within Django's block, which undoes it."""
        first, retry = caller.post(url, {"status": "404"}), caller.post(url, {"status": "404"})
        assert (retry.content, retry["Idempotency-Replayed"]) == (first.content, "true")
        undone = atomic_requests and url == "/rest-raises/"
        assert items() == ([] if undone else ["of the handler"])

    @row_locks
    @pytest.mark.parametrize("url", ["/raises/", "/rest-raises/", "/decorated-rest-raises/"])
    def test_no_duplicate_runs_while_its_exception_is_handled(
        self, url: str, caller: Caller, monkeypatch: Any
    ) -> None:
        statuses: list[int] = []

        def rival() -> None:
            monkeypatch.setattr(f"{__name__}.handling", lambda: None)
            duplicate = in_thread(lambda: caller.post(url, {"status": "404"})).result()
            statuses.append(duplicate.status_code)

        monkeypatch.setattr(f"{__name__}.handling", rival)
        assert caller.post(url, {"status": "404"}).status_code == 404
        assert statuses == [409]
        assert IdempotencyRecord.objects.get().attempt == 1
        assert caller.post(url, {"status": "404"})["Idempotency-Replayed"] == "true"
