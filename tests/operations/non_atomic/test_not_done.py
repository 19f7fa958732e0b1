"""A view that owns its transactions says that nothing was done: its record is removed."""

import pytest
from django.http import HttpResponse

from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.operations.base import Started
from django_idempotency.operations.errors import StepError
from django_idempotency.operations.non_atomic import run_again
from tests.conftest import Caller, row_locks
from tests.support.adapters import few_effect_adapters
from tests.support.holding import an_operation, interrupt, kill

NOTHING = {"item": "invalid", "not done": True}


@few_effect_adapters
class TestTheKeyIsFree:
    def test_another_body_runs(self, adapter: str, caller: Caller, charges: list[str]) -> None:
        assert caller.post(adapter, NOTHING).status_code == 201
        assert not IdempotencyRecord.objects.exists()
        assert not IdempotencyStep.objects.exists()
        first, replay = caller.post(adapter), caller.post(adapter)
        assert replay.content == first.content
        assert charges == ["invalid", "server"]

    def test_so_does_the_same_one(self, adapter: str, caller: Caller, charges: list[str]) -> None:
        for _ in range(3):
            assert caller.post(adapter, NOTHING).status_code == 201
        assert charges == ["invalid"] * 3


@pytest.mark.usefixtures("transactional_db")
class TestSteps:
    """What a step has done stays done, and must not be forgotten (I11)."""

    def test_an_attempt_that_has_taken_one_is_told_at_once(self) -> None:
        operation, _ = an_operation()
        assert operation.begin() == Started()
        operation.step("charge", lambda: 1)
        with pytest.raises(StepError, match="stays done"):
            operation.not_done(HttpResponse())
        interrupt(operation)
        assert IdempotencyRecord.objects.count() == 1

    def test_an_attempt_after_it_is_told_at_its_end(self) -> None:
        first, _ = an_operation()
        assert first.begin() == Started()
        first.step("charge", lambda: 1)
        interrupt(first)
        second, _ = an_operation(run_again)
        assert second.begin() == Started()
        second.not_done(HttpResponse())
        with pytest.raises(StepError, match="stays done"):
            second.withdraw(keeps_writes=True)
        interrupt(second)
        assert IdempotencyRecord.objects.count() == 1

    def test_an_attempt_after_an_interrupted_one_without_steps_may(self) -> None:
        first, _ = an_operation()
        assert first.begin() == Started()
        interrupt(first)
        second, _ = an_operation(run_again)
        assert second.begin() == Started()
        assert second.withdraw(keeps_writes=True)
        assert not IdempotencyRecord.objects.exists()
        assert not IdempotencyStep.objects.exists()


@row_locks
@pytest.mark.usefixtures("transactional_db")
class TestALostSession:
    def test_the_lock_is_taken_back(self) -> None:
        operation, hold = an_operation()
        assert operation.begin() == Started()
        kill(hold)
        assert operation.withdraw(keeps_writes=True)
        assert not IdempotencyRecord.objects.exists()

    def test_unless_another_attempt_has_started(self) -> None:
        """I12."""
        operation, hold = an_operation()
        assert operation.begin() == Started()
        kill(hold)
        successor, _ = an_operation(run_again)
        assert successor.begin() == Started()
        assert not operation.withdraw(keeps_writes=True)
        assert successor.withdraw(keeps_writes=True)
