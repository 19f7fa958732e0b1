"""Effects are committed with the operation that stages them, and dropped with it (I19)."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from rest_framework.test import APIRequestFactory, force_authenticate

from django_idempotency.context import running
from django_idempotency.effects import KEY, EffectError, after_commit
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.effects.runner import run_due
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Coupon, Order
from tests.support import effects
from tests.support.adapters import every_adapter, few_adapters
from tests.support.effects import later, send, sent, the_only, void

pytestmark = pytest.mark.django_db(transaction=True)

Install = Callable[[Callable[[], None]], None]


@every_adapter
def test_an_effect_runs_once_after_the_commit(
    adapter: str, caller: Caller, after_write: Install
) -> None:
    def check(what: Any) -> None:
        assert not connection.in_atomic_block
        assert Order.objects.count() == 1

    effects.before = check
    after_write(lambda: void(after_commit(send, "receipt", key=KEY)))
    first = caller.post(adapter)
    assert first.status_code == 201
    assert caller.post(adapter).content == first.content
    assert sent == ["receipt"]
    row = the_only()
    assert (row.state, row.tries, row.due_at) == ("done", 1, None)
    assert row.finished_at is not None
    assert row.purge_at is not None
    assert row.record_id == IdempotencyRecord.objects.get().pk
    assert effects.keys == [str(row.key)]


@few_adapters
@pytest.mark.parametrize(
    "outcome", ["raise 404", "raise 403", "raise 500", "500", "403", "404", "429", "200"]
)
def test_effects_share_the_fate_of_the_writes(
    adapter: str, outcome: str, caller: Caller, after_write: Install
) -> None:
    """Raised 4xx and 5xx drop them; a refusal that keeps its writes keeps its effects (I2)."""
    for _ in range(2):  # the second is a replay, or another attempt under other effect keys
        after_write(lambda: void(after_commit(send)))
        caller.post(adapter, {"outcome": outcome})
        assert IdempotencyEffect.objects.count() == Order.objects.count() == len(sent)
    keeps = {"403": 2, "429": 2, "404": 1, "200": 1}
    assert len(sent) == keeps.get(outcome, len(sent))
    assert len(set(effects.keys)) == len(sent)


@few_adapters
def test_a_savepoint_that_is_rolled_back_takes_its_effects_along(
    adapter: str, caller: Caller, after_write: Install
) -> None:
    def stage() -> None:
        after_commit(send, 1)
        try:
            with transaction.atomic():
                after_commit(send, 2)
                with transaction.atomic():
                    after_commit(send.named("three"), 3)
                Coupon.objects.create(code="a")
                Coupon.objects.create(code="a")
        except IntegrityError:
            after_commit(send.named("three"), 4)
        with transaction.atomic():
            after_commit(send, 5)

    after_write(stage)
    assert caller.post(adapter).status_code == 201
    assert sent == [1, 4, 5]
    assert {each.state for each in effects.effects()} == {"done"}


@few_adapters
def test_two_equal_effects_are_two(adapter: str, caller: Caller, after_write: Install) -> None:
    after_write(lambda: void([after_commit(send) for _ in range(2)]))
    assert caller.post(adapter).status_code == 201
    assert sent == ["mail", "mail"]
    assert len(set(effects.keys)) == 2


@few_adapters
def test_names_are_unique_in_an_operation(
    adapter: str, caller: Caller, after_write: Install
) -> None:
    problems: list[str] = []

    def stage() -> None:
        after_commit(send.named("receipt"), 1)
        with pytest.raises(EffectError, match="has the name 'receipt'") as caught:
            after_commit(later.named("receipt"))
        problems.append(str(caught.value))

    after_write(stage)
    assert caller.post(adapter).status_code == 201
    assert problems
    assert sent == [1]


@few_adapters
def test_the_worker_runs_what_is_not_run_inline(
    adapter: str, caller: Caller, after_write: Install
) -> None:
    after_write(lambda: void(after_commit(later)))
    assert caller.post(adapter).status_code == 201
    assert (sent, the_only().state, the_only().tries) == ([], "pending", 0)
    assert run_due("default").done == 1
    assert (sent, the_only().state, the_only().tries) == (["mail"], "done", 1)
    assert run_due("default").done == 0


@few_adapters
def test_a_failure_changes_no_answer_and_stops_no_other_effect(
    adapter: str, caller: Caller, after_write: Install
) -> None:
    def fail_first(what: Any) -> None:
        if what == 1:
            raise effects.Down("the password is hunter2")

    effects.before = fail_first
    after_write(lambda: void([after_commit(send, number) for number in (1, 2)]))
    assert caller.post(adapter).status_code == 201
    assert sent == [2]
    failed, done = sorted(effects.effects(), key=lambda row: row.state, reverse=True)
    assert (done.state, failed.state, failed.tries, failed.error) == ("done", "pending", 1, "Down")
    assert "hunter2" not in str(vars(failed))
    effects.before = effects.nothing
    effects.make_due()
    assert run_due("default").done == 1
    assert sent == [2, 1]
    assert effects.keys[1] == str(failed.key)


@few_adapters
def test_a_hook_of_the_project_that_raises_stops_no_effect(
    adapter: str, caller: Caller, after_write: Install
) -> None:
    def hook() -> None:
        raise effects.Down

    def stage() -> None:
        transaction.on_commit(hook)
        after_commit(send)

    after_write(stage)
    caller.post(adapter)
    assert sent == ["mail"]
    assert the_only().state == "done"
    assert caller.post(adapter).status_code == 201


@few_adapters
def test_a_view_that_takes_its_writes_back_takes_its_effects_back(
    adapter: str, caller: Caller, after_write: Install
) -> None:
    def stage() -> None:
        after_commit(send)
        transaction.set_rollback(True)

    after_write(stage)
    caller.post(adapter)
    assert (Order.objects.count(), sent, effects.effects()) == (0, [], [])


@few_adapters
def test_without_a_commit_nothing_is_stored(
    adapter: str, caller: Caller, after_write: Install, monkeypatch: Any
) -> None:
    """The record is not ours any more when the response is to be stored."""
    after_write(lambda: void(after_commit(send), IdempotencyRecord.objects.all().delete()))
    assert caller.post(adapter).status_code == 500
    assert (Order.objects.count(), sent, effects.effects()) == (0, [], [])


def test_arguments_are_plain_data(use_middleware: None, caller: Caller, after_write: Any) -> None:
    problems = []

    def stage() -> None:
        for bad in (object(), {1: 2}, (1,), [KEY], float("nan")):
            with pytest.raises(EffectError, match="must be plain data") as caught:
                after_commit(send, "a mail", key=bad)
            problems.append(caught.value)
            assert f"argument 'key' ({type(bad).__name__}) of {send.name}" in str(caught.value)
        with pytest.raises(EffectError, match=r"argument 1 \(set\)"):
            after_commit(send, {1})
        unexpected = rf"after_commit\({send.name}\): .*unexpected keyword argument 'to'"
        with pytest.raises(TypeError, match=unexpected):
            after_commit(send, to="ada")
        with pytest.raises(EffectError, match=r"Declare it with @effect, above other decorators"):
            after_commit(print)
        with pytest.raises(
            EffectError, match=r"after_commit\(effect, 1\), not after_commit\(effect\(1\)\)"
        ):
            after_commit(None)
        after_commit(send, {"a": [1, None, "ü\x00"]})

    after_write(stage)
    assert caller.post("/function/").status_code == 201
    assert len(problems) == 5
    assert sent == [{"a": [1, None, "ü\x00"]}]


def test_code_that_goes_on_after_the_view_stages_by_itself(
    use_middleware: None, caller: Caller, after_write: Install
) -> None:
    """A hook after the commit finds no operation; in a block of its own it stages there."""
    found = []

    def hook() -> None:
        with pytest.raises(EffectError, match=r"outside of any transaction"):
            after_commit(send, "outside")
        with transaction.atomic():
            found.append(after_commit(send, "inside"))

    after_write(lambda: transaction.on_commit(hook))
    assert caller.post("/function/").status_code == 201
    assert sent == ["inside"]
    assert the_only().record_id is None


def test_requests_in_other_threads_have_operations_of_their_own(
    use_middleware: None, caller: Caller, after_write: Install
) -> None:
    seen: list[str] = []

    def elsewhere() -> None:
        with pytest.raises(EffectError, match="outside"):
            after_commit(send)
        seen.append("outside")

    def stage() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    after_write(stage)
    assert caller.post("/function/").status_code == 201
    assert seen == ["outside"]


def test_a_view_that_has_raised_runs_no_more(caller: Caller) -> None:
    """Also if nobody makes a response of that, or closes one: a test that calls the view itself."""
    request = APIRequestFactory().post("/", {"outcome": "raise 500"}, HTTP_IDEMPOTENCY_KEY="k")
    force_authenticate(request, caller.user)
    with pytest.raises(views.Broken):
        views.DecoratedRestView.as_view()(request)
    assert running.get() is None
