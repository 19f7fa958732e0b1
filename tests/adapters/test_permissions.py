"""I5: nothing is replayed to somebody who could not make the request now."""

import sys
from types import ModuleType
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.urls import path

from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import DECORATED, MIDDLEWARE, PLAIN, each_once, usual_and_whole

REST = [path for path in PLAIN + DECORATED if "rest" in path or "view" in path or "action" in path]
REST += ["/decorated-create/"]
PERMITTED = [
    ("/permitted-rest/", True),
    ("/decorated-permitted-rest/", False),
    ("/permitted-function/", True),
    ("/decorated-permitted-function/", False),
    ("/decorated-permitted-function/", True),
    ("/async-permitted-function/", True),
    ("/async-decorated-permitted-function/", False),
]
ASYNC_REST = [
    ("/async-rest/", True),
    ("/async-decorated-rest/", False),
    ("/async-decorated-viewset/", False),
    ("/ninja/sync/", True),
    ("/ninja/async/", True),
    ("/ninja/async-decorated/", False),
    ("/ninja/router/async/", False),
    ("/ninja-guarded/sync/", False),
]


@pytest.fixture
def replayable(request: Any, settings: Any, caller: Caller, monkeypatch: Any) -> str:
    """A completed request; its path."""
    path, middleware = request.param
    monkeypatch.setattr(Caller, "asgi", "async" in path)
    if middleware:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    caller.user.user_permissions.add(Permission.objects.get(codename="add_order"))
    assert caller.post(path, {"item": "secret"}).status_code == 201
    assert caller.post(path, {"item": "secret"})["Idempotency-Replayed"] == "true"
    return str(path)


REST_IN_BOTH_WAYS = [
    (path, middleware)
    for path in REST
    for middleware in (True, False)
    if middleware or path not in PLAIN
]
every_rest_adapter = pytest.mark.parametrize(
    "replayable",
    usual_and_whole(each_once(REST_IN_BOTH_WAYS, lambda each: each[0]), REST_IN_BOTH_WAYS),
    indirect=True,
)


def assert_refused(response: Any, status: int) -> None:
    assert response.status_code == status
    assert b"secret" not in response.content
    assert "Idempotency-Replayed" not in response
    assert Order.objects.count() == 1


@pytest.mark.parametrize("replayable", ASYNC_REST, indirect=True)
def test_a_revoked_token_gets_401_from_async_views_and_operations(
    replayable: str, caller: Caller
) -> None:
    caller.token.delete()
    assert_refused(caller.post(replayable, {"item": "secret"}), 401)


@every_rest_adapter
def test_a_revoked_token_gets_401(replayable: str, caller: Caller) -> None:
    caller.token.delete()
    assert_refused(caller.post(replayable, {"item": "secret"}), 401)


@every_rest_adapter
def test_a_deactivated_user_gets_401(replayable: str, caller: Caller) -> None:
    caller.user.is_active = False
    caller.user.save()
    assert_refused(caller.post(replayable, {"item": "secret"}), 401)


@pytest.mark.parametrize("replayable", PERMITTED, indirect=True)
def test_a_removed_permission_gets_403(replayable: str, caller: Caller) -> None:
    caller.user.user_permissions.clear()
    assert_refused(caller.post(replayable, {"item": "secret"}), 403)


@every_rest_adapter
def test_a_throttled_caller_gets_429(replayable: str, caller: Caller, monkeypatch: Any) -> None:
    from rest_framework.throttling import UserRateThrottle

    class Once(UserRateThrottle):
        rate = "1/hour"

    cache.clear()
    for view in (views.RestView, views.OrderViewSet, *_function_views()):
        monkeypatch.setattr(view, "throttle_classes", [Once])
    assert caller.post(replayable, {"item": "secret"})["Idempotency-Replayed"] == "true"
    assert_refused(caller.post(replayable, {"item": "secret"}), 429)


def test_a_deactivated_session_user_is_left_to_the_view(
    use_middleware: None, caller: Caller
) -> None:
    """Without an authenticated caller there is no key to replay."""
    caller.post("/function/", {"item": "secret"})
    caller.user.is_active = False
    caller.user.save()
    response = caller.post("/function/", {"item": "mine"})
    assert b"secret" not in response.content


def test_one_authentication_per_request(use_middleware: None, caller: Caller) -> None:
    """DRF knows the user only within ``dispatch()``."""
    views.CountingAuthentication.calls = 0
    caller.post("/counted-rest/")
    caller.post("/counted-rest/")
    assert views.CountingAuthentication.calls == 2


def test_the_admin_is_left_alone(use_middleware: None, caller: Caller, settings: Any) -> None:
    """Its views check permissions themselves, where the middleware cannot ask them."""
    settings.IDEMPOTENCY = {"REQUIRED": True}
    caller.user.is_staff = caller.user.is_superuser = True
    caller.user.save()
    form = {"data": "name=ops&_save=1", "content_type": "application/x-www-form-urlencoded"}
    assert caller.post("/admin/auth/group/add/", **form).status_code == 302
    caller.user.is_superuser = False
    caller.user.save()
    refused = caller.post("/admin/auth/group/add/", **form)
    assert (refused.status_code, "Idempotency-Replayed" in refused) == (403, False)
    assert caller.post("/admin/logout/").status_code == 200


def test_a_function_behind_the_check_of_the_admin_is_left_alone(
    use_middleware: None, caller: Caller, settings: Any, monkeypatch: Any
) -> None:
    """I5: ``admin_view()`` hides its check between decorators that do not say what they wrap."""
    views_of_urls = ModuleType("tests.shop.admin_report")
    report = admin.site.admin_view(views.function)
    vars(views_of_urls)["urlpatterns"] = [
        path("report/", report),
        path("admin/", admin.site.urls),
    ]
    monkeypatch.setitem(sys.modules, "tests.shop.admin_report", views_of_urls)
    settings.ROOT_URLCONF = "tests.shop.admin_report"
    caller.user.is_staff = True
    caller.user.save()
    assert caller.post("/report/").status_code == 201
    caller.user.is_staff = False
    caller.user.save()
    refused = caller.post("/report/")
    assert (refused.status_code, "Idempotency-Replayed" in refused) == (302, False)


def _function_views() -> list[Any]:
    functions = [
        views.rest_function,
        views.decorated_rest_function,
        views.outside_decorated_rest_function,
    ]
    return [function.cls for function in functions]


class TestAnonymous:
    """Anonymous callers share a scope, so guessed keys would leak responses."""

    def post(self, client: Any, item: str = "vm") -> Any:
        return client.post(
            "/function/",
            {"item": item},
            content_type="application/json",
            headers={"idempotency-key": "guessed"},
        )

    @pytest.fixture(autouse=True)
    def _guarded(self, use_middleware: None, transactional_db: None) -> None:
        pass

    def test_are_left_alone_by_default(self, client: Any) -> None:
        assert self.post(client).status_code == self.post(client).status_code == 201
        assert Order.objects.count() == 2

    def test_share_if_told_so(self, client: Any, settings: Any) -> None:
        settings.IDEMPOTENCY = {"ANONYMOUS": "share"}
        assert self.post(client).content == self.post(client).content
        assert Order.objects.count() == 1

    def test_are_refused_if_told_so(self, client: Any, settings: Any) -> None:
        settings.IDEMPOTENCY = {"ANONYMOUS": "refuse"}
        response = self.post(client)
        assert response.status_code == 403
        assert response.json()["code"] == "idempotency_anonymous_refused"
        assert not Order.objects.exists()


class TestScopes:
    """I10."""

    @pytest.fixture(autouse=True)
    def _guarded(self, use_middleware: None) -> None:
        pass

    def rotate(self, caller: Caller) -> None:
        from rest_framework.authtoken.models import Token

        caller.token.delete()
        caller.token = Token.objects.create(user=caller.user)

    def test_a_refreshed_token_of_the_same_user_is_the_same_caller(self, caller: Caller) -> None:
        first = caller.post("/rest/")
        self.rotate(caller)
        assert caller.post("/rest/").content == first.content

    def test_by_token_another_token_is_another_caller(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"SCOPE": "token"}
        first = caller.post("/rest/")
        assert caller.post("/rest/").content == first.content
        self.rotate(caller)
        assert caller.post("/rest/").content != first.content

    def test_by_function(self, caller: Caller, stranger: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"SCOPE": "tests.adapters.test_permissions.one_tenant"}
        assert caller.post("/rest/").content == stranger.post("/rest/").content

    def test_no_credential_is_stored(self, caller: Caller) -> None:
        from django_idempotency.models import IdempotencyRecord

        caller.post("/rest/")
        record = IdempotencyRecord.objects.values().get()
        assert len(record["scope"]) == 64
        assert caller.token.key not in str(record)
        assert caller.user.username not in str(record)


def one_tenant(request: Any) -> str:
    return "tenant"
