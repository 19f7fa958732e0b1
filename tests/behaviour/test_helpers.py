"""``django_idempotency.test``: what users' tests call. Each helper can also fail, and says why."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.test import AsyncClient, Client, TestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import SessionAuthentication
from rest_framework.test import APITestCase
from rest_framework.throttling import BaseThrottle

from django_idempotency.decorators import idempotency_exempt
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.cache.replay_cache import writer_of
from django_idempotency.test import advance, assert_idempotent, crash, expire, lost_response
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.views import RestView as RestOrders
from tests.shop.views import function
from tests.support.adapters import MIDDLEWARE, few_adapters

KEY = {"idempotency-key": "k-1"}
JSON = "application/json"


class Promise:
    """Every helper works in every kind of test case; subclasses say which, and which view."""

    path: str

    def setUp(self: Any) -> None:
        self.enterContext(override_settings(MIDDLEWARE=middlewares()))
        self.client.force_login(User.objects.create_user("ada"))
        self.extra = {"content_type": JSON}

    def post(self: Any) -> Any:
        return self.client.post(self.path, {"item": "vm"}, headers=KEY, **self.extra)

    def test_an_idempotent_view(self: Any) -> None:
        first = assert_idempotent(
            self.client, self.path, {"item": "vm"}, creates=Order.objects.all(), **self.extra
        )
        assert first.status_code == 201
        assert Order.objects.get().item == "vm"

    def test_a_crash_undoes_the_writes_and_the_retry_runs(self: Any) -> None:
        """I2, I3."""
        with crash():
            self.post()
        assert not Order.objects.exists()
        assert IdempotencyRecord.objects.get().state == "claimed"
        assert "Idempotency-Replayed" not in self.post()
        assert Order.objects.count() == 1

    def test_a_lost_response_replays(self: Any) -> None:
        with lost_response():
            self.post()
        assert Order.objects.count() == 1
        assert self.post()["Idempotency-Replayed"] == "true"
        assert Order.objects.count() == 1

    def test_an_expired_key_is_new(self: Any) -> None:
        """I14."""
        self.post()
        expire("k-1")
        assert "Idempotency-Replayed" not in self.post()
        assert Order.objects.count() == 2

    def test_time_passes(self: Any) -> None:
        self.post()
        advance(timedelta(hours=23))
        assert self.post()["Idempotency-Replayed"] == "true"
        advance(timedelta(hours=2))
        assert "Idempotency-Replayed" not in self.post()


def middlewares() -> list[str]:
    from django.conf import settings

    return [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


class PlainView(Promise, TestCase):
    path = "/function/"


class ClassView(Promise, TransactionTestCase):
    path = "/decorated-class/"


class RestView(Promise, APITestCase):
    path = "/rest/"

    def setUp(self) -> None:
        super().setUp()
        self.client.force_authenticate(User.objects.get())
        self.extra = {"format": "json"}


@few_adapters
def test_a_crash_and_a_lost_response_at_every_adapter(adapter: str, caller: Caller) -> None:
    """Also under ``ATOMIC_REQUESTS`` and with real commits."""
    with crash():
        caller.post(adapter)
    assert not Order.objects.exists()
    with lost_response():
        caller.post(adapter)
    assert Order.objects.count() == 1
    assert caller.post(adapter)["Idempotency-Replayed"] == "true"


@pytest.fixture
def client(client: Client, db: None, use_middleware: None) -> Client:
    client.force_login(User.objects.create_user("ada"))
    return client


def failure(client: Client, path: str, data: Any = None, **more: Any) -> str:
    with pytest.raises(AssertionError) as failed:
        assert_idempotent(client, path, data, content_type=JSON, **more)
    return str(failed.value)


class TestAssertIdempotentFails:
    def test_for_a_view_without_guard(self, client: Client, settings: Any) -> None:
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        said = failure(client, "/function/")
        assert "The first request got 201 (no guard took part)." in said
        assert "the view is not guarded, or the caller is anonymous" in said

    def test_for_anonymous_callers(self, client: Client) -> None:
        client.logout()
        assert "the caller is anonymous" in failure(client, "/function/")

    def test_for_a_status_that_is_not_stored(self, client: Client) -> None:
        assert "its status is in NOT_STORED" in failure(client, "/function/", {"outcome": "503"})

    def test_for_a_response_without_body(self, client: Client) -> None:
        said = failure(client, "/streaming-function/")
        assert "its retry 409" in said
        assert "body of the first response was not stored" in said

    def test_for_a_key_that_was_used(self, client: Client) -> None:
        assert_idempotent(client, "/function/", content_type=JSON, key="k")
        assert "'k' was used before" in failure(client, "/function/", key="k")

    def test_where_other_bodies_are_not_compared(self, client: Client, settings: Any) -> None:
        settings.IDEMPOTENCY = {"FINGERPRINT_FIELDS": ["item"]}
        said = failure(client, "/function/", {"item": "vm"})
        assert "must be refused as idempotency_key_reused; it got 201 (replayed)" in said

    def test_for_other_answers_to_a_retry(self, client: Client, monkeypatch: Any) -> None:
        """A middleware of the project's own could do that."""
        answers = iter([b"one", b"two"])
        monkeypatch.setattr(
            "django.test.client.Client.post", changed(Client.post, lambda: next(answers))
        )
        assert "got other bytes" in failure(client, "/function/")

    def test_where_nothing_was_made(self, client: Client) -> None:
        said = failure(client, "/function/", creates=User.objects.all())
        assert "After the first request there are 0" in said


@csrf_exempt
def always(request: Any) -> HttpResponse:
    """Answers what its query says, and may pretend that it is a replay."""
    Order.objects.create()
    status = int(request.GET["status"])
    return JsonResponse({}, status=status, headers={"Idempotency-Replayed": "true"})


@csrf_exempt
@idempotency_exempt(reason="a fake")
def unguarded(request: Any) -> HttpResponse:
    return always(request)


@csrf_exempt
@idempotency_exempt(reason="a fake")
def remembers_nothing(request: Any) -> HttpResponse:
    """Knows by its own means that a key was used, and runs again all the same."""
    is_retry = Order.objects.exists()
    Order.objects.create()
    response = JsonResponse({}, status=201)
    if is_retry:
        response["Idempotency-Replayed"] = "true"
    return response


class Twice(BaseThrottle):
    """Allows an original and its retry."""

    asked = 0

    def allow_request(self, request: Any, view: Any) -> bool:
        Twice.asked += 1
        return Twice.asked <= 2


class ThrottledView(RestOrders):
    authentication_classes = [SessionAuthentication]
    throttle_classes = [Twice]


def runs_beside(get_response: Any) -> Any:
    """An envelope outside of the guard that has an effect of its own each time."""

    def middleware(request: Any) -> Any:
        Order.objects.create()
        return get_response(request)

    return middleware


urlpatterns = [
    path("always/", always),
    path("unguarded/", unguarded),
    path("remembers-nothing/", remembers_nothing),
    path("throttled/", ThrottledView.as_view()),
    path("function/", function),
]


@pytest.mark.urls(__name__)
@pytest.mark.once
class TestAssertIdempotentIsNotFooled:
    """Each of these looks right from outside, or to somebody who looks at one thing only."""

    def test_by_a_view_that_always_fails(self, client: Client) -> None:
        said = failure(client, "/always/?status=400")
        assert "The first request got 400 (executed). It must succeed" in said

    def test_by_a_status_that_is_not_the_wanted_one(self, client: Client) -> None:
        assert "It must get 202" in failure(client, "/always/?status=200", status=202)

    def test_by_an_unguarded_view_that_always_conflicts(self, client: Client) -> None:
        said = failure(client, "/unguarded/?status=409", policy={"store_body": False})
        assert "409 (no guard took part)" in said

    def test_by_a_marker_on_a_second_execution(self, client: Client) -> None:
        said = failure(client, "/remembers-nothing/")
        assert "201 (no guard took part)" in said

    def test_by_a_throttle_that_refuses_the_other_body(
        self, client: Client, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(Twice, "asked", 0)
        said = failure(client, "/throttled/")
        assert "it got 429 (no guard took part)" in said

    def test_by_something_around_the_guard_that_runs_each_time(
        self, client: Client, settings: Any
    ) -> None:
        settings.MIDDLEWARE = [f"{__name__}.runs_beside", *settings.MIDDLEWARE]
        orders = Order.objects.exclude(item="vm")
        said = failure(client, "/function/", {"item": "vm"}, creates=orders)
        assert "After the retry there are 2" in said

    def test_but_takes_an_error_that_is_meant(self, client: Client) -> None:
        assert_idempotent(client, "/function/", {"outcome": "400"}, content_type=JSON, status=400)


def changed(post: Any, content: Any) -> Any:
    def send(*args: Any, **extra: Any) -> Any:
        response = post(*args, **extra)
        response.content = content()
        return response

    return send


class TestAssertIdempotentTakes:
    def test_bodies_that_are_not_dicts(self, client: Client) -> None:
        with pytest.raises(TypeError, match=r"as other=\.\.\."):
            assert_idempotent(client, "/function/", '{"item": "vm"}', content_type=JSON)
        assert_idempotent(
            client, "/function/", '{"item": "vm"}', other='{"item": "two"}', content_type=JSON
        )

    def test_policies_of_the_view(self, client: Client) -> None:
        """Other headers, and bodies that are not compared."""
        policy = {
            "header": "X-Key",
            "replay_header": "X-Replay",
            "replay_value": "yes",
            "fingerprint": "none",
        }
        with override_settings(IDEMPOTENCY={name.upper(): value for name, value in policy.items()}):
            assert_idempotent(client, "/function/", content_type=JSON)
        with pytest.raises(AssertionError, match="is not guarded"):
            assert_idempotent(client, "/function/", content_type=JSON, policy=policy)

    @pytest.mark.parametrize("header", ["Idempotency-Key", None])
    def test_keys_that_a_function_finds(
        self, client: Client, settings: Any, header: str | None
    ) -> None:
        def reference(request: Any) -> Any:
            return json.loads(request.body).get("reference")

        settings.IDEMPOTENCY = {"KEY_FROM": reference, "HEADER": header}
        sent = {"item": "vm", "reference": "r-1"}
        assert_idempotent(client, "/function/", sent, key="r-1", content_type=JSON)
        assert Order.objects.count() == 1

    @pytest.mark.parametrize("policy", [{"store_body": False}, {"redacted_fields": ["item"]}])
    def test_views_that_do_not_store_everything(
        self, client: Client, settings: Any, policy: Any
    ) -> None:
        settings.IDEMPOTENCY = {name.upper(): value for name, value in policy.items()}
        assert_idempotent(client, "/function/", {"item": "vm"}, content_type=JSON)

    def test_no_replay_where_nothing_should_be_stored(self, client: Client) -> None:
        said = failure(client, "/function/", policy={"store_body": False})
        assert said.startswith("The retry must get 409")

    def test_headers(self, client: Client) -> None:
        assert_idempotent(client, "/function/", content_type=JSON, headers={"x-other": "1"})

    def test_no_client_that_must_be_awaited(self) -> None:
        with pytest.raises(TypeError, match="not AsyncClient"):
            assert_idempotent(AsyncClient(), "/function/")

    def test_no_method_that_is_never_guarded(self, client: Client) -> None:
        with pytest.raises(ValueError, match="'get' is not guarded; DELETE, PATCH, POST, PUT are"):
            assert_idempotent(client, "/function/", method="get")


@pytest.mark.parametrize("accident", [crash, lost_response])
class TestAccidentsFail:
    def test_without_a_guarded_request(self, client: Client, accident: Any) -> None:
        with pytest.raises(AssertionError, match="No guarded request completed"), accident():
            client.post("/function/", content_type=JSON)
        client.post("/function/", content_type=JSON, headers=KEY)
        with pytest.raises(AssertionError, match="the key new"), accident():
            client.post("/function/", content_type=JSON, headers=KEY)

    def test_never_hides_what_the_view_raised(self, client: Client, accident: Any) -> None:
        with pytest.raises(AssertionError), accident():
            raise AssertionError("of the test itself")

    def test_leaves_nothing_behind(self, client: Client, accident: Any) -> None:
        with accident():
            client.post("/function/", content_type=JSON, headers=KEY)
        assert_idempotent(client, "/function/", content_type=JSON)


def test_a_response_that_is_not_stored_is_not_lost_but_undone(client: Client) -> None:
    with pytest.raises(AssertionError, match="was not stored"), lost_response():
        client.post("/function/", {"outcome": "503"}, content_type=JSON, headers=KEY)
    assert not Order.objects.exists()


@pytest.mark.django_db
def test_an_unknown_key_cannot_expire() -> None:
    with pytest.raises(AssertionError, match="no record of the key 'k-1'"):
        expire("k-1")


def test_how_long_ago_a_key_expired(client: Client, settings: Any) -> None:
    settings.IDEMPOTENCY = {"TOMBSTONE": timedelta(days=1)}
    client.post("/function/", content_type=JSON, headers=KEY)
    expire("k-1")
    assert client.post("/function/", content_type=JSON, headers=KEY).status_code == 410
    expire("k-1", ago=timedelta(days=2), using="default")
    assert client.post("/function/", content_type=JSON, headers=KEY).status_code == 201


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        advance(timedelta(seconds=-1))


@few_adapters
def test_copies_in_a_cache_expire_too(adapter: str, caller: Caller, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "default"}
    caller.post(adapter)
    writer_of("default").flush()
    with CaptureQueriesContext(connection) as queries:
        assert caller.post(adapter)["Idempotency-Replayed"] == "true"
    assert records_in(queries) == []
    advance(timedelta(hours=23))
    assert caller.post(adapter)["Idempotency-Replayed"] == "true"
    expire("k-1")
    assert "Idempotency-Replayed" not in caller.post(adapter)


@pytest.mark.parametrize("cache", ["local", "redis"])
@pytest.mark.once
@pytest.mark.usefixtures("redis", "use_middleware")
def test_time_passes_for_records_in_a_cache_alone(
    caller: Caller, settings: Any, cache: str
) -> None:
    settings.CACHES["local"]["KEY_PREFIX"] = settings.CACHES["redis"]["KEY_PREFIX"] = "a*[b]"
    caches["local"].clear()
    settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": cache, "TOMBSTONE": timedelta(hours=5)}
    caller.post("/effects/function/")
    advance(timedelta(hours=23))
    assert caller.post("/effects/function/")["Idempotency-Replayed"] == "true"
    advance(timedelta(hours=2))
    assert caller.post("/effects/function/").status_code == 410
    with pytest.raises(AssertionError, match=r"use advance\(\)"):
        expire("k-1")
    advance(timedelta(hours=5))
    assert "Idempotency-Replayed" not in caller.post("/effects/function/")


@pytest.mark.usefixtures("use_middleware")
def test_a_crash_outside_of_a_transaction_leaves_an_unknown_outcome(caller: Caller) -> None:
    """I11. What the view committed stays, as it would if its process were killed."""
    with crash():
        caller.post("/effects/function/")
    assert Order.objects.count() == 1
    assert caller.post("/effects/function/").json()["code"] == "outcome_unknown"
    assert Order.objects.count() == 1


def records_in(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements that read or write records."""
    statements = [query["sql"] for query in queries.captured_queries]
    return [sql for sql in statements if IdempotencyRecord._meta.db_table in sql]
