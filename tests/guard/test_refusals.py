"""What a key cannot switch off: lockouts, quotas, audit rows (I2)."""

import json
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.security import django_auth
from rest_framework.exceptions import NotFound, Throttled
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.remember import do_not_remember
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.shop.views import Broken
from tests.support.adapters import MIDDLEWARE


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


@csrf_exempt
def loses(request: HttpRequest) -> HttpResponse:
    audit("wrong PIN")
    try:
        with transaction.atomic(savepoint=False):
            raise Broken
    except Broken:
        if request.headers.get("X-Wish"):
            transaction.set_rollback(True)
        return HttpResponse(status=403)


urlpatterns += [path("loses/", loses)]


def test_a_refusal_whose_writes_are_lost_is_logged(caller: Caller, caplog: Any) -> None:
    assert caller.post("/loses/", headers={"x-wish": "yes"}).status_code == 403
    assert "is lost" not in caplog.text
    assert caller.post("/loses/").status_code == 403
    assert "what the view wrote for a refusal is lost" in caplog.text
    assert items() == []


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


class Locked(Exception):
    """A project's own, which says nothing of a status."""


class Broke(Exception):
    """Another one."""


def domain(error: Any, context: Any) -> Any:
    status = {Locked: 423, Broke: 400}.get(type(error))
    return exception_handler(error, context) if status is None else Response({}, status=status)


class Domain(APIView):
    def get_exception_handler(self) -> Any:
        return domain

    def post(self, request: Any) -> Response:
        audit("of the view")
        raise {"423": Locked, "400": Broke, "500": Broken}[request.data["status"]]()

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        audit("of the audit")
        return super().finalize_response(*args, **kwargs)


def domain_operation(request: HttpRequest) -> Any:
    audit("of the view")
    raise {"423": Locked, "400": Broke, "500": Broken}[json.loads(request.body)["status"]]()


def ninja_of(name: str) -> NinjaAPI:
    api = NinjaAPI(urls_namespace=name, auth=django_auth)
    for kind, status in ((Locked, 423), (Broke, 400)):
        api.exception_handler(kind)(
            lambda request, error, status=status: HttpResponse(status=status)
        )
    return api


ninja_api, decorated_ninja_api = ninja_of("domain"), ninja_of("decorated-domain")
ninja_api.post("/domain/")(domain_operation)
decorated_ninja_api.post("/domain/")(idempotent(domain_operation))

urlpatterns += [
    path("domain/", Domain.as_view()),
    path("decorated-domain/", idempotent(Domain.as_view())),
    path("ninja/", ninja_api.urls),
    path("decorated-ninja/", decorated_ninja_api.urls),
]


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "decorator"])
class TestHandledByTheProject:
    """The status of an exception of the project's own is known when its handler has answered."""

    @pytest.fixture(autouse=True)
    def _middleware(self, middleware: bool, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, *([MIDDLEWARE] if middleware else [])]

    @pytest.mark.parametrize("url", ["domain/", "ninja/domain/"])
    def test_a_refusal_keeps_what_the_bare_view_keeps(
        self, url: str, middleware: bool, caller: Caller
    ) -> None:
        url = f"/{url}" if middleware else f"/decorated-{url}"
        assert caller.post(url, {"status": "423"}, key=None).status_code == 423
        kept = items()
        assert "of the view" in kept
        Order.objects.all().delete()
        assert caller.post(url, {"status": "423"}).status_code == 423
        assert items() == kept

    @pytest.mark.parametrize("status", ["400", "500"])
    @pytest.mark.parametrize("url", ["domain/", "ninja/domain/"])
    def test_another_answer_keeps_nothing_of_the_view(
        self, url: str, status: str, middleware: bool, caller: Caller
    ) -> None:
        url = f"/{url}" if middleware else f"/decorated-{url}"
        assert caller.post(url, {"status": status}).status_code == int(status)
        is_audited = "ninja" not in url and status == "400"  # an error of the server passes by it
        assert items() == (["of the audit"] if is_audited else [])
