"""Connections that the server has cut while they were idle: the database is up, so requests are
protected."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.breaker import breaker_of
from django_idempotency.stores.database.dialects import dialect_of
from tests.conftest import in_thread, row_locks
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.databases import DATABASE
from tests.support.sessions import sessions

pytestmark = [row_locks, pytest.mark.django_db(transaction=True)]


def everybody(request: HttpRequest) -> str:
    """Who sends a request is known without a query, so the claim is its first statement."""
    return "somebody"


def buy(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"id": Order.objects.create(item="vm").pk}, status=201)


@method_decorator(csrf_exempt, name="dispatch")
@idempotent(scope=everybody)
class Buying(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return buy(request)


urlpatterns = [
    path("plain/", csrf_exempt(buy)),
    path("decorated/", csrf_exempt(idempotent(scope=everybody)(buy))),
    path("class/", Buying.as_view()),
    path("not-atomic/", csrf_exempt(idempotent(scope=everybody, atomic=False)(buy))),
]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY = {"SCOPE": everybody}
    breaker_of.cache_clear()
    yield
    breaker_of.cache_clear()


def cut() -> None:
    """End the session of this thread, and those that a pool keeps, from outside."""
    connection.ensure_connection()
    ends = {"postgresql": "SELECT pg_terminate_backend(%s, 10000)", "mysql": "KILL %s"}

    def end_all() -> None:
        with connection.cursor() as cursor:
            for session, _ in sessions():
                cursor.execute(ends[connection.vendor], [session])
        connection.close()

    in_thread(end_all).result()


def post(url: str) -> Any:
    return Client().post(url, headers={"Idempotency-Key": "k-1"})


@pytest.mark.parametrize("outage", ["closed", "open"])
@pytest.mark.parametrize("url", ["/plain/", "/decorated/", "/class/", "/not-atomic/"])
def test_the_claim_is_made_on_a_fresh_one(url: str, outage: str, settings: Any) -> None:
    settings.IDEMPOTENCY |= {"OUTAGE": outage}
    cut()
    first = post(url)
    assert (first.status_code, "Idempotency-Unprotected" in first) == (201, False)
    cut()
    retry = post(url)
    assert (retry.content, retry["Idempotency-Replayed"]) == (first.content, "true")
    assert Order.objects.count() == 1


@pytest.mark.skipif(
    DATABASE == "mariadb", reason="Django cannot begin its block before it has reconnected"
)
def test_in_the_block_of_atomic_requests_it_fails_as_without_a_key(monkeypatch: Any) -> None:
    """The transaction is Django's, and was begun on the session that has ended. Nothing has run,
    and the retry does."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    cut()
    client = Client(raise_request_exception=False)
    headers = {"Idempotency-Key": "k-1"}
    statuses = [client.post("/class/", headers=headers).status_code for _ in range(3)]
    assert statuses == [500, 201, 201]
    assert Order.objects.count() == 1


def test_a_database_that_is_down_is_asked_no_third_time(
    settings: Any, monkeypatch: Any, caplog: Any
) -> None:
    """Every session is cut again before it can be used."""
    claims: list[None] = []
    dialect = dialect_of(connection)
    claim = dialect.claim

    def doomed(*arguments: Any) -> Any:
        claims.append(None)
        cut()
        return claim(*arguments)

    monkeypatch.setattr(dialect, "claim", doomed)
    connection.ensure_connection()
    response = post("/decorated/")
    connection.close()
    assert (response.status_code, len(claims)) == (503, 2)
    assert "does not answer" in caplog.text
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.skipif(DATABASE != "postgresql", reason="Django has pools for PostgreSQL")
def test_a_pool_forgets_all_that_were_cut() -> None:
    pytest.importorskip("psycopg_pool")
    connection.close()
    before = connections["default"]
    pooled: Any = {
        **before.settings_dict,
        "CONN_MAX_AGE": 0,
        "OPTIONS": {"pool": {"min_size": 3, "max_size": 3}},
    }
    connections["default"] = connections.create_connection("default")
    connections["default"].settings_dict = pooled
    try:
        connections["default"].pool.open(wait=True)  # type: ignore[attr-defined]
        cut()
        assert post("/decorated/").status_code == 201
    finally:
        connections["default"].close()
        connections["default"].close_pool()  # type: ignore[attr-defined]
        connections["default"] = before
