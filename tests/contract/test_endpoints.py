"""What is said of an endpoint is what happens there."""

import sys
from functools import partial
from typing import Any

import pytest
from adrf.decorators import api_view as async_api_view_of
from django.contrib import admin
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import URLResolver, include, path, re_path
from django.urls.resolvers import RegexPattern
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.generic import TemplateView
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.viewsets import ModelViewSet

from django_idempotency.contract.endpoints import (
    ADMIN,
    Coverage,
    Endpoint,
    Protection,
    endpoints,
    protection_of,
)
from django_idempotency.contract.routes import routes, write_methods
from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.views import RetryGuideView
from tests.conftest import Caller
from tests.shop import async_views, urls, views
from tests.shop.models import Order
from tests.support.adapters import DECORATED, MIDDLEWARE, PLAIN
from tests.support.checking import check, closed

pytestmark = pytest.mark.once


@idempotency_exempt(reason="its owner says so")
class ExemptClass(views.ClassView):
    pass


class HeirOfTheExempt(ExemptClass):
    pass


@idempotent
class GuardedAfterAll(ExemptClass):
    pass


@idempotent(replay_header="X-Class", methods=["POST", "PUT"])
class Mixed(views.RestView):
    """Of four methods two are guarded, and one by its own policy."""

    @idempotent(replay_header="X-Handler")
    def put(self, request: Any) -> HttpResponse:
        return self.post(request)

    def patch(self, request: Any) -> HttpResponse:
        return self.post(request)

    @idempotency_exempt(reason="deletes twice")
    def delete(self, request: Any) -> HttpResponse:
        return self.post(request)


@idempotency_exempt(reason="but for one handler")
class ExemptButOne(views.ClassView):
    @idempotent
    def put(self, request: HttpRequest) -> HttpResponse:
        return self.post(request)


@method_decorator(idempotent(replay_header="X-Method"), name="post")
class ByMethodDecorator(views.ClassView):
    pass


@method_decorator(csrf_exempt, name="dispatch")
class Dispatcher(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return views.answer(request)


class DispatcherBehindLogin(LoginRequiredMixin, Dispatcher):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().dispatch(request, *args, **kwargs)


@async_api_view_of(["POST"])
@idempotent(replay_header="X-Handler")
async def async_api_view(request: Any) -> Response:
    status, body = await async_views.buy(request.data)
    return Response(body, status=status)


hidden = csrf_exempt(transaction.atomic(closed(views.function)))
twice = idempotent(replay_header="X-Outer")(
    idempotent(replay_header="X-Inner", retry_after=7)(views.ClassView.as_view())
)

EXTRA = [
    path("exempt-class/", ExemptClass.as_view()),
    path("heir/", HeirOfTheExempt.as_view()),
    path("guarded-after-all/", GuardedAfterAll.as_view()),
    path("mixed/", Mixed.as_view()),
    path("exempt-but-one/", ExemptButOne.as_view()),
    path("by-method-decorator/", ByMethodDecorator.as_view()),
    path("async-api-view/", async_api_view),
    path("exempt-view/", idempotency_exempt(reason="see the URLconf")(csrf_exempt(views.function))),
    path("exempt-view-of-class/", idempotency_exempt(views.ClassView.as_view())),
    path("exempt-view-of-guarded/", idempotency_exempt(views.DecoratedClassView.as_view())),
    path("decorated-view/", csrf_exempt(idempotent(views.ClassView.as_view()))),
    path("twice/", csrf_exempt(twice)),
    path("twice-function/", csrf_exempt(idempotent(retry_after=7)(idempotent(views.function)))),
    path("dispatcher/", Dispatcher.as_view()),
    path("post-only/", csrf_exempt(require_POST(views.function))),
    path("put-only/", csrf_exempt(idempotent(methods=["PUT"])(views.function))),
    path("posts-to-class/", csrf_exempt(require_POST(Mixed.as_view()))),
    path("outside/<int:number>/", lambda request, number: views.answer(request)),
    path("left-out/", views.function),
    path("left-out-class/", views.DecoratedClassView.as_view()),
]
EXTRA += [
    path("hidden/", hidden),
    path("dispatcher-behind-login/", DispatcherBehindLogin.as_view()),
]
OTHERS = {
    *("permitted-function/", "decorated-permitted-function/", "exempt-function/"),
    *("streaming-function/", "csrf-function/", "exempt-rest-function/", "permitted-rest/"),
    *("decorated-permitted-rest/", "drf-errors/", "required/", "orders/"),
    *("ninja/", "ninja-guarded/", "async-decorated-rest-function/"),
}
SHOP = {*OTHERS, *(adapter.lstrip("/") for adapter in (*PLAIN, *DECORATED))}
urlpatterns = [
    *(each for each in urls.urlpatterns if str(each.pattern) in SHOP),
    *EXTRA,
    re_path("^nested/v[0-9]/", include(EXTRA)),
]
ROUTES = list(routes(URLResolver(RegexPattern("^/"), urlpatterns)))
SETTINGS = {"PATHS": [r"^/(?!outside/)"], "EXEMPT_PATHS": {"^/left-out": "the settings say so"}}


@pytest.fixture
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.IDEMPOTENCY = SETTINGS


@pytest.fixture
def boss(caller: Caller) -> Caller:
    caller.user.is_superuser = True
    caller.user.save()
    return caller


def said() -> dict[str, tuple[Coverage, str]]:
    """What is said of each endpoint, and by which header its replays are known."""
    protections = {
        f"{method} {route.example}": protection_of(route.view, method, route.example)
        for route in ROUTES
        for method in write_methods(route.view)
        if "ninja" not in route.path or "/async" not in route.path  # these want ASGI
    }
    return {
        name: (coverage_seen(each), each.policy.replay_header if each.policy else "")
        for name, each in protections.items()
    }


def coverage_seen(protection: Protection) -> Coverage:
    """From outside, whatever is not guarded looks the same."""
    return Coverage.UNGUARDED if protection.coverage is Coverage.EXEMPT else protection.coverage


def seen(caller: Caller, endpoint: str) -> tuple[Coverage, str]:
    method, address = endpoint.split()
    first, retry = (
        caller.send(method.lower(), address, {"item": "vm"}, key=f"{method}{address}")
        for _ in range(2)
    )
    if first.status_code == 500:
        return Coverage.FAILS, "Idempotency-Replayed"
    assert first.status_code == 201, (endpoint, first)
    marker = next((name for name in MARKERS if name in retry), "")
    if retry.status_code == 409:  # a streaming response is remembered without its body
        return Coverage.GUARDED, "Idempotency-Replayed"
    return Coverage.GUARDED if b"".join(retry) == b"".join(first) else Coverage.UNGUARDED, marker


MARKERS = ["Idempotency-Replayed", "X-Class", "X-Handler", "X-Method", "X-Outer", "X-Inner"]


@pytest.mark.usefixtures("project")
@pytest.mark.broad
class TestEveryAdapter:
    @pytest.mark.parametrize("middlewares", [[], [MIDDLEWARE]], ids=["without", "with"])
    def test_what_is_said_to_be_guarded_replays_and_nothing_else(
        self, middlewares: list[str], boss: Caller, settings: Any
    ) -> None:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, *middlewares]
        expected = said()
        assert {endpoint: seen(boss, endpoint) for endpoint in expected} == expected

    def test_marks_that_matter(self, settings: Any) -> None:
        """A few by hand: what is said and what is seen could be wrong together."""
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        expected = {
            "POST /function/": Coverage.GUARDED,
            "POST /exempt-class/": Coverage.UNGUARDED,
            "POST /heir/": Coverage.UNGUARDED,
            "POST /guarded-after-all/": Coverage.GUARDED,
            "DELETE /mixed/": Coverage.UNGUARDED,
            "PATCH /mixed/": Coverage.UNGUARDED,
            "PUT /exempt-but-one/": Coverage.GUARDED,
            "POST /left-out/": Coverage.UNGUARDED,
        }
        found = said()
        assert {endpoint: found[endpoint][0] for endpoint in expected} == expected

    def test_all_adapters_are_among_them(self) -> None:
        assert {*PLAIN, *DECORATED} <= {route.path for route in ROUTES}


class Api(ModelViewSet):
    queryset = Order.objects.all()

    @action(detail=True, methods=["post"])
    @idempotency_exempt
    def ship(self, request: Any, pk: str) -> Response:
        return Response()


class TestMethods:
    """Which writes a view takes; what takes none is no endpoint."""

    @pytest.mark.parametrize(
        ("view", "methods"),
        [
            (views.function, "POST PUT PATCH DELETE"),
            (require_POST(views.function), "POST"),
            (csrf_exempt(require_http_methods(["GET", "PUT", "POST"])(views.function)), "POST PUT"),
            (require_safe(views.function), ""),
            (TemplateView.as_view(), ""),
            (View.as_view(), ""),
            (Dispatcher.as_view(), "POST PUT PATCH DELETE"),
            (views.ClassView.as_view(), "POST"),
            (views.ClassView.as_view(http_method_names=["get"]), ""),
            (require_safe(views.ClassView.as_view()), ""),
            (views.rest_function, "POST"),
            (Api.as_view({"post": "create", "get": "list", "delete": "destroy"}), "POST DELETE"),
            (Api.as_view({"post": "create"}, http_method_names=["get"]), ""),
        ],
    )
    def test_writes(self, view: Any, methods: str) -> None:
        assert " ".join(write_methods(view)) == methods


class TestEndpoints:
    def found(self, *patterns: Any) -> dict[str, Endpoint]:
        resolver = URLResolver(RegexPattern("^/"), patterns)
        return {f"{each.method} {each.path}": each for each in endpoints(resolver)}

    def test_routes_are_named_for_people(self) -> None:
        found = self.found(
            path("orders/<uuid:order>/", views.ClassView.as_view()),
            re_path(r"^old/(?P<year>[0-9]{4})/([a-z]+)$", views.rest_function),
            path("by-hand/", partial(views.function)),
        )
        assert {name: each.view for name, each in found.items()} == {
            "POST /orders/{order}/": "tests.shop.views.ClassView.post",
            "POST /old/{year}/{_0}": "tests.shop.views.rest_function",
            **dict.fromkeys(
                [f"{method} /by-hand/" for method in ("POST", "PUT", "PATCH", "DELETE")],
                "functools.partial",
            ),
        }

    def test_a_suffix_for_the_format_is_not_listed_again(self) -> None:
        router = DefaultRouter()
        router.register("orders", Api)
        assert sorted(self.found(*router.urls)) == [
            "DELETE /orders/{pk}/",
            "PATCH /orders/{pk}/",
            "POST /orders/",
            "POST /orders/{pk}/ship/",
            "PUT /orders/{pk}/",
        ]

    def test_an_exemption_counts_if_somebody_gave_a_reason(self) -> None:
        found = self.found(
            path("bare/", idempotency_exempt(views.ClassView.as_view())),
            path("reason/", idempotency_exempt(reason="read only")(views.ClassView.as_view())),
            path("open/", views.ClassView.as_view()),
            path("guarded/", views.DecoratedClassView.as_view()),
        )
        assert {name: each.is_settled for name, each in found.items()} == {
            "POST /bare/": False,
            "POST /reason/": True,
            "POST /open/": False,
            "POST /guarded/": True,
        }

    def test_django_s_admin_is_exempt_as_a_whole(self, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        assert {
            each.protection.reason for each in self.found(path("admin/", admin.site.urls)).values()
        } == {ADMIN}


class Many:
    """A URLconf with many routes, each with a format suffix."""

    def __init__(self, number: int) -> None:
        view = views.RestView.as_view()
        self.urlpatterns = [
            path(f"{each}/<int:pk>{end}", view)
            for each in range(number)
            for end in ("/", ".<format>")
        ]


class TestCost:
    """The retry guide is public, and several checks ask for the list."""

    @pytest.fixture
    def asked(self, monkeypatch: Any, settings: Any) -> list[str]:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        settings.ROOT_URLCONF = Many(3)
        paths: list[str] = []

        def watched(view: Any, method: str, path: str) -> Protection:
            paths.append(path)
            return protection_of(view, method, path)

        monkeypatch.setattr("django_idempotency.contract.endpoints.protection_of", watched)
        return paths

    def test_the_list_grows_with_the_routes_and_not_with_their_square(self, settings: Any) -> None:
        def calls_for(number: int) -> int:
            calls = 0

            def count(frame: Any, event: str, arg: Any) -> None:
                nonlocal calls
                calls += event in {"call", "c_call"}

            resolver = URLResolver(RegexPattern("^/"), Many(number).urlpatterns)
            sys.setprofile(count)
            try:
                assert len(endpoints(resolver)) == number
            finally:
                sys.setprofile(None)
            return calls

        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        calls_for(80)  # regular expressions are compiled once
        assert calls_for(80) < 2.1 * calls_for(40)

    def test_it_is_made_once_for_all_checks_and_pages(self, asked: list[str]) -> None:
        check()
        assert len(asked) == 2 * 3
        check()
        RetryGuideView().guide()
        assert len(asked) == 2 * 3

    @pytest.mark.parametrize(
        "change",
        [
            {"IDEMPOTENCY": {"REQUIRED": True}},
            {"MIDDLEWARE": []},
            {"ROOT_URLCONF": Many(3)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_it_follows_the_settings(
        self, change: dict[str, Any], asked: list[str], settings: Any
    ) -> None:
        before = endpoints()
        assert endpoints() == before
        for name, value in change.items():
            setattr(settings, name, value)
        after = endpoints()
        assert len(asked) == 2 * 2 * 3
        assert (after == before) is ("ROOT_URLCONF" in change)
