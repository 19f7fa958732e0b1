"""Others hold what we need: nobody waits for ever, nobody gets a 5xx for it that is not a 503."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.atomic import AtomicOperation
from django_idempotency.operations.base import InFlight, Started, Unavailable
from django_idempotency.operations.errors import LostRecord
from django_idempotency.protocol.record import Claim, Snapshot, StoredResponse
from django_idempotency.stores.base import Busy
from django_idempotency.stores.database.dialects import dialect_of
from django_idempotency.stores.database.store import DatabaseStore
from django_idempotency.stores.database.transactions import write_transaction
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.support.operations import CREATED, an_operation

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Give up on locks as soon as the database allows."""
    sql = {
        "postgresql": "SET lock_timeout = '50ms'",
        "mysql": "SET innodb_lock_wait_timeout = 1",
        "sqlite": "PRAGMA busy_timeout = 50",
    }
    with connection.cursor() as cursor:
        cursor.execute(sql[connection.vendor])
    yield
    connection.close()


def test_losing_a_lock_is_contention_and_nothing_else_is() -> None:
    order = Order.objects.create(item="vm")

    def rival() -> bool:
        with short_timeouts(), pytest.raises(OperationalError) as caught, transaction.atomic():
            Order.objects.filter(pk=order.pk).update(item="theirs")
        return dialect_of(connection).is_contention(caught.value)

    with transaction.atomic():
        Order.objects.filter(pk=order.pk).update(item="ours")
        assert in_thread(rival).result() is True
    for other in (OperationalError("the server is gone"), OperationalError()):
        assert not dialect_of(connection).is_contention(other)


def _settings_of_a_busy_database(settings: Any) -> None:
    settings.MIDDLEWARE = [
        *settings.BASE_MIDDLEWARE,
        "django_idempotency.middleware.IdempotencyMiddleware",
    ]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has one writer")
class TestOneWriter:
    """SQLite: the write lock is taken for longer than the busy timeout."""

    def test_a_claim_that_cannot_be_written_gets_503(self, caller: Caller, settings: Any) -> None:
        _settings_of_a_busy_database(settings)

        def post() -> Any:
            with short_timeouts():
                return caller.post("/rest/")

        with write_transaction("default"):
            response = in_thread(post).result()
        assert response.status_code == 503
        assert response["Retry-After"] == "1"
        assert response.json()["code"] == "idempotency_store_busy"
        assert not Order.objects.exists()

    def test_a_claimed_record_behind_a_writer_is_in_flight(self) -> None:
        DatabaseStore("default").claim(an_operation()._claim)

        def begin() -> Any:
            with short_timeouts():
                return an_operation().begin()

        with write_transaction("default"):
            assert in_thread(begin).result() == InFlight()

    def test_an_expired_record_behind_a_writer(self) -> None:
        operation = an_operation()
        assert operation.begin() == Started()
        assert operation.finish(CREATED)
        IdempotencyRecord.objects.update(expires_at="2000-01-01T00:00Z")

        def begin() -> Any:
            with short_timeouts():
                return an_operation().begin()

        with write_transaction("default"):
            assert in_thread(begin).result() == InFlight()


class Nervous(DatabaseStore):
    """Loses every race for what it is told to lose."""

    def __init__(self, *losing: str) -> None:
        super().__init__("default")
        self.losing = losing

    def claim(self, claim: Claim) -> Snapshot | None:
        if "claim" in self.losing:
            raise Busy
        return None if "see" in self.losing else super().claim(claim)

    def lock(self, record_id: int, *wait: Any) -> Snapshot | None:
        if "lock" in self.losing:
            raise Busy
        if "crash" in self.losing:
            raise OperationalError("the server is gone")
        return super().lock(record_id, *wait)

    def complete(self, *arguments: Any, **named: Any) -> bool:
        if "store" in self.losing:
            raise OperationalError("the server is gone")
        return "remember" not in self.losing and super().complete(*arguments, **named)


def test_a_claim_that_loses_every_race_is_unavailable() -> None:
    for reason in ("claim", "see"):
        assert an_operation(Nervous(reason)).begin() == Unavailable()


def test_a_lock_that_loses_is_in_flight() -> None:
    assert an_operation(Nervous("lock")).begin() == InFlight()
    assert not connection.in_atomic_block


def test_an_error_while_locking_leaves_no_transaction() -> None:
    with pytest.raises(OperationalError):
        an_operation(Nervous("crash")).begin()
    assert not connection.in_atomic_block


def started(store: DatabaseStore) -> AtomicOperation:
    operation = an_operation(store)
    assert operation.begin() == Started()
    Order.objects.create(item="vm")
    return operation


def test_an_error_while_storing_undoes_the_views_writes() -> None:
    """I2: if it is not remembered, it did not happen."""
    operation = started(Nervous("store"))
    with pytest.raises(OperationalError):
        operation.finish(CREATED)
    assert not connection.in_atomic_block
    assert not Order.objects.exists()


def test_a_record_that_is_no_longer_ours_undoes_the_views_writes() -> None:
    """I12."""
    operation = started(Nervous("remember"))
    with pytest.raises(LostRecord):
        operation.finish(CREATED)
    assert not Order.objects.exists()


def test_a_late_store_that_loses_is_not_stored() -> None:
    store = Nervous()
    operation = started(store)
    operation.fail(ValueError())
    store.losing = ("lock",)
    assert operation.finish(StoredResponse(404)) is False
    store.losing = ("crash",)
    with pytest.raises(OperationalError):
        operation.finish(StoredResponse(404))
    assert not connection.in_atomic_block


@row_locks
def test_an_error_at_the_commit_is_not_a_success(caller: Caller, settings: Any) -> None:
    """The connection is cut between the store and the commit, or where they travel together."""
    _settings_of_a_busy_database(settings)

    def cut(execute: Any, sql: str, *rest: Any) -> Any:
        if ("SET autocommit" in sql or sql.startswith("WITH stored")) and "UPDATE" in sql:
            connection.connection.close()
        result = execute(sql, *rest)
        if sql.startswith("UPDATE"):
            connection.connection.close()
        return result

    with connection.execute_wrapper(cut):
        assert caller.post("/rest/").status_code == 500
    assert not Order.objects.exists()
    assert caller.post("/rest/").status_code == 201
