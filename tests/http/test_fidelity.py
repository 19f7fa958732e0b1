"""I6: what a replay has of the first answer, besides its status, body and usual headers."""

from typing import Any
from urllib.parse import quote

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token, rotate_token
from django.test import Client
from django.urls import path
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import api_view
from rest_framework.response import Response

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.remember import never_replay_body
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE

pytestmark = [pytest.mark.urls(__name__), pytest.mark.once]

FRAMES = "django.middleware.clickjacking.XFrameOptionsMiddleware"


def marked(response: Any) -> Any:
    """What is said beside status, body and headers."""
    response.reason_phrase = "Bought"
    response["X Odd"] = "has a space"
    response.xframe_options_exempt = True
    response.no_envelope = False
    response._csp_update = {"img-src": ["'self'"]}
    response.token = "shown once"
    return response


@csrf_exempt
def function(request: HttpRequest) -> HttpResponse:
    assert request.user.is_authenticated
    return marked(HttpResponse(f"order {Order.objects.create(item='vm').pk}", status=201))


@api_view(["POST"])
def rest(request: Any) -> Response:
    return marked(Response({"id": Order.objects.create(item="vm").pk}, status=201))


@csrf_exempt
@idempotent
@xframe_options_exempt
def framed(request: HttpRequest) -> HttpResponse:
    assert request.user.is_authenticated
    return HttpResponse(status=201)


def token_in(request: HttpRequest, kind: str) -> HttpResponse:
    assert request.user.is_authenticated
    Order.objects.create(item=kind)
    match kind:
        case "page":
            return HttpResponse(f'<input name="csrfmiddlewaretoken" value="{get_token(request)}">')
        case "escaped":
            return HttpResponse(f"token{quote('=')}{get_token(request)}a")
        case "secret":
            return JsonResponse({"csrf": request.META["CSRF_COOKIE"], "t": len(get_token(request))})
        case "compressed":
            page = HttpResponse(b"\x1f\x8b" + bytes([len(get_token(request))]))
            page["Content-Encoding"] = "gzip"
            return page
        case "header":
            return HttpResponse("bought", headers={"X-CSRFToken": get_token(request)})
        case "login":
            rotate_token(request)
    return HttpResponse("A" * 200 + "a page without a token", status=201)


urlpatterns = [
    path("function/", function),
    path("decorated/", csrf_exempt(idempotent(function))),
    path("rest/", rest),
    path("decorated-rest/", idempotent(rest)),
    path("framed/", framed),
    path("token/<kind>/", token_in),
    path("decorated-token/<kind>/", idempotent(token_in)),
]

adapters = pytest.mark.parametrize(
    ("view", "middleware"),
    [("/function/", True), ("/rest/", True), ("/decorated/", False), ("/decorated-rest/", False)],
)


def install(settings: Any, middleware: bool, **policy: Any) -> None:
    ours = [MIDDLEWARE] if middleware else []
    settings.MIDDLEWARE = [FRAMES, *settings.BASE_MIDDLEWARE, *ours]
    settings.IDEMPOTENCY = policy


@adapters
@pytest.mark.parametrize("policy", [{}, {"CODEC": "zlib"}], ids=["plain", "zlib"])
def test_the_reason_odd_headers_and_notes_for_middlewares_come_back(
    view: str, middleware: bool, policy: Any, caller: Caller, settings: Any
) -> None:
    install(settings, middleware, **policy)
    first, retry = caller.post(view), caller.post(view)
    assert (retry.status_code, retry["Idempotency-Replayed"]) == (201, "true")
    for each in (first, retry):
        assert (each.reason_phrase, each["X Odd"]) == ("Bought", "has a space")
        assert "X-Frame-Options" not in each
        assert (each.no_envelope, each._csp_update) == (False, {"img-src": ["'self'"]})
    assert not hasattr(retry, "token")
    del retry["Idempotency-Replayed"]
    assert dict(retry.headers) == dict(first.headers)


def test_what_a_decorator_of_the_view_tells_a_middleware(caller: Caller, settings: Any) -> None:
    install(settings, False)
    for _ in range(2):
        assert "X-Frame-Options" not in caller.post("/framed/")


def test_a_usual_answer_stores_no_attributes(caller: Caller, settings: Any) -> None:
    install(settings, False)
    settings.ROOT_URLCONF = "tests.shop.urls"
    for view in ("/decorated-function/", "/decorated-rest/"):
        caller.post(view, key=view)
    heads = IdempotencyRecord.objects.values_list("response_headers", flat=True)
    assert [head[:2] for head in heads] == ["[["] * 2


@pytest.mark.parametrize(("view", "middleware"), [("/token/", True), ("/decorated-token/", False)])
class TestCsrfTokens:
    """I10: a rendered token is a credential."""

    @pytest.fixture
    def browser(self, caller: Caller, middleware: bool, settings: Any) -> Client:
        install(settings, middleware, STATUS_HEADER="X-Status")
        caller._client.cookies["csrftoken"] = "a1" * 16
        return caller._client

    def send(self, browser: Client, view: str, kind: str) -> Any:
        return browser.post(f"{view}{kind}/", headers={"idempotency-key": "k-1"})

    @pytest.mark.parametrize("kind", ["page", "escaped", "secret", "compressed"])
    def test_a_page_that_holds_one_is_not_stored(
        self, kind: str, view: str, middleware: bool, browser: Client
    ) -> None:
        first, retry = self.send(browser, view, kind), self.send(browser, view, kind)
        assert (first.status_code, first["X-Status"]) == (200, "stored-without-response")
        assert (retry.status_code, retry.json()["original_status"]) == (409, 200)
        assert "CSRF token" in retry.json()["detail"]
        record = IdempotencyRecord.objects.get()
        assert (record.response_omitted, record.response_body) == ("csrf_token", None)
        assert Order.objects.count() == 1

    def test_a_header_that_holds_one_is_left_out(
        self, view: str, middleware: bool, browser: Client
    ) -> None:
        first, retry = self.send(browser, view, "header"), self.send(browser, view, "header")
        assert "X-CSRFToken" in first
        assert (retry.content, "X-CSRFToken" in retry) == (b"bought", False)

    @pytest.mark.parametrize("kind", ["none", "login"])
    def test_other_pages_replay(
        self, kind: str, view: str, middleware: bool, browser: Client
    ) -> None:
        first, retry = self.send(browser, view, kind), self.send(browser, view, kind)
        assert (retry.content, retry["X-Status"]) == (first.content, "replayed")


@csrf_exempt
def shown_once(request: HttpRequest) -> HttpResponse:
    assert request.user.is_authenticated
    status = int(request.GET.get("status", "201"))
    return never_replay_body(HttpResponse("secret", status=status))


@api_view(["POST"])
def rest_shown_once(request: Any) -> Response:
    return never_replay_body(Response("secret", status=int(request.GET.get("status", "201"))))


urlpatterns += [
    path("once/", shown_once),
    path("decorated-once/", csrf_exempt(idempotent(shown_once))),
    path("rest-once/", rest_shown_once),
    path("decorated-rest-once/", idempotent(rest_shown_once)),
]


@pytest.mark.parametrize(
    ("view", "middleware"),
    [
        *(("/once/", True), ("/rest-once/", True)),
        *(("/decorated-once/", False), ("/decorated-rest-once/", False)),
    ],
)
class TestHeaders:
    """What the answer says of its key is true of its retry."""

    NAMES = {"KEY_HEADER": "X-Key", "STATUS_HEADER": "X-Status", "EXPIRES_HEADER": "X-Until"}

    def test_no_replay_is_promised_where_no_body_is_kept(
        self, view: str, middleware: bool, caller: Caller, settings: Any
    ) -> None:
        install(settings, middleware, **self.NAMES)
        first, retry = caller.post(view), caller.post(view)
        assert (first["X-Status"], first["X-Key"]) == ("stored-without-response", "k-1")
        assert "X-Until" not in first
        assert (retry.status_code, retry["X-Status"], retry["X-Key"]) == (409, "refused", "k-1")
        assert retry.json()["original_status"] == 201

    def test_the_key_is_echoed_on_what_is_not_stored(
        self, view: str, middleware: bool, caller: Caller, settings: Any
    ) -> None:
        install(settings, middleware, **self.NAMES)
        refused = caller.post(f"{view}?status=429")
        assert (refused["X-Status"], refused["X-Key"]) == ("not-stored", "k-1")
        assert "X-Until" not in refused
