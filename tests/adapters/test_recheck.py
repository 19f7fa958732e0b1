"""``RECHECK``: a success may change what the checks of its retry look at."""

from collections.abc import Callable
from typing import Any

import pytest
from django import urls
from django.contrib.auth.decorators import user_passes_test
from django.contrib.auth.mixins import UserPassesTestMixin
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition
from ninja import NinjaAPI
from rest_framework.decorators import api_view
from rest_framework.permissions import BasePermission
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.ninja_views import copy, create, post, token
from tests.shop.views import answer, rest_answer
from tests.support.adapters import MIDDLEWARE, each_once, usual_and_whole

soon = idempotent(recheck="authentication")


def has_none(user: Any) -> bool:
    """One order per user."""
    return not Order.objects.exists()


one_per_user = user_passes_test(has_none, login_url="/login/")


def version(request: HttpRequest, *args: Any) -> str:
    return f'"{Order.objects.count()}"'


class HasNone(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return not Order.objects.exists()


def new() -> Callable[[HttpRequest], HttpResponse]:
    def bought(request: HttpRequest) -> HttpResponse:
        return answer(request)

    return bought


async def afunction(request: HttpRequest) -> HttpResponse:
    from tests.shop import async_views

    return await async_views.function(request)


class Mixed(UserPassesTestMixin, View):
    raise_exception = True

    def test_func(self) -> bool:
        return not Order.objects.exists()

    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


class DecoratedHandler(Mixed):
    @soon
    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


class Handler(View):
    @method_decorator(one_per_user)
    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


class Rest(APIView):
    permission_classes = [HasNone]

    def post(self, request: Any) -> Any:
        return rest_answer(request)


class Async(View):
    async def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if await Order.objects.aexists():
            return HttpResponse("no", status=403)
        return await super().dispatch(request, *args, **kwargs)  # type: ignore[misc]

    async def post(self, request: HttpRequest) -> HttpResponse:
        return await afunction(request)


@api_view(["POST"])
@one_per_user
def rest_function(request: Any) -> Any:
    return rest_answer(request)


def operations() -> NinjaAPI:
    api = NinjaAPI(urls_namespace="recheck", auth=token)
    idempotent(api, recheck="authentication")
    api.post("/sync/", **post)(one_per_user(copy(create)))
    return api


PLAIN = {
    "function": one_per_user(new()),
    "mixin": Mixed.as_view(),
    "handler": Handler.as_view(),
    "rest": Rest.as_view(),
    "async": Async.as_view(),
}
DECORATED = {
    "decorated-function": one_per_user(soon(new())),
    "decorated-handler": DecoratedHandler.as_view(),
    "decorated-condition": condition(etag_func=version)(soon(new())),
}
CLASSES = {
    "class": soon(type("Own", (Mixed,), {})).as_view(),
    "rest-class": soon(type("OwnRest", (Rest,), {})).as_view(),
    "async-class": soon(type("OwnAsync", (Async,), {})).as_view(),
    "handler-class": soon(type("OwnHandler", (Handler,), {})).as_view(),
}
urlpatterns = [
    *(
        urls.path(f"{name}/", csrf_exempt(view))
        for name, view in {**PLAIN, **DECORATED, **CLASSES}.items()
    ),
    urls.path("rest-function/", soon(rest_function)),
    urls.path("ninja/", operations().urls),
    urls.path("inside/", csrf_exempt(idempotent(condition(etag_func=version)(new())))),
    urls.path("outside/", csrf_exempt(condition(etag_func=version)(idempotent(new())))),
]
ADAPTERS = [
    *((name, True) for name in (*PLAIN, *DECORATED, *CLASSES)),
    *((name, False) for name in CLASSES),
    *((name, middleware) for name in ("rest-function", "ninja/sync") for middleware in (0, 1)),
]


CROSS = [
    (*adapter, atomic_requests)
    for adapter in ADAPTERS
    for atomic_requests in (False, True)
    # Django refuses ATOMIC_REQUESTS for async views.
    if not (atomic_requests and "async" in adapter[0])
]


@pytest.fixture(params=usual_and_whole(each_once(CROSS, lambda each: each[0]), CROSS), ids=str)
def path(request: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, caller: Caller) -> str:
    name, middleware, atomic_requests = request.param
    settings.ROOT_URLCONF = __name__
    settings.IDEMPOTENCY = {"RECHECK": "authentication"} if name in PLAIN else {}
    if middleware:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    monkeypatch.setattr(Caller, "asgi", "async" in name)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)
    return f"/{name}/"


def send(caller: Caller, path: str, key: str = "k-1", item: str = "secret") -> Any:
    return caller.post(path, {"item": item}, key=key, headers={"If-Match": '"0"'})


def test_a_retry_of_a_success_replays_though_its_checks_would_refuse(
    path: str, caller: Caller
) -> None:
    first, retry = send(caller, path), send(caller, path)
    assert (first.status_code, retry.status_code) == (201, 201)
    assert (retry["Idempotency-Replayed"], retry.content) == ("true", first.content)
    assert Order.objects.count() == 1


def test_everything_else_is_checked_as_before(path: str, caller: Caller) -> None:
    send(caller, path)
    for refused in (send(caller, path, key="k-2"), send(caller, path, item="another")):
        assert refused.status_code in (302, 403, 412)
        assert b"secret" not in refused.content
        assert "Idempotency-Replayed" not in refused
    assert Order.objects.count() == 1


def test_somebody_else_is_checked_as_before(path: str, caller: Caller, stranger: Caller) -> None:
    send(caller, path)
    refused = send(stranger, path)
    assert refused.status_code in (302, 403, 412)
    assert b"secret" not in refused.content


@pytest.mark.once
def test_a_revoked_token_is_refused(caller: Caller, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    send(caller, "/rest-class/")
    caller.token.delete()
    assert send(caller, "/rest-class/").status_code == 401


@pytest.mark.once
def test_records_in_a_cache_alone(caller: Caller, settings: Any, use_middleware: None) -> None:
    settings.ROOT_URLCONF = __name__
    settings.IDEMPOTENCY = {"RECHECK": "authentication", "STORE": "cache", "CACHE": "default"}
    assert [send(caller, "/mixin/").status_code for _ in range(2)] == [201, 201]
    assert send(caller, "/mixin/", item="another").status_code == 403
    assert Order.objects.count() == 1


@pytest.mark.once
def test_by_default_the_checks_refuse_the_retry(
    caller: Caller, settings: Any, use_middleware: None
) -> None:
    settings.ROOT_URLCONF = __name__
    for path in ("/function/", "/mixin/", "/handler/", "/rest/", "/outside/"):
        Order.objects.all().delete()
        assert send(caller, path, key=path).status_code == 201
        assert send(caller, path, key=path).status_code in (302, 403, 412)


@pytest.mark.once
class TestPreconditions:
    """RFC 9110, section 13.1.1: a server may answer a change that it has made already."""

    @pytest.fixture(autouse=True)
    def _project(self, settings: Any) -> None:
        settings.ROOT_URLCONF = __name__

    def test_inside_of_the_guard_they_do_not_meet_the_retry(self, caller: Caller) -> None:
        assert [send(caller, "/inside/").status_code for _ in range(2)] == [201, 201]
        assert Order.objects.count() == 1

    def test_one_that_does_not_hold_is_not_remembered(self, caller: Caller) -> None:
        stale = {"headers": {"If-Match": '"7"'}}
        fresh = {"headers": {"If-Match": '"0"'}}
        assert caller.post("/inside/", **stale).status_code == 412
        assert caller.post("/inside/", **fresh).status_code == 201
        assert caller.post("/inside/", **fresh)["Idempotency-Replayed"] == "true"
        assert caller.post("/inside/", **stale)["Idempotency-Replayed"] == "true"
