"""Steps: what is done once is not done again, whatever happens between them."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import TestCase
from rest_framework.authtoken.models import Token

from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.operations import KEY
from django_idempotency.operations.atomic import AtomicOperation
from django_idempotency.operations.base import InFlight, Started
from django_idempotency.operations.errors import ChangedRecipe, LostRecord, StepError
from django_idempotency.operations.non_atomic import NonAtomicOperation, run_again
from django_idempotency.operations.row_lock import RowLock
from django_idempotency.operations.sessions import session_of
from django_idempotency.stores.database.step_log import StepLog
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import in_thread, row_locks
from tests.shop.models import Order
from tests.support.holding import CREATED, a_claim, an_operation, interrupt, kill
from tests.support.world import World


def begun() -> NonAtomicOperation:
    operation, _ = an_operation(run_again)
    assert operation.begin() == Started()
    return operation


@pytest.fixture
def operation(transactional_db: None) -> Iterator[NonAtomicOperation]:
    started = begun()
    yield started
    interrupt(started)


class TestSteps:
    def test_a_later_attempt_gets_the_stored_result(self, operation: NonAtomicOperation) -> None:
        world = World()
        result = {"id": "ch_1", "parts": [1, 2.5, None, True, "\0é"]}
        assert operation.step("charge", world.do, "charge", result) == result
        assert operation.step("order", world.order, item="vm") == Order.objects.get().pk
        interrupt(operation)
        again = begun()
        assert again.step("charge", world.do, "charge", "other") == result
        assert again.step("order", world.order, item="vm") == Order.objects.get().pk
        assert again.step("mail", world.do, "mail") is None
        assert again.finish(CREATED)
        assert world.done == ["charge", "vm", "mail"]
        stored = IdempotencyStep.objects.filter(position__gt=0).order_by("position")
        assert [(each.name, each.attempt) for each in stored] == [
            ("charge", 1),
            ("order", 1),
            ("mail", 2),
        ]

    def test_its_key_is_handed_on_where_it_is_asked_for(
        self, operation: NonAtomicOperation
    ) -> None:
        def charge(amount: int, key: str, *more: str) -> list[Any]:
            return [amount, key, *more]

        def fails(key: str) -> None:
            seen.append(key)
            raise RuntimeError

        seen: list[str] = []
        derived = operation.derive_key("charge")
        with pytest.raises(RuntimeError):
            operation.step("charge", fails, KEY)
        assert operation.step("charge", charge, 7, key=KEY) == [7, derived]
        assert operation.step("other", charge, 7, KEY, "more")[1] == operation.derive_key("other")
        assert operation.step("nested", lambda given: given is not None, [KEY])
        assert seen == [derived]
        with pytest.raises(StepError, match="named 'charge', too: both would hand on the same"):
            operation.step("charge", charge, 7, key=KEY)
        assert operation.step("charge", charge, 7, key="mine") == [7, "mine"]
        for bad in ("", 7):
            with pytest.raises(StepError, match="name of a step"):
                operation.step(bad, charge, 7, key=KEY)  # type: ignore[arg-type]

    def test_its_writes_and_its_result_are_one_commit(self, operation: NonAtomicOperation) -> None:
        world = World()

        def breaks() -> None:
            world.order("vm")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            operation.step("order", breaks)
        assert not Order.objects.exists()
        assert operation.step("order", world.order, "vm") == Order.objects.get().pk

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="others defer no constraint")
    def test_a_commit_that_fails_leaves_neither(self, operation: NonAtomicOperation) -> None:
        """The commit travels with the result."""

        def breaks() -> None:
            World().order("vm")
            Token.objects.create(key="k", user_id=0)

        with pytest.raises(IntegrityError):
            operation.step("order", breaks)
        assert not Order.objects.exists()
        assert operation.step("order", World().order, "vm") == Order.objects.get().pk
        assert IdempotencyStep.objects.filter(position__gt=0).count() == 1

    def test_its_hooks_run_once_when_it_is_committed(self, operation: NonAtomicOperation) -> None:
        seen: list[int] = []

        def order() -> None:
            World().order("vm")
            transaction.on_commit(lambda: seen.append(in_thread(Order.objects.count).result()))

        operation.step("order", order)
        assert seen == [1]

    def test_it_is_committed_before_the_next_one(self, operation: NonAtomicOperation) -> None:
        operation.step("order", World().order, "vm")
        assert in_thread(Order.objects.count).result() == 1
        operation.step("look", lambda: in_thread(Order.objects.count).result())

    @pytest.mark.parametrize("other", ["refund", "Charge"])
    def test_another_name_is_a_changed_recipe(
        self, other: str, operation: NonAtomicOperation
    ) -> None:
        world = World()
        operation.step("charge", world.do, "charge")
        interrupt(operation)
        again = begun()
        with pytest.raises(ChangedRecipe, match=f"Step 1 .* is 'charge'.* comes '{other}'"):
            again.step(other, world.do, other)
        interrupt(again)
        assert world.done == ["charge"]

    def test_another_order_is_a_changed_recipe(self, operation: NonAtomicOperation) -> None:
        world = World()
        for name in ("charge", "create"):
            operation.step(name, world.do, name)
        interrupt(operation)
        again = begun()
        with pytest.raises(ChangedRecipe):
            again.step("create", world.do, "create")
        interrupt(again)
        assert world.done == ["charge", "create"]

    @pytest.mark.parametrize(
        "result",
        [object(), {1: "a"}, (1, 2), {"set"}, float("nan"), b"bytes", [[object()]]],
        ids=["object", "number as name", "tuple", "set", "not a number", "bytes", "nested"],
    )
    def test_only_plain_data_is_a_result(self, result: Any, operation: NonAtomicOperation) -> None:
        def buy() -> Any:
            World().order("vm")
            return result

        with pytest.raises(StepError, match="plain data"):
            operation.step("buy", buy)
        assert not Order.objects.exists()

    @pytest.mark.parametrize("name", ["", "x" * 101, "é" * 51, None], ids=str)
    def test_names_fit(self, name: Any, operation: NonAtomicOperation) -> None:
        with pytest.raises(StepError, match="name of a step"):
            operation.step(name, World().do, "nothing")

    def test_steps_follow_each_other(self, operation: NonAtomicOperation) -> None:
        def outer() -> None:
            operation.step("inner", World().do, "inner")

        with pytest.raises(StepError, match="inside of another step"):
            operation.step("outer", outer)
        assert operation.step("next", World().do, "next", 1) == 1

    def test_a_transaction_around_a_step_is_refused(self, operation: NonAtomicOperation) -> None:
        with transaction.atomic(), pytest.raises(StepError, match="could undo it"):
            operation.step("charge", World().do, "charge")

    def test_purposes_and_operations_have_keys_of_their_own(
        self, operation: NonAtomicOperation
    ) -> None:
        keys = {operation.derive_key("charge"), operation.derive_key("refund")}
        interrupt(operation)
        other, _ = an_operation(key="other")
        assert other.begin() == Started()
        keys.add(other.derive_key("charge"))
        assert len(keys) == 3
        again = begun()
        assert again.derive_key("charge") in keys
        interrupt(again)
        assert other.finish(CREATED)


@row_locks
@pytest.mark.django_db(transaction=True)
class TestFencing:
    """I12: steps commit beside the lock, so they have a fence of their own."""

    def test_an_attempt_that_was_overtaken_takes_no_step(self) -> None:
        loser, hold = an_operation()
        world = World()
        assert loser.begin() == Started()
        kill(hold)
        winner = begun()
        with pytest.raises(LostRecord):
            loser.step("charge", world.do, "charge")
        interrupt(loser)
        assert world.done == []
        assert winner.finish(CREATED)

    def test_a_lock_that_nobody_has_taken_since_is_taken_back(self) -> None:
        """The database failed over, or an operator ended an idle session: no reason to stop."""
        operation, hold = an_operation()
        assert operation.begin() == Started()
        kill(hold)
        assert operation.step("charge", World().do, "charge", "ch_1") == "ch_1"
        assert an_operation(run_again)[0].begin() == InFlight()
        assert operation.finish(CREATED)

    def test_threads_of_a_view_do_not_disturb_each_other(self) -> None:
        """They share the connection that holds the lock, which takes one question at a time."""
        operation, hold = an_operation()
        assert operation.begin() == Started()

        def ask() -> bool:
            return all(hold.is_held() for _ in range(50))

        rivals = [in_thread(ask) for _ in range(4)]
        assert all(each.result() for each in rivals)
        assert operation.finish(CREATED)

    def test_nor_if_it_does_not_know(self, monkeypatch: Any) -> None:
        """The successor starts between the look at the lock and the step's transaction."""
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)
        winner = begun()
        monkeypatch.setattr(hold, "is_held", lambda: True)
        with pytest.raises(LostRecord, match="later attempt"):
            loser.step("order", World().order, "vm")
        interrupt(loser)
        assert not Order.objects.exists()
        assert winner.step("order", World().order, "vm") == Order.objects.get().pk
        assert winner.finish(CREATED)

    def test_a_step_in_progress_keeps_successors_away(self) -> None:
        """Its lock is lost, but what it writes is not decided yet: in flight."""
        loser, hold = an_operation()
        assert loser.begin() == Started()
        inside, go_on = threading.Event(), threading.Event()

        def slow() -> str:
            inside.set()
            assert go_on.wait(30)
            return "charged"

        def step() -> Any:
            return loser.step("charge", slow)

        rival = in_thread(step)
        assert inside.wait(30)
        kill(hold)
        late, _ = an_operation(run_again)
        assert late.begin() == InFlight()
        go_on.set()
        assert rival.result() == "charged"
        interrupt(loser)
        winner = begun()
        assert winner.step("charge", World().do, "charge") == "charged"
        assert winner.finish(CREATED)
        assert IdempotencyRecord.objects.get().attempt == winner.attempt

    def test_after_its_end_an_attempt_takes_no_step(self) -> None:
        ended = begun()
        ended.finish(None, nothing_done=True)
        with pytest.raises(LostRecord):
            ended.step("charge", World().do, "charge")


class TestElsewhere(TestCase):
    def test_steps_work_in_test_cases(self) -> None:
        world, operation = World(), begun()
        operation.step("order", world.order, "vm")
        with pytest.raises(StepError):
            operation.step("bad", object)
        interrupt(operation)
        again = begun()
        assert again.step("order", world.order, "vm") == Order.objects.get().pk
        assert again.finish(CREATED)

    def test_nor_have_records_outside_of_a_database(self) -> None:
        store = DatabaseStore("default")
        hold = RowLock(store, StepLog("default"), session_of("default", 1))
        operation = NonAtomicOperation(store, a_claim(), hold)
        assert operation.begin() == Started()
        with pytest.raises(StepError, match="records in a database"):
            operation.step("charge", World().do, "charge")
        assert operation.finish(CREATED)

    def test_atomic_mode_has_no_steps(self) -> None:
        operation = AtomicOperation(DatabaseStore("default"), a_claim(), connection)
        assert operation.begin() == Started()
        with pytest.raises(StepError, match="atomic=False"):
            operation.step("charge", World().do, "charge")
        assert len(operation.derive_key("charge")) == 36
        with pytest.raises(ValueError, match="purpose"):
            operation.derive_key("")
        assert operation.finish(CREATED)
