"""A success whose writes are lost is not remembered, whoever lost them (I2)."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.operations.base import Started
from django_idempotency.operations.errors import EndsTransaction, LostRecord, LostWrites, StepError
from django_idempotency.operations.non_atomic import run_again
from tests.conftest import Caller, row_locks
from tests.shop import urls
from tests.shop.models import Order
from tests.support import losses
from tests.support.adapters import Adapter
from tests.support.holding import an_operation as an_operation_beside
from tests.support.operations import CREATED, an_operation


def happens() -> None:
    """What goes wrong in the view."""


def work(data: Any) -> tuple[int, Any]:
    order = Order.objects.create(item="before")
    happens()
    with suppress(DatabaseError):
        Order.objects.create(item="after")
    return int(data.get("status", 201)), {"id": order.pk}


@csrf_exempt
def function(request: HttpRequest) -> HttpResponse:
    status, body = work(json.loads(request.body))
    return JsonResponse(body, status=status)


class Rest(APIView):
    def post(self, request: Any) -> Response:
        status, body = work(request.data)
        return Response(body, status=status)


@csrf_exempt
async def asynchronous(request: HttpRequest) -> HttpResponse:
    status, body = await sync_to_async(work)(json.loads(request.body))
    await asyncio.sleep(0)
    return JsonResponse(body, status=status)


urlpatterns = [
    *urls.urlpatterns,
    path("lossy/", function),
    path("decorated-lossy/", csrf_exempt(idempotent(function))),
    path("decorated-rest-lossy/", idempotent(Rest.as_view())),
    path("async-lossy/", asynchronous),
]
ADAPTERS = [
    Adapter("/lossy/", middleware=True, atomic_requests=True),
    Adapter("/decorated-lossy/", middleware=False, atomic_requests=False),
    Adapter("/decorated-rest-lossy/", middleware=False, atomic_requests=True),
    Adapter("/async-lossy/", middleware=True, atomic_requests=False, asgi=True),
]
adapters = pytest.mark.parametrize("adapter", ADAPTERS, ids=str, indirect=True)
two_adapters = pytest.mark.parametrize("adapter", ADAPTERS[:2], ids=str, indirect=True)


def named(functions: list[Callable[[], None]]) -> Any:
    return pytest.mark.parametrize("loss", functions, ids=lambda each: each.__name__)


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def let(monkeypatch: Any, transactional_db: None) -> Callable[[Callable[[], Any]], None]:
    losses.setup()
    return lambda loss: monkeypatch.setattr(f"{__name__}.happens", loss)


@pytest.fixture
def snapshots(request: Any, transactional_db: None) -> Any:
    """Transactions as MariaDB makes them by default from 11.6.2 on."""
    adapter = str(
        getattr(request.node, "callspec", None) and request.node.callspec.params.get("adapter")
    )
    if adapter.startswith("decorated-rest") and connection.vendor == "mysql":
        pytest.skip("a guard that begins in Django's transaction refuses such an isolation")
    if connection.vendor != "mysql":
        yield
        return
    losses.run("SET SESSION innodb_snapshot_isolation = ON")
    losses.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    yield
    connection.close()


def refused(caller: Caller, adapter: str, text: str, **data: Any) -> None:
    """Twice the same error, nothing written and nothing stored."""
    for _ in range(2):
        response = caller.post(adapter, data)
        assert response.status_code == 500
        error = getattr(response, "exc_info", (None, None))[1]
        assert isinstance(error, LostWrites | EndsTransaction)
        assert text in str(error)
    assert set(Order.objects.values_list("item", flat=True)) <= {"weight"}
    assert IdempotencyRecord.objects.get().state == "claimed"


@adapters
@named(losses.CAUGHT)
def test_an_error_that_the_view_catches(adapter: str, caller: Caller, let: Any, loss: Any) -> None:
    let(loss)
    refused(caller, adapter, "inside of atomic()")


@adapters
@named(losses.SERVER)
def test_the_server_rolls_back(
    adapter: str, caller: Caller, let: Any, loss: Any, snapshots: None
) -> None:
    let(loss)
    refused(caller, adapter, "")


@adapters
@named(losses.CLOSING)
def test_the_view_closes_the_connection(adapter: str, caller: Caller, let: Any, loss: Any) -> None:
    """What it writes on a new one is refused, or it would be half of the writes."""
    let(loss)
    refused(caller, adapter, "close_old_connections()")


@row_locks
@two_adapters
def test_the_view_forgets_the_connection(adapter: str, caller: Caller, let: Any) -> None:
    """What it writes on another one is committed there; what it wrote before is not."""
    let(losses.forget)
    assert caller.post(adapter).status_code == 500
    assert list(Order.objects.values_list("item", flat=True)) == ["after"]
    assert IdempotencyRecord.objects.get().state == "claimed"


@two_adapters
@named(losses.COMMITTED)
def test_the_driver_ends_the_transaction(adapter: str, caller: Caller, let: Any, loss: Any) -> None:
    """Unseen before it happens, but no success, and nothing after it is committed."""
    let(loss)
    assert caller.post(adapter).status_code == 500
    assert not Order.objects.filter(item="after").exists()
    assert IdempotencyRecord.objects.get().state == "claimed"


@adapters
@pytest.mark.parametrize("is_caught", [False, True], ids=["", "caught"])
def test_the_view_ends_the_transaction(
    adapter: str, caller: Caller, let: Any, is_caught: bool
) -> None:
    def end() -> None:
        with suppress(DatabaseError if is_caught else KeyError):
            losses.run("COMMIT")

    let(end)
    response = caller.post(adapter)
    assert response.status_code == 500
    error = response.exc_info[1]
    assert isinstance(error, LostWrites if is_caught else EndsTransaction)
    assert "'COMMIT' would end" in str(error)
    assert "atomic=False" in str(error)
    assert not Order.objects.exists()


@pytest.mark.parametrize("sql", losses.ENDINGS)
def test_statements_that_end_it_are_not_sent(caller: Caller, let: Any, sql: str) -> None:
    let(lambda: losses.run(sql))
    assert caller.post("/decorated-lossy/").status_code == 500
    assert not Order.objects.exists()
    let(lambda: None)
    assert caller.post("/decorated-lossy/").status_code == 201


def test_other_statements_pass(caller: Caller, let: Any) -> None:
    def harmless() -> None:
        for sql in losses.HARMLESS:
            losses.run(sql)

    let(harmless)
    assert caller.post("/decorated-lossy/").status_code == 201
    assert Order.objects.count() == 2


@two_adapters
def test_a_failure_is_stored_all_the_same(
    adapter: str, caller: Caller, let: Any, snapshots: None
) -> None:
    survived = [loss for loss in losses.SERVER if loss is not losses.kill]
    for number, loss in enumerate([*losses.CAUGHT, *survived, losses.close]):
        let(loss)
        key = f"k-{number}"
        first, retry = (caller.post(adapter, {"status": 422}, key=key) for _ in range(2))
        assert (first.status_code, retry["Idempotency-Replayed"]) == (422, "true")
    assert not Order.objects.filter(item="before").exists()


def healed_then_wished() -> None:
    with suppress(DatabaseError), transaction.atomic():
        losses.Coupon.objects.create(code="taken")
    transaction.set_rollback(True)


def wished_in_a_block() -> None:
    with transaction.atomic(savepoint=False):
        transaction.set_rollback(True)


@adapters
@named([healed_then_wished, wished_in_a_block])
def test_a_wish_is_stored(adapter: str, caller: Caller, let: Any, loss: Any) -> None:
    """A dry run: the view says that it wants nothing to be kept."""
    let(loss)
    first, retry = caller.post(adapter), caller.post(adapter)
    assert (first.status_code, retry.content) == (201, first.content)
    assert retry["Idempotency-Replayed"] == "true"
    assert not Order.objects.exists()


def durable() -> None:
    """As a task does that runs in the request (Celery's eager mode logs the error and goes on)."""
    with suppress(RuntimeError), transaction.atomic(durable=True):
        Order.objects.create(item="durable")


@pytest.mark.parametrize("path", ["/lossy/", "/decorated-lossy/", "/async-lossy/"])
def test_a_refused_durable_block_is_no_success(
    path: str, caller: Caller, let: Any, use_middleware: None
) -> None:
    let(durable)
    refused(caller, path, "durable=True")
    assert caller.post(path, key=None).status_code == 201
    assert Order.objects.filter(item="durable").exists()


def test_nothing_of_it_is_left_behind(caller: Caller, let: Any) -> None:
    let(lambda: None)
    wrappers = list(connection.execute_wrappers)
    assert caller.post("/decorated-lossy/").status_code == 201
    assert connection.execute_wrappers == wrappers
    assert "set_rollback" not in vars(connections["default"])


class TestNotes:
    """An error that the view would not meet without us says so, once."""

    @pytest.fixture
    def note(self, caller: Caller, let: Any) -> Callable[..., str]:
        def note(loss: Callable[[], Any], path: str = "/decorated-lossy/") -> str:
            let(loss)
            response = caller.post(path)
            assert response.status_code == 500
            (only,) = response.exc_info[1].__notes__
            return str(only)

        return note

    @pytest.mark.parametrize("path", ["/lossy/", "/decorated-lossy/", "/decorated-rest-lossy/"])
    def test_durable(self, note: Any, use_middleware: None, path: str) -> None:
        def durable() -> None:
            with transaction.atomic(durable=True):
                raise AssertionError

        assert "@idempotent(atomic=False)" in note(durable, path)

    @pytest.mark.parametrize("call", [transaction.commit, transaction.rollback])
    def test_transactions_by_hand(self, note: Any, call: Any) -> None:
        assert "@idempotent(atomic=False)" in note(call)

    @row_locks
    def test_isolation_levels(self, note: Any) -> None:
        sql = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"
        assert "isolation level" in note(lambda: losses.run(sql))

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="a package for PostgreSQL")
    @pytest.mark.parametrize(
        "options", [{"retry": 2}, {"isolation_level": "SERIALIZABLE"}], ids=str
    )
    def test_django_pgtransaction(self, note: Any, options: Any) -> None:
        pgtransaction = pytest.importorskip("pgtransaction")
        assert "atomic=False" in note(lambda: pgtransaction.atomic(**options)(int)())

    def test_a_connection_that_the_view_has_closed(self, note: Any) -> None:
        def use_closed() -> None:
            losses.close_old()
            losses.run("SELECT 1")

        assert "close_old_connections()" in note(use_closed)

    def test_other_errors_have_none(self, caller: Caller, let: Any) -> None:
        def fail() -> None:
            raise RuntimeError("the view is broken")

        let(fail)
        assert not hasattr(caller.post("/decorated-lossy/").exc_info[1], "__notes__")


@pytest.mark.django_db(transaction=True)
class TestSteps:
    """A step is stored in the transaction of its writes, or not at all."""

    @pytest.fixture
    def refused(self, snapshots: None) -> Any:
        def refused(loss: Callable[[], Any], kind: type[Exception] = LostWrites) -> str:
            losses.setup()
            operation, _ = an_operation_beside(run_again)
            assert operation.begin() == Started()
            with pytest.raises(kind) as caught:
                operation.step("work", self.work, loss)
            operation.fail(caught.value)
            assert not IdempotencyStep.objects.filter(position__gt=0).exists()
            assert not Order.objects.filter(item__in=["before", "after"]).exists()
            assert operation.finish(None) is False
            return str(caught.value)

        return refused

    @staticmethod
    def work(loss: Callable[[], Any]) -> None:
        Order.objects.create(item="before")
        loss()
        with suppress(DatabaseError):
            Order.objects.create(item="after")

    @named([*losses.CAUGHT, *losses.SERVER, losses.close, losses.close_old])
    def test_lost_writes(self, refused: Any, loss: Any) -> None:
        refused(loss)

    def test_a_new_connection(self, refused: Any) -> None:
        refused(losses.reconnect, Exception)

    @pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
    def test_statements_that_end_it(self, refused: Any, sql: str) -> None:
        assert "outside of steps" in refused(lambda: losses.run(sql), EndsTransaction)

    def test_a_refusal_that_is_swallowed(self, refused: Any) -> None:
        assert "durable=True" in refused(durable)

    def test_a_wish(self, refused: Any) -> None:
        text = refused(lambda: transaction.set_rollback(True), StepError)
        assert "set_rollback(True)" in text

    def test_a_healed_error_is_none(self) -> None:
        losses.setup()
        operation, _ = an_operation_beside(run_again)
        assert operation.begin() == Started()

        def work() -> None:
            with suppress(DatabaseError), transaction.atomic():
                losses.Coupon.objects.create(code="taken")

        operation.step("work", self.work, work)
        assert operation.finish(CREATED)
        assert Order.objects.count() == 2


@pytest.mark.skipif(connection.vendor != "postgresql", reason="schemas are PostgreSQL's")
@pytest.mark.parametrize("is_left_behind", [True, False], ids=["by the view", "before the lock"])
@pytest.mark.django_db(transaction=True)
def test_another_tenants_record_is_not_completed(is_left_behind: bool) -> None:
    """I17: its number is the same, its scope and key are not."""
    table = IdempotencyRecord._meta.db_table
    losses.run(f"CREATE SCHEMA other; CREATE TABLE other.{table} (LIKE public.{table})")
    try:
        operation = an_operation()
        assert operation.begin() == Started()
        number = IdempotencyRecord.objects.get().pk
        if not is_left_behind:
            operation.fail(RuntimeError())
        losses.run(
            f"INSERT INTO other.{table} SELECT * FROM public.{table};"
            f"UPDATE other.{table} SET key = 'theirs'; SET search_path = other"
        )
        if is_left_behind:
            with pytest.raises(LostRecord):
                operation.finish(CREATED)
        else:
            with pytest.raises(LostRecord, match="search_path"):
                operation._lock_in(operation._transaction, number, timedelta(0))
    finally:
        losses.run("RESET search_path; DROP SCHEMA other CASCADE")
    assert IdempotencyRecord.objects.get().state == "claimed"
