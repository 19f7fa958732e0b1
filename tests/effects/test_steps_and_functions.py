"""Effects of steps, of functions that run once, and of operations that are resumed."""

from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.http import JsonResponse

from django_idempotency.adapters.resumed import resume
from django_idempotency.contract.endpoints import resumable_handlers
from django_idempotency.effects import (
    EffectError,
    after_commit,
    current_effect,
    effect,
)
from django_idempotency.effects.runner import run_due
from django_idempotency.guard.resuming import Resumed
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import current_operation, idempotent_function, run_once
from django_idempotency.stores.database.interrupted import resumable_operations
from tests.conftest import Caller
from tests.shop import effects as views
from tests.shop.models import Order
from tests.support import effects
from tests.support.adapters import few_effect_adapters
from tests.support.counting import counted
from tests.support.effects import order, send, sent, states, the_only, void

pytestmark = pytest.mark.django_db(transaction=True)


once = partial(run_once, key="k", scope="s")
beside = partial(once, atomic=False, on_interrupted="run")


class TestFunctions:
    def test_effects_are_committed_with_the_result(self) -> None:
        assert once(order, 1, 2) == once(order, 1, 2)
        assert (sent, states()) == ([1, 2], ["done", "done"])
        assert {each.record_id for each in effects.effects()} == {
            IdempotencyRecord.objects.get().pk
        }

    def test_an_exception_drops_them(self) -> None:
        with pytest.raises(effects.Down):
            once(order, 1, kwargs={"fails": True})
        assert (sent, effects.effects()) == ([], [])

    def test_through_the_operation(self) -> None:
        def stage() -> str:
            return current_operation().after_commit(send, "mail")

        assert [once(stage, name="stage")] == effects.keys

    def test_an_effect_for_another_database_is_an_error(self) -> None:
        @effect(name="elsewhere", using="elsewhere")
        def elsewhere() -> None: ...

        def stage() -> None:
            with pytest.raises(EffectError, match="for database 'elsewhere', and the operation"):
                after_commit(elsewhere)

        once(stage, name="stage")
        assert effects.effects() == []

    def test_async_functions(self) -> None:
        async def stage() -> str:
            await current_operation().aafter_commit(effects.asend, 1)
            return after_commit(send, 2)

        once(stage, name="stage")
        assert sent == [1, 2]

    def test_all_effects_are_one_statement_and_one_mark(self) -> None:
        once(order, key="warm-up")
        with counted() as none:
            once(order, key="none")
        with counted() as many:
            once(order, *range(7), key="many")
        assert many.statements == none.statements + 2
        assert many.control <= none.control
        with counted() as replay:
            once(order, *range(7), key="many")
        assert (replay.statements, replay.control) == (1, 0)
        assert sent == list(range(7))


class TestFunctionsBelowEffects:
    def test_the_key_of_the_effect_is_theirs(self) -> None:
        @effect(name="provision")
        @idempotent_function(scope="provision", name="provision")
        def provision(item: str) -> None:
            Order.objects.create(item=item)

        with transaction.atomic():
            key = after_commit(provision, "vm")
        assert IdempotencyRecord.objects.get().key == key
        assert Order.objects.count() == 1

    def test_so_an_effect_that_was_not_marked_runs_once(self) -> None:
        runs = []

        @effect(name="provision")
        def provision() -> None:
            runs.append(current_effect().tries)
            inner()
            if len(runs) == 1:
                raise effects.Down

        @idempotent_function(scope="provision", name="inner")
        def inner() -> None:
            Order.objects.create(item="vm")

        with transaction.atomic():
            after_commit(provision)
        effects.make_due()
        assert run_due("default").done == 1
        assert (runs, Order.objects.count()) == ([1, 2], 1)


class TestSteps:
    def test_an_effect_is_committed_with_its_step(self) -> None:
        def view() -> None:
            current_operation().step("order", order, 1, 2)
            seen.append((list(sent), states()))
            current_operation().step("order", order, 3)

        seen: list[Any] = []
        beside(view, name="view")
        beside(view, name="view")
        assert seen == [([1, 2], ["done", "done"])]
        assert sent == [1, 2, 3]
        assert len(set(effects.keys)) == 3

    def test_a_step_that_fails_drops_its_effects(self) -> None:
        def view() -> None:
            current_operation().step("first", order, 1)
            with pytest.raises(effects.Down):
                current_operation().step("second", order, 2, fails=True)
            current_operation().step("second", order, 3)

        beside(view, name="view")
        assert (sent, states()) == ([1, 3], ["done", "done"])

    def test_a_later_attempt_stages_only_what_is_not_done(self) -> None:
        fails = [True]

        def view() -> None:
            current_operation().step("first", order, 1)
            current_operation().step("second", order, 2, fails=fails.pop() if fails else False)

        with pytest.raises(effects.Down):
            beside(view, name="view")
        beside(view, name="view")
        assert sent == [1, 2]
        assert len(set(effects.keys)) == 2

    def test_each_step_has_names_and_numbers_of_its_own(self) -> None:
        def stage() -> None:
            after_commit(send.named("receipt"))
            after_commit(send)

        def view() -> None:
            current_operation().step("one", stage)
            current_operation().step("one", stage)

        beside(view, name="view")
        assert len(set(effects.keys)) == 4

    def test_an_effect_of_a_step_may_stage_others(self) -> None:
        """They do not belong to the operation, whose step has ended."""

        @effect(name="chain")
        def chain() -> None:
            with transaction.atomic():
                after_commit(send, "next")

        def view() -> None:
            current_operation().step("one", lambda: void(after_commit(chain)))

        beside(view, name="view")
        assert (sent, states()) == (["next"], ["done", "done"])

    def test_a_hook_after_the_commit_of_a_step_comes_too_late(self) -> None:
        problems = []

        def hook() -> None:
            with pytest.raises(EffectError, match="inside of a step") as caught:
                after_commit(send, "hook")
            problems.append(caught.value)

        def view() -> None:
            current_operation().step("one", lambda: transaction.on_commit(hook))

        beside(view, name="view")
        assert len(problems) == 1
        assert effects.effects() == []

    def test_outside_of_steps_is_an_error(self) -> None:
        def view() -> None:
            with pytest.raises(EffectError, match="inside of a step"):
                after_commit(send)
            with transaction.atomic(), pytest.raises(EffectError, match="inside of a step"):
                current_operation().after_commit(send)

        beside(view, name="view")
        assert (sent, effects.effects()) == ([], [])

    def test_records_outside_of_a_database_have_none(self, settings: Any) -> None:
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
        settings.IDEMPOTENCY = {"CACHE": "default"}

        def view() -> None:
            with pytest.raises(EffectError, match="records in a database"):
                after_commit(send)

        beside(view, name="view", store="cache")

    def test_effects_cost_a_step_two_statements(self) -> None:
        def view(*what: Any) -> None:
            current_operation().step("order", order, *what)

        beside(view, name="view", key="warm-up")
        with counted() as none:
            beside(view, name="view", key="none")
        with counted() as many:
            beside(view, *range(5), name="view", key="many")
        assert many.statements == none.statements + 2

    @few_effect_adapters
    def test_of_views(self, adapter: str, caller: Caller, monkeypatch: Any) -> None:
        monkeypatch.setattr(
            views, "after_charge", lambda operation: operation.step("order", order, "receipt")
        )
        assert caller.post(adapter).status_code == 201
        assert caller.post(adapter).status_code == 201
        assert sent == ["receipt"]

    def test_of_resumed_operations(self, caller: Caller, monkeypatch: Any) -> None:
        """Code without the operation finds it, for the handler in place of the client, too."""

        def finish(operation: Any, data: Any) -> JsonResponse:
            operation.step("order", order, "receipt")
            return JsonResponse({}, status=201)

        def crash(*arguments: Any) -> None:
            raise views.Broken

        monkeypatch.setattr(views, "take_steps", crash)
        assert caller.post("/effects/resumable/", {"item": "vm"}).status_code == 500
        monkeypatch.setattr(views, "finishing", finish)
        (found,) = resumable_operations("default")
        policy = resumable_handlers("default")[found.handler]
        assert policy is not None
        assert resume(found, policy, "default") is Resumed.DONE
        assert sent == ["receipt"]
        assert the_only().record_id == found.record_id
