"""Effects in Django's test cases, which commit nothing: all of a test is one transaction."""

from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.test import TestCase

from django_idempotency.effects import EffectError, after_commit
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.effects.runner import run_due
from django_idempotency.operations import run_once
from tests.shop.models import Order
from tests.support import effects
from tests.support.effects import later, order, send, sent, states, the_only

once = partial(run_once, key="k", scope="s")


class TestInATestCase(TestCase):
    """Nothing is committed there, so effects run where a test asks for hooks."""

    def test_effects_run_where_hooks_are_captured(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            once(order, 1, 2)
            assert states() == ["pending", "pending"]
        assert (sent, states()) == ([1, 2], ["done", "done"])

    def test_without_that_they_are_staged(self) -> None:
        once(order, 1)
        assert (sent, states()) == ([], ["pending"])
        assert IdempotencyEffect.objects.get().tries == 1

    def test_an_exception_drops_them(self) -> None:
        with (
            self.captureOnCommitCallbacks(execute=True),
            pytest.raises(effects.Down),
        ):
            once(order, 1, kwargs={"fails": True})
        assert (sent, effects.effects()) == ([], [])

    def test_what_fails_in_the_database_leaves_the_transaction_usable(self) -> None:
        def fail(what: Any) -> None:
            Order.objects.create(pk=1, item=what)
            Order.objects.bulk_create([Order(pk=1, item=what)])

        effects.before = fail
        with self.captureOnCommitCallbacks(execute=True):
            once(order, 1)
        assert (the_only().error, Order.objects.count()) == ("IntegrityError", 1)

    def test_in_a_block(self) -> None:
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            after_commit(send)
        assert (sent, states()) == (["mail"], ["done"])

    def test_outside_of_a_block_is_an_error_as_elsewhere(self) -> None:
        with pytest.raises(EffectError, match="outside of any transaction"):
            after_commit(send)

    def test_the_worker(self) -> None:
        with transaction.atomic():
            after_commit(later)
        assert run_due("default").done == 1
        assert sent == ["mail"]
