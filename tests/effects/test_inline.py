"""Effects that run right after the commit, in the process that has staged them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from django_idempotency.effects import after_commit, runner, running
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.effects.runner import run_due
from django_idempotency.operations import current_operation, run_once
from django_idempotency.stores.database.dialects import StoreTime
from tests.conftest import in_thread, row_locks
from tests.support import effects
from tests.support.effects import make_due, send, sent, states, the_only
from tests.support.sessions import terminate

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def _clock(monkeypatch: Any) -> Iterator[Callable[[float], None]]:
    now = [0.0]
    for module in (runner, running):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    yield advance


def test_after_the_budget_no_other_effect_begins(monkeypatch: Any) -> None:
    def view() -> None:
        for number in range(4):
            after_commit(send, number)

    with _clock(monkeypatch) as advance:
        effects.before = lambda what: advance(2)
        run_once(view, key="k", scope="s", name="view")
    assert sent == [0, 1, 2]  # the third begins after four seconds
    (left,) = effects.effects(state="pending")
    assert left.tries == 0
    assert run_due("default").done == 1  # at once


def test_nothing_runs_inline_without_a_budget(settings: Any) -> None:
    settings.IDEMPOTENCY = {"EFFECTS_BUDGET": timedelta(0)}
    _stage()
    assert (sent, the_only().tries) == ([], 0)
    assert run_due("default").done == 1


def test_steps_share_the_budget_of_their_request(monkeypatch: Any) -> None:
    def view() -> None:
        for number in range(4):
            current_operation().step("one", _stage_only, number)

    with _clock(monkeypatch) as advance:
        effects.before = lambda what: advance(2)
        run_once(view, key="k", scope="s", name="view", atomic=False)
    assert sent == [0, 1, 2]


def test_while_a_process_runs_them_no_worker_does() -> None:
    found = []

    def before(what: Any) -> None:
        effects.before = effects.nothing
        [(due, now)] = IdempotencyEffect.objects.filter(arguments__contains="last").values_list(
            "due_at", StoreTime()
        )
        found.append(due - now)
        assert in_thread(lambda: run_due("default")).result().done == 0

    def view() -> None:
        after_commit(send, "first")
        after_commit(send, "last")

    effects.before = before
    run_once(view, key="k", scope="s", name="view")
    # The last may begin when the budget is over, and take its time.
    assert timedelta(seconds=60) < found[0] <= timedelta(seconds=65)
    assert sent == ["first", "last"]


def test_who_dies_in_between_leaves_the_rest_to_the_worker() -> None:
    def before(what: Any) -> None:
        if what == 1:
            raise KeyboardInterrupt

    def view() -> None:
        for number in range(3):
            after_commit(send, number)

    effects.before = before
    with pytest.raises(KeyboardInterrupt):
        run_once(view, key="k", scope="s", name="view")
    effects.before = effects.nothing
    assert states() == ["done", "pending", "pending"]
    make_due()
    assert run_due("default").done == 2
    assert sent[0] == 0
    assert sorted(sent) == [0, 1, 2]


def test_marks_that_fail_are_made_again_and_then_given_up(monkeypatch: Any, caplog: Any) -> None:
    calls = []

    def fail(*arguments: Any) -> int:
        calls.append(arguments)
        raise effects.Down

    with monkeypatch.context() as patch:
        patch.setattr(runner.rows, "done", fail)
        _stage()
    assert len(calls) == 3
    assert "may run once more" in caplog.text
    make_due()
    assert run_due("default").done == 1
    assert sent == [1, 1]


@row_locks
def test_a_session_that_ends_in_between_is_no_second_effect() -> None:
    """The world has it, and the mark is made on another connection."""

    def before(what: Any) -> None:
        with connection.cursor() as cursor:
            mysql = connection.vendor == "mysql"
            cursor.execute("SELECT CONNECTION_ID()" if mysql else "SELECT pg_backend_pid()")
            session = cursor.fetchone()[0]
        in_thread(lambda: terminate(session)).result()

    effects.before = before
    _stage()
    assert (sent, the_only().state) == ([1], "done")


def _stage() -> None:
    with transaction.atomic():
        after_commit(send, 1)


def _stage_only(number: int) -> None:
    after_commit(send, number)
