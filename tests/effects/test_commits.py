"""Whatever ends the transaction of a view, its effects have the fate of its writes (I2, I19)."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from rest_framework.authtoken.models import Token

from django_idempotency.effects import after_commit
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.database.dialects import dialect_of
from tests.conftest import Caller, row_locks
from tests.shop.models import Order
from tests.support import behind_guard, effects
from tests.support.adapters import few_adapters
from tests.support.counting import counted
from tests.support.effects import send, sent, states, void


def fail() -> None:
    raise ValueError


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def stage() -> None:
    after_commit(send)


def assert_one_fate() -> None:
    orders = Order.objects.count()
    assert (IdempotencyEffect.objects.count(), len(sent)) == (orders, orders)


class TestInDjangosBlock:
    """The guard ends inside the block of ``ATOMIC_REQUESTS``, which commits later, or does not."""

    @pytest.fixture(autouse=True, params=["/function/", "/rest/"])
    def _project(
        self, request: Any, settings: Any, monkeypatch: Any, caller: Caller, after_write: Any
    ) -> None:
        settings.ROOT_URLCONF = behind_guard.__name__
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        monkeypatch.setattr(behind_guard, "after", void)
        self.patch = monkeypatch
        self.post = lambda: caller.post(request.param)
        self.stage_again = lambda: after_write(stage)
        self.stage_again()

    def then(self, end: Callable[[], Any]) -> None:
        self.patch.setattr(behind_guard, "after", end)

    @row_locks  # SQLite's guard leaves the block, if nothing was written in it
    def test_its_commit_commits_them(self) -> None:
        def look() -> None:
            assert (states(), sent) == (["pending"], [])

        self.then(look)
        assert self.post().status_code == 201
        assert (states(), sent) == (["done"], ["mail"])

    @pytest.mark.parametrize(
        "end",
        [
            fail,
            lambda: transaction.set_rollback(True),
            lambda: connection.close(),
            lambda: IdempotencyRecord.objects.update(attempt=F("attempt") + 1),
        ],
        ids=["raise", "set_rollback", "close", "take over"],
    )
    def test_what_undoes_it_undoes_them(self, end: Callable[[], None]) -> None:
        self.then(end)
        self.post()
        assert_one_fate()
        self.then(void)
        self.stage_again()
        assert self.post().status_code == 201
        if dialect_of(connection).has_row_locks:
            assert len(sent) == 1
        assert_one_fate()

    @pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
    def test_sql_that_ends_it_ends_it_for_both(self, sql: str) -> None:
        self.then(lambda: execute(sql))
        self.post()
        assert IdempotencyEffect.objects.count() == Order.objects.count()

    def test_code_around_the_guard_stages_in_the_block(self) -> None:
        """Its operation has ended: the effect is stored at once, and in the same commit."""
        self.then(lambda: after_commit(send, "outer"))
        assert self.post().status_code == 201
        assert sent == ["mail", "outer"]
        assert [each.record_id is None for each in effects.effects()].count(True) == 1

    @pytest.mark.skipif(connection.vendor == "mysql", reason="constraints are checked at once")
    def test_nor_are_they_there_if_the_commit_fails(self) -> None:
        self.then(lambda: Token.objects.create(key="k", user_id=10**6))
        assert self.post().status_code == 500
        assert_one_fate()


@few_adapters
def test_what_the_view_takes_with_it(adapter: str, caller: Caller, after_write: Any) -> None:
    """A record that another attempt has taken over (I12)."""

    def lose() -> None:
        stage()
        IdempotencyRecord.objects.update(attempt=F("attempt") + 1)

    after_write(lose)
    assert caller.post(adapter).status_code == 500
    assert_one_fate()
    assert caller.post(adapter).status_code == 201


@few_adapters
def test_an_effect_that_cannot_be_stored_fails_the_request(
    adapter: str, caller: Caller, after_write: Any, monkeypatch: Any
) -> None:
    """As before the migration. Nothing is committed, and the retry runs."""
    after_write(stage)
    with monkeypatch.context() as patch:
        effects.not_migrated(patch)
        assert caller.post(adapter).status_code == 500
    assert_one_fate()
    after_write(stage)
    assert caller.post(adapter).status_code == 201
    assert len(sent) == 1
    assert_one_fate()


@few_adapters
def test_effects_cost_one_statement_before_the_commit_and_one_after(
    adapter: str, caller: Caller, after_write: Any, kept_claim_connections: None
) -> None:
    def cost(key: str) -> Any:
        with counted() as count:
            assert caller.post(adapter, key=key).status_code == 201
        return count

    cost("warm-up")
    bare = cost("bare")
    after_write(lambda: void([after_commit(send, number) for number in range(5)]))
    staged = cost("staged")
    assert staged.statements == bare.statements + 2
    assert staged.control <= bare.control
    assert cost("staged").statements <= bare.statements
    assert sent == list(range(5))
