"""Guards inside of transactions: Django's block of ``ATOMIC_REQUESTS``, and other people's."""

import json
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection, connections, transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.database import connections as claim_connections
from django_idempotency.stores.database import connections as own_connections
from django_idempotency.stores.database.dialects import dialect_of
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.shop.views import buy
from tests.support.adapters import MIDDLEWARE

REVERSION = "reversion.middleware.RevisionMiddleware"


class Enclosing:
    """A middleware that undoes what it has written in its own block if the answer is an error."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            Order.objects.create(item="of the middleware")
            response: HttpResponse = self.get_response(request)
            transaction.set_rollback(True)
        return response


@csrf_exempt
def plain(request: HttpRequest) -> HttpResponse:
    status, body = buy(json.loads(request.body))
    return JsonResponse(body, status=status)


decorated = csrf_exempt(idempotent(plain))
not_atomic = transaction.non_atomic_requests(csrf_exempt(transaction.atomic(idempotent(plain))))


class Rest(APIView):
    @idempotent
    def post(self, request: Any) -> Response:
        status, body = buy(request.data)
        return Response(body, status=status)


urlpatterns = [
    path("plain/", plain),
    path("decorated/", decorated),
    path("not-atomic/", not_atomic),
    path("rest/", Rest.as_view()),
]


@pytest.fixture(autouse=True)
def _project(settings: Any, monkeypatch: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic-requests"])
def atomic_requests(request: Any, monkeypatch: Any) -> bool:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)
    return bool(request.param)


def items() -> set[str]:
    return set(Order.objects.values_list("item", flat=True))


class TestSomebodyElsesBlock:
    """It could undo what is stored, or we could commit what it means to undo (I2)."""

    @pytest.mark.parametrize("middleware", [REVERSION, f"{__name__}.Enclosing"])
    @pytest.mark.parametrize("url", ["/plain/", "/decorated/", "/rest/"])
    def test_a_middlewares_is_refused_and_nothing_of_it_committed(
        self, middleware: str, url: str, atomic_requests: bool, settings: Any, caller: Caller
    ) -> None:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, middleware, MIDDLEWARE]
        caller._client.raise_request_exception = True
        with pytest.raises(Exception, match="check names it"):
            caller.post(url, {"item": "vm"})
        assert items() == set()
        assert not connection.in_atomic_block

    def test_the_one_of_a_view_without_djangos(self, atomic_requests: bool, caller: Caller) -> None:
        """``non_atomic_requests``, and a block around the guard."""
        assert caller.post("/not-atomic/").status_code == 500
        assert items() == set()

    @pytest.mark.django_db(transaction=True)
    def test_the_one_around_a_view_that_no_handler_calls(self, atomic_requests: bool) -> None:
        headers = {"idempotency-key": "k"}
        request = RequestFactory().post("/", {}, "application/json", headers=headers)
        request.user = type("User", (), {"is_authenticated": True, "pk": 1})()
        with pytest.raises(Exception, match="could undo it"), transaction.atomic():
            decorated(request)
        assert items() == set()

    @pytest.mark.parametrize("url", ["/plain/", "/decorated/", "/rest/"])
    def test_a_middleware_that_does_without_is_fine(
        self, url: str, atomic_requests: bool, settings: Any, caller: Caller
    ) -> None:
        quiet = "tests.checks.test_checks.QuietRevisions"
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, quiet, MIDDLEWARE]
        assert caller.post(url, {"item": "vm"}).status_code == 201
        assert caller.post(url, {"item": "vm"})["Idempotency-Replayed"] == "true"
        assert items() == {"vm"}


def set_tenant() -> None:
    """What row-level security reads, until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant', 't1', TRUE)")


def tenant() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('app.tenant', TRUE)")
        (found,) = cursor.fetchone()
    return found or ""


class Spends(BasePermission):
    """A token that a permission spends, and a hook that waits for the commit."""

    def has_permission(self, request: Any, view: Any) -> bool:
        Order.objects.create(item="spent")
        transaction.on_commit(lambda: seen.append("before"))
        if connection.vendor == "postgresql":
            set_tenant()
        return True


class Stays(APIView):
    permission_classes = [Spends]

    def post(self, request: Any) -> Response:
        transaction.on_commit(lambda: seen.append("in the view"))
        if connection.vendor == "postgresql":
            seen.append(tenant())
        status, body = buy(request.data)
        if "undo" in request.data:
            transaction.set_rollback(True)
        if "key" in request.data:
            body["derived"] = request._request.idempotency.derive_key("charge")
        return Response(body, status=status)


class DecoratedStays(Stays):
    @idempotent
    def post(self, request: Any) -> Response:
        return super().post(request)


urlpatterns += [path("stays/", Stays.as_view()), path("decorated-stays/", DecoratedStays.as_view())]
seen: list[str] = []
staying = pytest.mark.parametrize("url", ["/stays/", "/decorated-stays/"])


@staying
class TestDjangosBlock:
    """I21: what happened in the transaction before the guard began is part of the view's work."""

    @pytest.fixture(autouse=True)
    def _atomic_requests(self, monkeypatch: Any) -> None:
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        seen.clear()

    def test_its_state_is_there_when_the_handler_runs(self, url: str, caller: Caller) -> None:
        if connection.vendor == "postgresql":
            assert caller.post(url, {"item": "vm"}).status_code == 201
            assert "t1" in seen

    @pytest.mark.parametrize("outcome", ["raise 500", "500", "raise 404"])
    def test_what_undoes_it_undoes_the_attempt(
        self, url: str, outcome: str, caller: Caller
    ) -> None:
        for _ in range(2):
            assert caller.post(url, {"outcome": outcome}).status_code == int(outcome[-3:])
        spent = 1 if outcome == "raise 404" else 0  # by the replay, as without us
        assert sorted(Order.objects.values_list("item", flat=True)) == ["spent"] * spent
        assert "in the view" not in seen

    def test_hooks_run_in_their_order_after_the_commit(self, url: str, caller: Caller) -> None:
        assert caller.post(url, {"item": "vm"}).status_code == 201
        assert [each for each in seen if each != "t1"] == ["before", "in the view"]
        assert items() == {"spent", "vm"}

    def test_the_views_wish_is_remembered(self, url: str, caller: Caller) -> None:
        """``set_rollback(True)`` undoes it all, and its answer is stored."""
        first = caller.post(url, {"undo": True})
        assert (first.status_code, items()) == (201, set())
        assert [each for each in seen if each != "t1"] == []
        retry = caller.post(url, {"undo": True})
        assert (retry.content, retry["Idempotency-Replayed"]) == (first.content, "true")

    def test_an_interrupted_attempt_is_followed_by_another(self, url: str, caller: Caller) -> None:
        caller.post(url, {"outcome": "raise 500"})
        caller.post(url, {"outcome": "raise 500"})
        record = IdempotencyRecord.objects.first()
        # On SQLite the claim is part of the transaction, which has written.
        assert (record and record.attempt) == (None if connection.vendor == "sqlite" else 2)
        assert not connection.in_atomic_block

    @row_locks
    def test_a_duplicate_in_flight_and_one_that_waits(
        self, url: str, caller: Caller, after_write: Any, settings: Any
    ) -> None:
        answers: list[Any] = []
        rivals: list[Any] = []

        def duplicates() -> None:
            answers.append(in_thread(lambda: caller.post(url, {"item": "vm"})).result())
            settings.IDEMPOTENCY = {"IN_FLIGHT": "wait"}
            rivals.append(in_thread(lambda: caller.post(url, {"item": "vm"})))

        after_write(duplicates)
        first = caller.post(url, {"item": "vm"})
        assert (first.status_code, answers[0].status_code) == (201, 409)
        waited = rivals[0].result()
        assert (waited.content, waited["Idempotency-Replayed"]) == (first.content, "true")
        assert Order.objects.filter(item="vm").count() == 1

    @row_locks
    def test_one_that_gives_way_does_not_wait_for_itself(
        self, url: str, caller: Caller, settings: Any, monkeypatch: Any
    ) -> None:
        """A rival has taken the record over between claim and lock. The transaction of Django's
        block has the lock now, and keeps it to its end."""
        settings.IDEMPOTENCY = {"IN_FLIGHT": "wait", "WAIT_TIMEOUT": timedelta(seconds=5)}
        waits, claim, lock = [], DatabaseStore.claim, DatabaseStore.lock

        def claim_then_rival(store: DatabaseStore, *args: Any) -> Any:
            found = claim(store, *args)
            monkeypatch.setattr(DatabaseStore, "claim", claim)
            in_thread(lambda: IdempotencyRecord.objects.update(attempt=F("attempt") + 1)).result()
            return found

        def note(store: DatabaseStore, record_id: int, wait: timedelta, *args: Any) -> Any:
            waits.append(bool(wait))
            return lock(store, record_id, wait, *args)

        monkeypatch.setattr(DatabaseStore, "claim", claim_then_rival)
        monkeypatch.setattr(
            DatabaseStore, "lock", lambda *args: note(*args) if args[2:] else lock(*args)
        )
        assert caller.post(url, {"item": "vm"}).status_code == 409
        assert waits == []
        assert caller.post(url, {"item": "vm"}).status_code == 201

    @row_locks
    def test_a_key_that_is_freed_meanwhile_takes_one_connection_to_notice(
        self, url: str, caller: Caller, monkeypatch: Any
    ) -> None:
        """All that have one would wait for each other's second."""
        monkeypatch.setattr(claim_connections, "_pools", {})
        monkeypatch.setattr(claim_connections, "CLAIM_CONNECTIONS", 1)
        monkeypatch.setattr(claim_connections, "WAIT", 0.1)
        claim = DatabaseStore.claim

        def claim_then_free(store: DatabaseStore, *args: Any) -> Any:
            found = claim(store, *args)
            monkeypatch.setattr(DatabaseStore, "claim", claim)
            in_thread(lambda: IdempotencyRecord.objects.all().delete()).result()
            return found

        assert caller.post(url, {"outcome": "raise 500"}).status_code == 500
        monkeypatch.setattr(DatabaseStore, "claim", claim_then_free)
        assert caller.post(url, {"outcome": "raise 500"}).status_code == 409
        assert caller.post(url, {"item": "vm"}).status_code == 201

    def test_a_key_for_another_system_needs_a_claim_that_lasts(
        self, url: str, caller: Caller
    ) -> None:
        expected = 500 if connection.vendor == "sqlite" else 201
        assert caller.post(url, {"key": True}).status_code == expected

    @row_locks
    def test_a_transaction_that_cannot_see_the_record_is_refused(
        self, url: str, caller: Caller, settings: Any
    ) -> None:
        """Never "in flight" for ever."""
        if connection.vendor == "mysql":
            connection.ensure_connection()
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_snapshot_isolation = ON")
        level = "REPEATABLE READ"
        with connection.cursor() as cursor:
            characteristics = " CHARACTERISTICS AS" if connection.vendor == "postgresql" else ""
            cursor.execute(f"SET SESSION{characteristics} TRANSACTION ISOLATION LEVEL {level}")
        try:
            caller._client.raise_request_exception = True
            for _ in range(2):
                with pytest.raises(Exception, match="does not see the record"):
                    caller.post(url, {"item": "vm"})
            assert items() == set()
        finally:
            connection.close()

    @row_locks
    def test_without_a_connection_for_claims_the_store_is_busy(
        self, url: str, caller: Caller, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(claim_connections, "WAIT", 0.01)
        with ExitStack() as stack:
            for _ in range(claim_connections.CLAIM_CONNECTIONS):
                stack.enter_context(claim_connections.claim_connection("default"))
            assert caller.post(url, {"item": "vm"}).status_code == 503
        assert caller.post(url, {"item": "vm"}).status_code == 201

    @row_locks
    def test_nor_if_one_that_rested_has_died_and_the_server_takes_no_more(
        self, url: str, caller: Caller, monkeypatch: Any
    ) -> None:
        kept: list[Any] = []
        create = claim_connections.ClaimConnections._create

        def created(self: Any) -> Any:
            kept.append(create(self))
            kept[0].settings_dict["CONN_MAX_AGE"] = 60
            return kept[0]

        monkeypatch.setattr(claim_connections.ClaimConnections, "_create", created)
        monkeypatch.setattr(claim_connections, "CHECKED_AFTER", 0)
        monkeypatch.setattr(own_connections, "_pools", {})
        assert caller.post(url, {"item": "vm"}).status_code == 201
        (pool,) = own_connections._pools.values()
        kept[0].connection.close()  # as an idle timeout of the server does
        kept[0].settings_dict["PORT"] = "1"
        assert caller.post(url, {"item": "vm"}, key="k-2").status_code == 503
        assert pool._lent == 0


class Before:
    """A middleware that does something between the guard's beginning and Django's block."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self.get_response(request)
        return response

    def process_view(self, request: HttpRequest, *view: Any) -> None:
        if "before" in request.body.decode():
            Order.objects.create(item="before")
        transaction.on_commit(lambda: seen.append("hook"))


class Counts(Before):
    """One that watches statements, as documented."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with connection.execute_wrapper(self.count):
            response: HttpResponse = self.get_response(request)
        return response

    @staticmethod
    def count(execute: Any, *statement: Any) -> Any:
        return execute(*statement)


def forbidden() -> None:
    raise PermissionDenied


class TestDjangosBlockInsideOurs:
    """A function view behind the middleware: our block begins, and Django's needs no savepoint."""

    @pytest.fixture(autouse=True)
    def _atomic_requests(self, monkeypatch: Any) -> None:
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        seen.clear()

    @pytest.mark.parametrize("url", ["/plain/", "/decorated/", "/rest/"])
    def test_the_log_of_queries_has_what_was_sent(self, url: str, caller: Caller) -> None:
        with CaptureQueriesContext(connection) as queries:
            caller.post(url, {"item": "vm"})
            caller.post(url, {"outcome": "raise 404"}, key="k-2")
        sent = [each["sql"] for each in queries.captured_queries]
        assert all(isinstance(sql, str) and "idempotency_request" not in sql for sql in sent)
        if connection.vendor == "postgresql":
            assert [sql for sql in sent if "SAVEPOINT" in sql] == []

    @pytest.mark.parametrize("url", ["/plain/", "/decorated/", "/rest/"])
    def test_wrappers_of_a_project_stay_in_their_order(
        self, url: str, caller: Caller, settings: Any
    ) -> None:
        """``execute_wrapper()`` removes the last one, whichever that is."""
        settings.MIDDLEWARE.append(f"{__name__}.Counts")
        assert caller.post(url, {"item": "vm"}).status_code == 201
        assert Counts.count not in connection.execute_wrappers

    @pytest.mark.parametrize("data", [{}, {"before": True}])
    def test_what_came_before_it_stays_when_it_is_undone(
        self, data: dict[str, bool], caller: Caller, settings: Any, after_write: Any
    ) -> None:
        """I2: a refusal keeps what a bare view would have kept."""
        settings.MIDDLEWARE.append(f"{__name__}.Before")
        after_write(forbidden)
        assert caller.post("/plain/", data).status_code == 403
        assert (items(), seen) == ({"before"} if data else set(), ["hook"])

    @row_locks
    @pytest.mark.parametrize("outcome", ["raise 404", "raise 500", "wish"])
    def test_a_rival_that_locks_the_record_when_it_is_undone(
        self, outcome: str, caller: Caller, settings: Any, after_write: Any, monkeypatch: Any
    ) -> None:
        """I12: the rival's answer is stored, and the first one's is not."""
        settings.IDEMPOTENCY = {"STATUS_HEADER": "Idempotency-Status"}
        rivals: list[Any] = []
        dialect = type(dialect_of(connection))
        begin = dialect.begin

        def let_a_rival_run(*arguments: Any, **options: Any) -> None:
            monkeypatch.setattr(dialect, "begin", begin)
            begin(*arguments, **options)
            rivals.append(in_thread(lambda: caller.post("/plain/", data)).result())

        def undo() -> None:
            monkeypatch.setattr(dialect, "begin", let_a_rival_run)
            if outcome == "wish":
                transaction.set_rollback(True)

        data = {"item": "vm", "outcome": outcome.replace("wish", "201")}
        after_write(undo)
        first = caller.post("/plain/", data)
        (rival,) = rivals
        assert (first.status_code, rival.status_code) == (int(data["outcome"][-3:]),) * 2
        retry = caller.post("/plain/", data)
        if outcome != "raise 500":
            assert first["Idempotency-Status"] == "not-stored"
            assert (retry.content, retry["Idempotency-Replayed"]) == (rival.content, "true")
        assert items() == ({"vm"} if outcome == "wish" else set())
