"""``KEY_FROM``: a function finds the key where no header carries it."""

import json
from functools import wraps
from typing import Any

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import Permission
from django.core.exceptions import BadRequest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from rest_framework.decorators import action, api_view
from rest_framework.parsers import FileUploadParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller, request_of
from tests.shop import async_views, ninja_views, urls, views
from tests.shop.models import Order
from tests.support.adapters import (
    MIDDLEWARE,
    effect_adapters,
    every_adapter,
    every_adapter_with,
    few_adapters,
    some_adapters,
)

INVALID, AMBIGUOUS = "idempotency_key_invalid", "idempotency_key_ambiguous"
MISSING = "idempotency_key_missing"


def reference(request: Any) -> Any:
    """The field `reference` of the body."""
    asked.append(request)
    if isinstance(request, Request):
        return request.data.get("reference")
    if request.content_type != "application/json":
        return request.POST.get("reference")
    try:
        return json.loads(request.body or b"{}").get("reference")
    except ValueError:
        raise BadRequest from None


asked: list[Any] = []
"""The requests that it was called with."""

ours = idempotent(key=reference)


def closed(view: Any) -> Any:
    """A decorator that may check anything."""

    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        found: HttpResponse = view(request)
        return found

    return checked


class Works(LoginRequiredMixin, View):
    """Checks and works in one method: there is no place between for a guard."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return views.answer(request)


class Methods(ViewSet):
    @ours
    def create(self, request: Any) -> Any:
        return views.rest_answer(request)

    @action(detail=False, methods=["post"])
    @ours
    def extra(self, request: Any) -> Any:
        return views.rest_answer(request)

    @ours
    @action(detail=False, methods=["post"])
    def other(self, request: Any) -> Any:
        return views.rest_answer(request)


@method_decorator(csrf_exempt, name="dispatch")
class Method(View):
    @ours
    def post(self, request: Any) -> HttpResponse:
        return views.answer(request)


class Upload(APIView):
    parser_classes = [FileUploadParser]

    @idempotent(key=lambda request: request.data["file"].name)
    def put(self, request: Any) -> Response:
        Order.objects.create(item=request.data["file"].read().decode())
        return Response({}, status=201)


def rest(request: Any) -> Any:
    return views.rest_answer(request)


def function(request: Any) -> HttpResponse:
    return views.answer(request)


async def afunction(request: Any) -> HttpResponse:
    return await async_views.answer(request)


@csrf_exempt
@ours
def form(request: Any) -> HttpResponse:
    Order.objects.create(item=request.FILES["file"].read().decode())
    return JsonResponse({"sent": request.POST["reference"]}, status=201)


api = NinjaAPI(urls_namespace="keys", auth=ninja_views.token)
post = {"response": ninja_views.ANY}
api.post("/below/", url_name="below", **post)(ours(ninja_views.copy(ninja_views.create)))
ours(api.post("/above/", url_name="above", **post)(ninja_views.copy(ninja_views.create)))
api.post("/async/", url_name="async", **post)(ours(ninja_views.copy(ninja_views.acreate)))
whole = ours(NinjaAPI(urls_namespace="keys-whole", auth=ninja_views.token))
whole.post("/sync/", **post)(ninja_views.copy(ninja_views.create))

OURS = {
    "function": csrf_exempt(ours(function)),
    "class": ours(type("Class", (views.ClassView,), {})).as_view(),
    "around-class": csrf_exempt(ours(views.ClassView.as_view())),
    "method": Method.as_view(),
    "rest": ours(type("Rest", (views.RestView,), {})).as_view(),
    "create": Methods.as_view({"post": "create"}),
    "extra": Methods.as_view({"post": "extra"}),
    "other": Methods.as_view({"post": "other"}),
    "api-view": api_view(["POST"])(ours(rest)),
    "around-api-view": ours(api_view(["POST"])(rest)),
    "async-function": csrf_exempt(ours(afunction)),
    "async-class": ours(type("AsyncClass", (async_views.ClassView,), {})).as_view(),
    "async-rest": ours(type("AsyncRest", (async_views.RestView,), {})).as_view(),
}
NINJA = ["ninja/below", "ninja/above", "ninja/async", "ninja-whole/sync"]

urlpatterns = [
    path("own/ninja/", api.urls),
    path("own/ninja-whole/", whole.urls),
    *(path(f"own/{name}/", view) for name, view in OURS.items()),
    path("form/", form),
    path("upload/", Upload.as_view()),
    path("hidden/", csrf_exempt(transaction.atomic(closed(views.function)))),
    path("works/", csrf_exempt(Works.as_view())),
    path("", include(urls.urlpatterns)),  # type: ignore[arg-type]
]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    asked.clear()


@pytest.fixture
def _setting(settings: Any) -> None:
    settings.IDEMPOTENCY = {"KEY_FROM": reference}


everywhere = pytest.mark.usefixtures("_setting")


def send(caller: Caller, path: str, reference: Any, item: str = "vm", **extra: Any) -> Any:
    sent = {"item": item} if reference is None else {"item": item, "reference": reference}
    return caller.post(path, sent, key=extra.pop("key", None), **extra)


def check_it_holds(caller: Caller, path: str) -> None:
    first = send(caller, path, "order-7")
    assert request_of(first).idempotency.key == "order-7"
    retry = send(caller, path, "order-7")
    assert (first.status_code, retry.status_code) == (201, 201)
    assert (retry.content, retry["Idempotency-Replayed"]) == (first.content, "true")
    assert send(caller, path, "order-7", "other").status_code == 422
    assert send(caller, path, "order-8").content != first.content
    assert Order.objects.count() == 2


def refused(response: Any) -> tuple[int, str]:
    return response.status_code, json.loads(response.content)["code"]


@everywhere
@every_adapter
def test_the_key_is_found_in_the_request(adapter: str, caller: Caller) -> None:
    check_it_holds(caller, adapter)


@pytest.mark.parametrize("middleware", [False, True], ids=["alone", "middleware"])
@pytest.mark.parametrize("name", [*OURS, *NINJA])
def test_a_decorator_has_its_own_function(
    name: str, middleware: bool, caller: Caller, settings: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Caller, "asgi", "async" in name)
    if middleware:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    check_it_holds(caller, f"/own/{name}/")


@every_adapter
def test_the_function_may_ask_the_database(adapter: str, caller: Caller, settings: Any) -> None:
    """On the request's thread and connection, before the attempt's transaction or in Django's."""

    def asks(request: Any) -> Any:
        return f"{reference(request)} of {caller.user.groups.count()} groups"

    settings.IDEMPOTENCY = {"KEY_FROM": asks}
    first, retry = (send(caller, adapter, "order-7") for _ in range(2))
    assert (first.status_code, retry.content) == (201, first.content)
    assert request_of(first).idempotency.key == "order-7 of 0 groups"
    assert Order.objects.count() == 1


@everywhere
@effect_adapters
def test_in_non_atomic_mode(adapter: str, caller: Caller) -> None:
    first, retry = (send(caller, adapter, "order-7") for _ in range(2))
    assert first.status_code < 300
    assert (retry.content, retry["Idempotency-Replayed"]) == (first.content, "true")
    assert send(caller, adapter, "order-7", "other").status_code == 422
    assert IdempotencyRecord.objects.get().key == "order-7"


@everywhere
@every_adapter
def test_without_a_key_nothing_is_guarded(adapter: str, caller: Caller) -> None:
    """I9: no claim, no record; the view knows."""
    for _ in range(2):
        response = send(caller, adapter, None)
        assert response.status_code == 201
        assert not request_of(response).idempotency
        assert "it has no key" in repr(request_of(response).idempotency)
    assert Order.objects.count() == 2
    assert not IdempotencyRecord.objects.exists()


@everywhere
@every_adapter
def test_a_failing_view_without_a_key_fails_as_ever(adapter: str, caller: Caller) -> None:
    sent = {"outcome": "raise 404"}
    assert caller.post(adapter, sent, key=None).status_code == 404
    undone = connection.settings_dict["ATOMIC_REQUESTS"] and "ninja" not in adapter  # as it does
    assert Order.objects.count() == (0 if undone else 1)


@everywhere
@every_adapter_with("value", ["", "é", "a\nb", " k", "k" * 256, True, 1.5, ["k"], {"k": "k"}])
def test_a_malformed_key_gets_the_error_that_it_always_gets(
    adapter: str, value: Any, caller: Caller
) -> None:
    """I7: whatever a client sends, it is no error of the server."""
    assert refused(send(caller, adapter, value)) == (400, INVALID)
    assert not Order.objects.exists()
    assert not IdempotencyRecord.objects.exists()


@everywhere
@few_adapters
def test_a_key_need_not_be_spelled_as_a_header(adapter: str, caller: Caller) -> None:
    for value in ('a, "b"', 7, "1a0c4a5e-6c7e-4b8b-9d0e-2f3a4b5c6d7e"):
        first, retry = (send(caller, adapter, value) for _ in range(2))
        assert (first.status_code, retry.content) == (201, first.content)
        assert request_of(first).idempotency.key == str(value)


@everywhere
@every_adapter
def test_header_and_function_agree_or_the_request_is_refused(adapter: str, caller: Caller) -> None:
    first = send(caller, adapter, "order-7", key='"order-7"')
    assert first.status_code == 201
    assert send(caller, adapter, "order-7").content == first.content
    assert refused(send(caller, adapter, "order-7", key="order-8")) == (400, AMBIGUOUS)
    assert refused(send(caller, adapter, "order-7", key="not a key")) == (400, INVALID)
    # The header alone is a key as ever.
    for _ in range(2):
        by_header = send(caller, adapter, None, key="order-9")
    assert by_header["Idempotency-Replayed"] == "true"
    assert Order.objects.count() == 2


@every_adapter
def test_required_is_about_both(adapter: str, caller: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY = {"KEY_FROM": reference, "REQUIRED": True}
    response = send(caller, adapter, None)
    assert refused(response) == (400, MISSING)
    assert "header, or the field `reference` of the body" in response.json()["detail"]
    assert not Order.objects.exists()
    assert send(caller, adapter, "order-7").status_code == 201
    assert send(caller, adapter, None, key="order-8").status_code == 201


@some_adapters
def test_no_header_carries_keys(adapter: str, caller: Caller, settings: Any) -> None:
    """``HEADER`` is ``None``: what senders put there by themselves counts for nothing."""
    settings.IDEMPOTENCY = {"KEY_FROM": reference, "HEADER": None}
    first = send(caller, adapter, "order-7", key="by-the-browser")
    assert send(caller, adapter, "order-7", key="another").content == first.content
    for _ in range(2):
        assert "Idempotency-Replayed" not in send(caller, adapter, None, key="k")
    settings.IDEMPOTENCY = {"KEY_FROM": reference, "HEADER": None, "REQUIRED": True}
    response = send(caller, adapter, None, key="k")
    assert refused(response) == (400, MISSING)
    assert response.json()["title"] == "The idempotency key is missing"


@some_adapters
def test_policies_by_path_have_their_own(adapter: str, caller: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY = {"POLICIES": {f"^{adapter}$": {"KEY_FROM": reference}}}
    check_it_holds(caller, adapter)
    settings.IDEMPOTENCY = {"POLICIES": {f"^{adapter}else": {"KEY_FROM": reference}}}
    assert "Idempotency-Replayed" not in send(caller, adapter, "order-7")


@everywhere
@every_adapter
def test_the_function_gets_the_request_of_the_view(adapter: str, caller: Caller) -> None:
    """It runs when the caller is known, and a request of Django REST framework's is parsed."""
    send(caller, adapter, "order-7")
    (request,) = asked
    is_rest = hasattr(request, "_request")
    assert is_rest == isinstance(request, Request)
    if is_rest:
        assert request.user == caller.user
        assert request.successful_authenticator
    elif "ninja" in adapter:
        assert request.auth == caller.user


@everywhere
@pytest.mark.parametrize(
    ("path", "middleware"),
    [
        ("/permitted-rest/", True),
        ("/decorated-permitted-rest/", False),
        ("/permitted-function/", True),
        ("/decorated-permitted-function/", True),
        ("/async-permitted-function/", True),
    ],
)
def test_nobody_is_asked_for_a_caller_who_is_refused(
    path: str, middleware: bool, caller: Caller, settings: Any, monkeypatch: Any
) -> None:
    """I5: first who it is and whether they may, then which key."""
    monkeypatch.setattr(Caller, "asgi", "async" in path)
    if middleware:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    assert send(caller, path, ["not a key"]).status_code == 403
    assert asked == []
    caller.user.user_permissions.add(Permission.objects.get(codename="add_order"))
    assert refused(send(caller, path, ["not a key"])) == (400, INVALID)
    first = send(caller, path, "order-7")
    assert send(caller, path, "order-7").content == first.content
    caller.user.user_permissions.clear()
    assert send(caller, path, "order-7").status_code == 403


@everywhere
@few_adapters
def test_a_function_that_raises_raises_for_the_view(adapter: str, caller: Caller) -> None:
    """A body that is no JSON gets what the bare view would answer."""
    response = caller.post(adapter, "{", key=None)
    assert response.status_code == 400
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("middleware", [False, True], ids=["alone", "middleware"])
def test_a_form_with_files_is_read_and_compared(
    middleware: bool, caller: Caller, settings: Any
) -> None:
    """What the function has read can be read again, by the fingerprint and by the view."""
    if middleware:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]

    def upload(content: bytes) -> Any:
        sent = {"reference": "order-7", "file": SimpleUploadedFile("a.txt", content)}
        return caller._client.post("/form/", sent)

    first, retry = upload(b"vm"), upload(b"vm")
    assert (first.status_code, retry.content) == (201, first.content)
    assert retry["Idempotency-Replayed"] == "true"
    assert upload(b"other").status_code == 422
    assert [each.item for each in Order.objects.all()] == ["vm"]


def test_files_for_a_handler_that_is_decorated_alone(caller: Caller) -> None:
    """Django REST framework parses them for the function, before the guard digests them."""
    headers = {"authorization": f"Token {caller.token.key}"}

    def send(content: bytes) -> Any:
        sent = {"item": "vm", "reference": "r-1", "file": SimpleUploadedFile("a.txt", content)}
        return caller._client.post("/own/create/", sent, headers=headers)

    def upload(content: bytes) -> Any:
        attached = {"content-disposition": 'attachment; filename="a.txt"'}
        kind = "application/octet-stream"
        return caller._client.put("/upload/", content, kind, headers=headers | attached)

    for sends in (send, upload):
        first, retry = sends(b"vm"), sends(b"vm")
        assert (first.status_code, retry.content) == (201, first.content)
        assert retry["Idempotency-Replayed"] == "true"
        assert sends(b"other").status_code == 422


def test_a_response_without_a_key_is_nobody_elses(rf: RequestFactory) -> None:
    """I15: who renders it, and when, is Django's business."""
    page = idempotent(key=lambda request: None)(
        lambda request: TemplateResponse(request, "order.html")
    )
    assert not page(rf.post("/")).is_rendered


@everywhere
@pytest.mark.usefixtures("use_middleware")
@pytest.mark.parametrize("path", ["/hidden/", "/works/"])
def test_views_that_cannot_be_guarded_run_without_a_key(path: str, caller: Caller) -> None:
    """Keys are for some requests; the others see no difference."""
    assert send(caller, path, None).status_code == 201
    assert send(caller, path, "order-7").status_code == 500
    assert send(caller, path, None, key="order-7").status_code == 500
    assert Order.objects.count() == 1


@everywhere
@pytest.mark.usefixtures("use_middleware")
def test_a_view_that_cannot_be_guarded_refuses_malformed_keys(caller: Caller) -> None:
    assert refused(send(caller, "/hidden/", ["k"])) == (400, INVALID)


@pytest.mark.usefixtures("use_middleware")
@pytest.mark.parametrize("path", ["/permitted-function/", "/permitted-rest/"])
def test_a_replay_before_the_checks_finds_its_key(path: str, caller: Caller, settings: Any) -> None:
    """``RECHECK``: the caller is known, and may have lost a permission by the success."""
    settings.IDEMPOTENCY = {"KEY_FROM": reference, "RECHECK": "authentication"}
    permission = Permission.objects.get(codename="add_order")
    caller.user.user_permissions.add(permission)
    first = send(caller, path, "order-7")
    caller.user.user_permissions.clear()
    assert send(caller, path, "order-7").content == first.content
    assert send(caller, path, "order-8").status_code == 403
    assert send(caller, path, None).status_code == 403


@pytest.mark.usefixtures("use_middleware")
def test_no_function_no_cost(caller: Caller, settings: Any) -> None:
    """I9: a path without one does not pay for a path with one."""
    settings.IDEMPOTENCY = {"POLICIES": {"^/rest/": {"KEY_FROM": reference}}}
    with CaptureQueriesContext(connection) as queries:
        response = send(caller, "/function/", "order-7")
    assert response.status_code == 201
    assert asked == []
    assert not any("idempotency" in each["sql"] for each in queries)
