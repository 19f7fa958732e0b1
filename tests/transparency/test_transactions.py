"""I15: hooks and blocks of the view's own work as before."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from rest_framework.authtoken.models import Token

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller, in_thread
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import few_adapters
from tests.transparency.project import MARKER, seen


@few_adapters
class TestOnCommit:
    def test_hooks_run_once_and_after_the_commit(
        self, adapter: str, caller: Caller, after_write: Any
    ) -> None:
        """Rivals see the stored response by then."""

        def look() -> None:
            state = IdempotencyRecord.objects.values_list("state", flat=True)
            seen.append(in_thread(state.get).result())

        after_write(lambda: transaction.on_commit(look))
        first, retry = caller.post(adapter), caller.post(adapter)
        assert (first.status_code, retry[MARKER]) == (201, "true")
        assert seen == ["completed"]

    @pytest.mark.parametrize("outcome", ["503", "raise 404", "raise 500"])
    def test_hooks_of_what_was_undone_do_not_run(
        self, adapter: str, outcome: str, caller: Caller, after_write: Any
    ) -> None:
        after_write(lambda: transaction.on_commit(lambda: seen.append("ran")))
        caller.post(adapter, {"outcome": outcome})
        caller.post(adapter, {"outcome": outcome})
        assert seen == []

    def test_hooks_of_a_refusal_run_as_its_writes_stay(
        self, adapter: str, caller: Caller, after_write: Any
    ) -> None:
        after_write(lambda: transaction.on_commit(lambda: seen.append("ran")))
        assert caller.post(adapter, {"outcome": "429"}).status_code == 429
        assert seen == ["ran"]

    def test_a_hook_that_raises_comes_after_the_fact(
        self, adapter: str, caller: Caller, after_write: Any
    ) -> None:
        def fail() -> None:
            raise views.Broken

        after_write(lambda: transaction.on_commit(fail))
        assert caller.post(adapter).status_code == 500
        retry = caller.post(adapter)
        assert (retry.status_code, retry[MARKER]) == (201, "true")
        assert Order.objects.count() == 1


@few_adapters
class TestTransactions:
    def test_a_nested_block_is_a_savepoint(
        self, adapter: str, caller: Caller, after_write: Any
    ) -> None:
        def write() -> None:
            with transaction.atomic():
                Order.objects.create(item="kept")
            with transaction.atomic():
                Order.objects.create(item="undone")
                transaction.set_rollback(True)

        after_write(write)
        assert caller.post(adapter, {"item": "vm"}).status_code == 201
        assert caller.post(adapter, {"item": "vm"})[MARKER] == "true"
        assert {order.item for order in Order.objects.all()} == {"vm", "kept"}

    def test_a_view_may_undo_its_writes(
        self, adapter: str, caller: Caller, after_write: Any
    ) -> None:
        after_write(lambda: transaction.set_rollback(True))
        first, retry = caller.post(adapter), caller.post(adapter)
        assert (first.status_code, retry.status_code, retry[MARKER]) == (201, 201, "true")
        assert retry.content == first.content
        assert not Order.objects.exists()

    def test_a_constraint_that_fails_at_the_commit(
        self, adapter: str, caller: Caller, after_write: Any
    ) -> None:
        """Foreign keys are checked there on PostgreSQL and SQLite, and at once on MariaDB."""
        after_write(lambda: Token.objects.create(key="k", user_id=10**6))
        assert caller.post(adapter).status_code == 500
        assert not Order.objects.exists()
        retry = caller.post(adapter)
        assert (retry.status_code, MARKER in retry) == (201, False)
        assert Order.objects.count() == 1

    def test_a_durable_block_cannot_be(
        self, adapter: str, caller: Caller, after_write: Any, caplog: Any
    ) -> None:
        """It fails inside the guard's transaction, with an error that says what to do."""

        def write() -> None:
            with transaction.atomic(durable=True):
                raise AssertionError("no block in a transaction is durable")

        after_write(write)
        assert caller.post(adapter).status_code == 500
        assert "durable" in caplog.text
        assert (
            "django_idempotency: a guarded view, or a function under a key, runs in one transaction"
            in caplog.text
        )
        assert not Order.objects.exists()
        assert caller.post(adapter).status_code == 201

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="an error ends its transaction")
    def test_an_error_that_the_view_has_caught_ends_its_transaction(
        self, adapter: str, caller: Caller, after_write: Any
    ) -> None:
        """The view answers as if nothing was; nothing was, and nothing is remembered."""

        def divide() -> None:
            with pytest.raises(Exception, match="division by zero"), connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")

        after_write(divide)
        assert caller.post(adapter).status_code == 500
        assert not Order.objects.exists()
        retry = caller.post(adapter)
        assert (retry.status_code, MARKER in retry) == (201, False)


def test_a_transaction_around_the_guard_is_refused(caller: Caller, caplog: Any) -> None:
    assert caller.post("/inside-a-transaction/").status_code == 500
    assert ImproperlyConfigured.__name__ in caplog.text
    assert "Move atomic() into the view (below @idempotent)" in caplog.text
