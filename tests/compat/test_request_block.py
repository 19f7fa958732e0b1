"""Our block and Django's, one inside the other."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_idempotency.compat import django as compat
from django_idempotency.compat.request_block import FirstSavepoint, Foundation, LastStatement
from django_idempotency.stores.database.dialects import dialect_of
from tests.shop.models import Order


@pytest.fixture
def connection() -> Any:
    return connections["default"]


@pytest.fixture
def seen() -> list[Any]:
    """What happens, in its order."""
    return []


def begin(connection: Any) -> None:
    """As the dialect does it."""
    dialect_of(connection).begin(connection)


def send_last(connection: Any, seen: list[Any], send: Callable[[bool], Any]) -> None:
    def hook() -> None:
        seen.append("hook")

    compat.first_on_commit(connection, hook)
    LastStatement(connection, hook, send, lambda: begin(connection))


@pytest.mark.django_db(transaction=True)
class TestFoundation:
    def test_a_block_of_djangos_stands_on_ours(self, connection: Any) -> None:
        """Its rollback becomes ours; its end ends nothing."""
        undone: list[int] = []
        ours = compat.AttemptBlock("default", savepoint=True, durable=False)
        with transaction.atomic():
            upper = connection.atomic_blocks[0]
            foundation = Foundation(connection, ours, upper, lambda: undone.append(1))
            assert foundation.carries
        assert not foundation.carries
        assert connection.in_atomic_block
        foundation.close()
        ours.__exit__(None, None, None)
        assert (connection.in_atomic_block, undone) == (False, [])

    def test_a_rollback_of_djangos_block_on_ours_is_answered(self, connection: Any) -> None:
        undone: list[int] = []
        ours = compat.AttemptBlock("default", savepoint=True, durable=False)
        with suppress(ValueError), transaction.atomic():
            upper = connection.atomic_blocks[0]
            foundation = Foundation(connection, ours, upper, lambda: undone.append(1))
            raise ValueError
        foundation.close()
        ours.__exit__(None, None, None)
        assert (connection.in_atomic_block, undone) == (False, [1])


@pytest.mark.django_db(transaction=True)
class TestLastStatement:
    """``_commit``, replaced on a connection for one commit."""

    def test_commit_sends_it(self, connection: Any, seen: list[Any]) -> None:
        with transaction.atomic():
            send_last(connection, seen, lambda commits: seen.append(f"commits: {commits}"))
            assert "_commit" in vars(connection)
        assert seen == ["commits: True", "hook"]
        assert "_commit" not in vars(connection)

    def test_so_does_any_other_statement_first(self, connection: Any, seen: list[Any]) -> None:
        with transaction.atomic():
            send_last(connection, seen, lambda commits: seen.append(f"commits: {commits}"))
            Order.objects.count()
            assert "_commit" not in vars(connection)
        assert seen == ["commits: False", "hook"]

    def test_it_may_add_hooks(self, connection: Any, seen: list[Any]) -> None:
        with transaction.atomic():
            send_last(
                connection, seen, lambda commits: transaction.on_commit(lambda: seen.append("late"))
            )
        assert seen == ["hook", "late"]

    def test_its_error_undoes_everything(self, connection: Any, seen: list[Any]) -> None:
        def refuse(commits: bool) -> None:
            raise ValueError

        with suppress(ValueError), transaction.atomic():
            Order.objects.create(item="undone")
            send_last(connection, seen, refuse)
        assert not Order.objects.exists()
        assert (seen, connection.in_atomic_block) == ([], False)

    def test_a_rollback_forgets_it(self, connection: Any, seen: list[Any]) -> None:
        with suppress(ValueError), transaction.atomic():
            send_last(connection, seen, lambda commits: seen.append("sent"))
            raise ValueError
        Order.objects.create(item="next")
        assert (seen, "_commit" in vars(connection)) == ([], False)


@pytest.mark.django_db(transaction=True)
class TestSavepoints:
    def test_savepoint_and_its_ends_are_not_sent(self, connection: Any) -> None:
        """``_savepoint``, ``_savepoint_commit``, ``_savepoint_rollback``."""
        undone: list[int] = []
        with transaction.atomic():
            first = FirstSavepoint(connection, lambda: undone.append(1))
            with CaptureQueriesContext(connection) as queries:
                with suppress(ValueError), transaction.atomic():
                    assert first.is_open
                    assert compat.savepoints(connection) == [None]
                    raise ValueError
                assert (undone, first.is_open, first.is_undone) == ([1], False, True)
            assert queries.captured_queries == []
            assert not {name for name in vars(connection) if name == "_savepoint"}
            first.close()
        assert not vars(connection).keys() & {"_savepoint_commit", "_savepoint_rollback"}

    def test_other_savepoints_are(self, connection: Any) -> None:
        undone: list[int] = []
        with transaction.atomic():
            FirstSavepoint(connection, lambda: undone.append(1))
            with transaction.atomic():
                Order.objects.create(item="kept")
                with suppress(ValueError), transaction.atomic():
                    Order.objects.create(item="undone")
                    raise ValueError
                with transaction.atomic():
                    Order.objects.create(item="kept")
        assert ([order.item for order in Order.objects.all()], undone) == (["kept"] * 2, [])

    def test_nor_is_the_first_one_unsent_after_another_statement(self, connection: Any) -> None:
        with transaction.atomic():
            FirstSavepoint(connection, lambda: None)
            Order.objects.create(item="kept")
            assert "_savepoint" not in vars(connection)
            with suppress(ValueError), transaction.atomic():
                Order.objects.create(item="undone")
                raise ValueError
        assert [order.item for order in Order.objects.all()] == ["kept"]
        assert "_savepoint_commit" not in vars(connection)

    def test_hooks_that_came_before_it_stay(self, connection: Any, seen: list[Any]) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append("before"))
            FirstSavepoint(
                connection, lambda: compat.start_over(connection, lambda: begin(connection))
            )
            with suppress(ValueError), transaction.atomic():
                transaction.on_commit(lambda: seen.append("inside"))
                raise ValueError
        assert seen == ["before"]
