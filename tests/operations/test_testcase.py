"""Projects test their guarded views inside one outer transaction."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.http import Http404
from django.test import RequestFactory, TestCase, override_settings
from rest_framework.test import APIRequestFactory, APITestCase, force_authenticate

from django_idempotency.models import IdempotencyRecord
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import DECORATED, MIDDLEWARE, PLAIN

MARKER = "Idempotency-Replayed"
KEY = {"idempotency-key": "k-1"}
PLAIN_DJANGO, PLAIN_REST = PLAIN[:2], PLAIN[2:]
DECORATED_DJANGO, DECORATED_REST = DECORATED[:3], DECORATED[3:]


def through_each_adapter(test: Callable[..., None]) -> Callable[..., None]:
    @wraps(test)
    def behind_all(self: Any) -> None:
        for path in self.paths:
            with self.subTest(path=path):
                before = Order.objects.create(item="of the test")
                test(self, path)
                assert_usable()
                assert Order.objects.filter(pk=before.pk).exists()
            Order.objects.exclude(item="of the class").delete()
            IdempotencyRecord.objects.all().delete()
        assert items() == ["of the class"]

    return behind_all


def assert_usable() -> None:
    """Nothing of ours is left open in the test's own transaction."""
    assert not connection.needs_rollback
    assert len(connection.savepoint_ids) == 1
    assert len(connection.atomic_blocks) == 2


class Promise:
    """What a project's tests find out; each subclass enters in another way."""

    paths: list[Any]
    middleware = False
    atomic_requests = False

    @classmethod
    def setUpTestData(cls) -> None:
        cls.user = User.objects.create_user("ada.lovelace")
        Order.objects.create(item="of the class")

    def setUp(self: Any) -> None:
        names = [*settings.BASE_MIDDLEWARE, *([MIDDLEWARE] if self.middleware else [])]
        self.enterContext(override_settings(MIDDLEWARE=names))
        database = connections.settings["default"]
        self.addCleanup(database.__setitem__, "ATOMIC_REQUESTS", database["ATOMIC_REQUESTS"])
        database["ATOMIC_REQUESTS"] = self.atomic_requests
        self.log_in()

    def log_in(self: Any) -> None:
        self.client.force_login(self.user)

    def post(self: Any, path: Any, headers: Any = KEY, **data: Any) -> Any:
        return self.client.post(path, data, content_type="application/json", headers=headers)

    @through_each_adapter
    def test_replay(self: Any, path: Any) -> None:
        first, retry = self.post(path, item="vm"), self.post(path, item="vm")
        assert (first.status_code, retry.status_code) == (201, 201)
        assert (retry.content, retry[MARKER]) == (first.content, "true")
        assert json.loads(first.content)["item"] == "vm"
        assert items("vm") == ["vm"]

    @through_each_adapter
    def test_mismatch(self: Any, path: Any) -> None:
        first, other = self.post(path, item="vm"), self.post(path, item="two vms")
        assert (first.status_code, other.status_code) == (201, 422)
        assert self.post(path, item="vm").content == first.content
        assert items("vm", "two vms") == ["vm"]

    @through_each_adapter
    def test_unhandled_exception(self: Any, path: Any) -> None:
        for _ in range(2):
            with pytest.raises(views.Broken):
                self.post(path, item="vm", outcome="raise 500")
        assert items("vm") == []

    @through_each_adapter
    def test_status_that_is_not_stored(self: Any, path: Any) -> None:
        for _ in range(2):
            response = self.post(path, item="vm", outcome="429")
            assert (response.status_code, MARKER in response) == (429, False)
        assert items("vm") == ["vm"] * 2

    @through_each_adapter
    def test_raised_404(self: Any, path: Any) -> None:
        first = self.not_found(path)
        retry = self.post(path, item="vm", outcome="raise 404")
        assert (retry.status_code, retry[MARKER]) == (404, "true")
        assert retry.content == (first.content if first else retry.content)
        assert items("vm") == []

    def not_found(self: Any, path: Any) -> Any:
        first = self.post(path, item="vm", outcome="raise 404")
        assert (first.status_code, MARKER in first) == (404, False)
        return first

    @through_each_adapter
    def test_on_commit_hooks(self: Any, path: Any) -> None:
        """They run once for the first request; not for the replay, nor for what was undone."""
        self.addCleanup(setattr, views, "after_write", views.nothing)
        ran: list[str] = []
        views.after_write = lambda: transaction.on_commit(lambda: ran.append("ran"))
        for data, hooks in (({}, 1), ({}, 0), ({"outcome": "503"}, 0)):
            key = KEY | {"idempotency-key": data.get("outcome", "k-1")}
            ran.clear()
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                self.post(path, headers=key, **data)
            assert (len(callbacks), ran) == (hooks, ["ran"] * hooks)


def items(*wanted: str) -> list[str]:
    found = Order.objects.order_by("pk").values_list("item", flat=True)
    return list(found.filter(item__in=wanted) if wanted else found)


class SessionBehindMiddleware(Promise, TestCase):
    paths = PLAIN_DJANGO + DECORATED_DJANGO
    middleware = True


@pytest.mark.whole
class SessionBehindMiddlewareInAtomicRequests(SessionBehindMiddleware):
    atomic_requests = True


class SessionBehindDecorator(Promise, TestCase):
    paths = DECORATED_DJANGO


class SessionBehindDecoratorInAtomicRequests(SessionBehindDecorator):
    atomic_requests = True


class RestBehindMiddleware(Promise, APITestCase):
    paths = PLAIN_REST + DECORATED_REST
    middleware = True

    def log_in(self: Any) -> None:
        self.client.force_authenticate(self.user)

    def post(self: Any, path: str, headers: Any = KEY, **data: Any) -> Any:
        return self.client.post(path, data, format="json", headers=headers)


class RestBehindMiddlewareInAtomicRequests(RestBehindMiddleware):
    atomic_requests = True


class RestBehindDecorator(RestBehindMiddleware):
    paths = DECORATED_REST
    middleware = False


@pytest.mark.whole
class RestBehindDecoratorInAtomicRequests(RestBehindDecorator):
    atomic_requests = True


class RestWithoutClient(Promise, APITestCase):
    """Requests made by DRF's factory and handed to the view."""

    paths = [
        views.DecoratedRestView.as_view(),
        views.DecoratedMethodRestView.as_view(),
        views.DecoratedViewSet.as_view({"post": "create"}),
        views.DecoratedMethodsViewSet.as_view({"post": "extra"}),
        views.decorated_rest_function,
        views.outside_decorated_rest_function,
    ]

    def post(self: Any, view: Any, headers: Any = KEY, **data: Any) -> Any:
        request = APIRequestFactory().post("/", data, format="json", headers=headers)
        force_authenticate(request, self.user)
        response = view(request)
        return response.render() if hasattr(response, "render") else response


@pytest.mark.whole
class RestWithoutClientInAtomicRequests(RestWithoutClient):
    atomic_requests = True


class DjangoWithoutClient(Promise, TestCase):
    """Requests made by Django's factory and handed to the view."""

    paths = [
        views.decorated_function,
        views.DecoratedClassView.as_view(),
        views.DecoratedMethodView.as_view(),
    ]

    def post(self: Any, view: Any, headers: Any = KEY, **data: Any) -> Any:
        request = RequestFactory().post("/", data, "application/json", headers=headers)
        request.user = self.user
        return view(request)

    def not_found(self: Any, view: Any) -> None:
        """Nobody is there who would make a response of it."""
        with pytest.raises(Http404):
            self.post(view, item="vm", outcome="raise 404")
