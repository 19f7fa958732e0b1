"""I5: checks that decorate a handler refuse a replay as they refuse the request."""

from contextlib import contextmanager
from functools import lru_cache, partial
from inspect import unwrap
from typing import Any

import pytest
from django import urls
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Permission
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.translation import override
from django.views import View
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition, require_POST
from django.views.decorators.vary import vary_on_cookie
from ninja import NinjaAPI

from django_idempotency.adapters.position import position_of
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop import checked
from tests.shop.models import Order
from tests.shop.ninja_views import copy, create, post
from tests.support.adapters import MIDDLEWARE, each_once, usual_and_whole

GUARDED_BY_MIDDLEWARE = [
    *(f"/function/{name}/" for name in checked.FUNCTIONS),
    *(f"/class/{name}/" for name in checked.CLASSES),
    *("/set/create/", "/set/extra/", "/rest-function/tested/", "/rest-function/own/"),
    "/ninja/sync/",
]
DECORATED = [
    *(f"/decorated/{name}/" for name in checked.CLASSES),
    *("/decorated-set/create/", "/decorated-set/extra/", "/outside-decorated-rest-function/"),
    "/decorated-ninja/sync/",
]
ADAPTERS = [
    (path, middleware, atomic_requests)
    for atomic_requests in (False, True)
    for middleware, paths in ((True, GUARDED_BY_MIDDLEWARE + DECORATED), (False, DECORATED))
    for path in paths
    if not (atomic_requests and "async" in path)
]
FEW = ("/function/tested/", "/function/own/", "/class/method/", "/decorated/rest/")
FEW_ADAPTERS = [adapter for adapter in ADAPTERS if adapter[0] in FEW]
EACH_ADAPTER = each_once(ADAPTERS, lambda adapter: adapter[0])
ONE_OF_FEW = each_once(FEW_ADAPTERS, lambda adapter: adapter[0])


def through(usual: list[Any], whole: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "path",
        usual_and_whole(usual, whole),
        ids=lambda adapter: f"{adapter[0].strip('/')}-{adapter[1]}-{adapter[2]}",
        indirect=True,
    )


few_adapters = through(ONE_OF_FEW, ADAPTERS)
every_adapter = through(EACH_ADAPTER, ADAPTERS)


@pytest.fixture
def path(request: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, caller: Caller) -> str:
    path, middleware, atomic_requests = request.param
    settings.ROOT_URLCONF = "tests.shop.checked"
    if middleware:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    monkeypatch.setattr(Caller, "asgi", "async" in path)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)
    caller.user.user_permissions.add(Permission.objects.get(codename="add_order"))
    checked.asked.clear()
    return path


@every_adapter
def test_a_removed_permission_refuses_the_replay(path: str, caller: Caller) -> None:
    first = caller.post(path, {"item": "secret"})
    replay = caller.post(path, {"item": "secret"})
    assert (first.status_code, replay.status_code) == (201, 201)
    assert (replay["Idempotency-Replayed"], replay.content) == ("true", first.content)
    assert replay.get("X-Seen") == first.get("X-Seen")
    caller.user.user_permissions.clear()
    refused = caller.post(path, {"item": "secret"})
    assert refused.status_code in (302, 403)
    assert b"secret" not in refused.content
    assert "Idempotency-Replayed" not in refused
    assert Order.objects.count() == 1


@every_adapter
def test_who_is_refused_claims_nothing(path: str, caller: Caller) -> None:
    caller.user.user_permissions.clear()
    assert caller.post(path).status_code in (302, 403)
    assert not IdempotencyRecord.objects.exists()
    assert not Order.objects.exists()


@every_adapter
def test_a_check_is_asked_once_per_request(path: str, caller: Caller) -> None:
    """But for a guard that begins outside of it: that has to ask before the handler does."""
    first = 2 if "transaction-outside" in path else 1
    caller.post(path)
    assert checked.asked == ["ada.lovelace"] * first
    caller.post(path)
    assert checked.asked == ["ada.lovelace"] * (first + 1)


@few_adapters
def test_a_changed_body_and_a_bad_key_are_refused_as_ever(path: str, caller: Caller) -> None:
    caller.post(path, {"item": "secret"})
    assert caller.post(path, {"item": "another"}).status_code == 422
    assert caller.post(path, {"item": "secret"}, key="a\tb").status_code == 400
    assert Order.objects.count() == 1


@few_adapters
def test_without_a_key_nothing_is_different(path: str, caller: Caller) -> None:
    statuses = [caller.post(path, key=key).status_code for key in (None, "k-1", None)]
    assert statuses == [201, 201, 201]
    assert Order.objects.count() == 3


def named(decorate: Any) -> Any:
    """Decorators of packages that can be imported only while tests run."""
    if decorate == "guardian":
        return pytest.importorskip("guardian.decorators").permission_required("shop.add_order")
    if decorate == "reversion":
        return pytest.importorskip("reversion.views").create_revision()
    return decorate


@pytest.mark.once
class TestPositions:
    """Where the guard of a decorated function begins."""

    @pytest.mark.parametrize(
        "decorate",
        [
            csrf_exempt,
            require_POST,
            never_cache,
            cache_control(private=True),
            vary_on_cookie,
            gzip_page,
            sensitive_post_parameters("pin"),
            xframe_options_exempt,
            condition(etag_func=lambda request: "v1"),
            transaction.atomic,
            transaction.non_atomic_requests,
            override("de"),
            "reversion",
        ],
    )
    def test_before_decorators_that_check_nobody(self, decorate: Any) -> None:
        position = position_of(named(decorate)(checked.function()))
        assert (position.slots, position.tests, position.hidden) == ((), (), None)

    @pytest.mark.parametrize(
        "decorate",
        [
            checked.own,
            checked.Own,
            csrf_protect,
            login_required,
            staff_member_required,
            "guardian",
            contextmanager(lambda: iter([None]))(),
        ],
    )
    def test_below_those_that_may(self, decorate: Any) -> None:
        function = checked.function()
        position = position_of(require_POST(named(decorate)(transaction.atomic(function))))
        assert position.slots
        assert unwrap(position.inner) is function
        assert position.inner is not function
        assert (position.tests, position.hidden) == ((), None)

    def test_a_precondition_need_not_hold_for_a_retry(self) -> None:
        """RFC 9110, section 13.1.1."""
        conditional = condition(etag_func=lambda request: "v1")(checked.function())
        assert position_of(login_required(conditional)).inner is conditional

    @pytest.mark.parametrize(
        "view",
        [
            lambda: transaction.atomic(checked.own(checked.function())),
            lambda: named("reversion")(checked.own(checked.function())),
            lambda: transaction.atomic(named("guardian")(checked.function())),
            lambda: checked.own(lru_cache(checked.function())),
        ],
    )
    def test_what_it_cannot_go_below_is_hidden(self, view: Any) -> None:
        assert position_of(view()).hidden is not None

    def test_objects_that_are_called_and_parts_of_functions_are_no_decorators(self) -> None:
        class Page:
            def __call__(self, request: HttpRequest) -> HttpResponse:
                return checked.answer(request)

            def method(self, request: HttpRequest) -> HttpResponse:
                return checked.answer(request)

        for view in (Page(), Page().method, partial(checked.with_argument, shop="one")):
            assert position_of(view).hidden is None

    def test_an_object_may_check_where_it_is_called(self) -> None:
        class Page:
            @method_decorator(checked.tested)
            def __call__(self, request: HttpRequest) -> HttpResponse:
                return checked.answer(request)

        assert position_of(Page()).slots


@pytest.mark.once
@pytest.mark.parametrize("view", ["function", "class", "operation"])
def test_a_hidden_check_is_a_refusal_and_never_a_replay(
    view: str, use_middleware: None, settings: Any, caller: Caller
) -> None:
    settings.ROOT_URLCONF = URLconf(view)
    caller.user.user_permissions.add(Permission.objects.get(codename="add_order"))
    assert caller.post("/", key=None).status_code == 201
    assert [caller.post("/").status_code for _ in range(2)] == [500, 500]
    assert Order.objects.count() == 1


class Hidden(View):
    @transaction.atomic
    @method_decorator(checked.own)
    def post(self, request: HttpRequest) -> HttpResponse:
        return checked.answer(request)


class URLconf:
    """What a URLconf module is to Django: one view whose check stands inside of a transaction."""

    def __init__(self, view: str) -> None:
        function = csrf_exempt(transaction.atomic(checked.own(checked.function())))
        chosen = function if view == "function" else csrf_exempt(Hidden.as_view())
        self.urlpatterns = [urls.path("", chosen)]
        if view == "operation":
            api = NinjaAPI(urls_namespace="hidden-check")
            api.post("", **post)(transaction.atomic(checked.own(copy(create))))
            self.urlpatterns = [urls.path("", api.urls)]
