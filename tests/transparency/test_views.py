"""I15: whoever looks at a guarded view sees the view; a misused decorator says so."""

from inspect import signature
from typing import Any

import pytest
from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.schemas.generators import EndpointEnumerator

from django_idempotency.conf.policy import PolicyError
from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Order
from tests.transparency.project import MARKER, Catalogue, Drf, GuardedCatalogue, router


@pytest.mark.parametrize(("query", "status"), [("", 201), ("?missing", 404)])
def test_async_functions_behind_wsgi(
    query: str, status: int, use_middleware: None, caller: Caller
) -> None:
    """Django runs them on this thread's connection."""
    first, retry = caller.post(f"/unhurried/{query}"), caller.post(f"/unhurried/{query}")
    assert (first.status_code, retry.status_code, retry[MARKER]) == (status, status, "true")
    assert Order.objects.count() == (status == 201)


def test_async_classes_behind_wsgi_are_answered_in_one_way(
    use_middleware: None, caller: Caller
) -> None:
    first, retry = caller.post("/unhurried-class/"), caller.post("/unhurried-class/")
    assert retry.status_code == first.status_code
    assert Order.objects.count() == (first.status_code == 201)


@pytest.mark.parametrize("path", ["/echoes/", "/echoes-rest/"])
def test_parameters_of_urls_have_any_name(path: str, use_middleware: None, caller: Caller) -> None:
    first, retry = caller.post(f"{path}1/2/3/4/5"), caller.post(f"{path}1/2/3/4/5")
    names = ("view", "method", "handler", "act", "dispatch")
    assert first.json() == dict(zip(names, "12345", strict=True)) == retry.json()
    assert retry[MARKER] == "true"


def nothing_special(request: HttpRequest) -> HttpResponse:
    """Documented."""
    return HttpResponse()


async def awaited(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Awaited(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class NotAView:
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class TestMisuse:
    """A misused decorator raises at import."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"retain": 1}, "retain: there is no such option; choose from anonymous, "),
            ({"retention": 5}, "retention: must be a datetime.timedelta, not 5"),
            ({"methods": ["GET"]}, r"methods: must be a list of DELETE, PATCH, POST, PUT, not"),
        ],
    )
    def test_of_options(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(PolicyError, match=message):
            idempotent(**options)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (NotAView, r"cannot guard .*NotAView.*: it is not a view class"),
            (NotAView(), "it is not a view function or class"),
            ("shop.views.order", "cannot guard 'shop.views.order': it is not a view function"),
            (permission_required("shop.add_order")(nothing_special), "The right order is:"),
            (login_required(nothing_special), "above a decorator that checks permissions"),
        ],
    )
    def test_of_targets(self, target: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            idempotent(target)


class TestIdentity:
    """Whoever looks at a guarded view sees the view."""

    def test_a_class_is_the_class(self) -> None:
        own = type("Own", (Drf,), {})
        assert idempotent(own) is own
        view = Catalogue.as_view({"post": "create"}, suffix="List")
        guarded = GuardedCatalogue.as_view({"post": "create"}, suffix="List")
        assert guarded.cls is GuardedCatalogue
        assert issubclass(guarded.cls, Catalogue)
        for name in ("__name__", "__doc__", "csrf_exempt", "initkwargs", "actions"):
            assert getattr(guarded, name) == getattr(view, name)
        assert type(guarded.cls().schema) is type(view.cls().schema)

    @pytest.mark.parametrize(
        "view",
        [
            nothing_special,
            csrf_exempt(nothing_special),
            views.rest_function,
            views.RestView.as_view(),
            views.ClassView.as_view(),
            Catalogue.as_view({"post": "create"}, suffix="List"),
            views.OrderViewSet.extra,
        ],
        ids=lambda view: view.__name__,
    )
    def test_a_function_looks_like_the_function(self, view: Any) -> None:
        guarded = idempotent(view)
        assert guarded is not view
        assert guarded.__wrapped__ is view
        assert signature(guarded) == signature(view)
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            assert getattr(guarded, name) == getattr(view, name)
        kept = {name: value for name, value in vars(view).items() if name != "__wrapped__"}
        assert {**vars(guarded), **kept} == vars(guarded)

    def test_routers_and_schemas_find_the_same(self) -> None:
        found = EndpointEnumerator(patterns=router.urls).get_api_endpoints()
        plain = {(url, method): view for url, method, view in found if "guarded" not in url}
        guarded = {
            (url.replace("guarded-", ""), method): view
            for url, method, view in found
            if "guarded" in url
        }
        assert plain.keys() == guarded.keys()
        assert {view.cls for view in guarded.values()} == {GuardedCatalogue}
        decorated = views.DecoratedMethodsViewSet.get_extra_actions()
        assert {action.__name__: action.mapping for action in decorated} == {
            "extra": {"post": "extra"},
            "other": {"post": "other"},
        }
