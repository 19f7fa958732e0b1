"""Effects that did not run inline are run later: tried again, failed for good, left alone."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from django_idempotency.effects import (
    after_commit,
    current_effect,
    declaring,
    effect,
    rows,
    runner,
)
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.effects.rows import give_up, purge, run_again
from django_idempotency.effects.runner import backoff, run_due
from django_idempotency.stores.database.dialects import StoreTime
from django_idempotency.test import advance
from tests.conftest import in_thread
from tests.shop.models import Order
from tests.support import effects
from tests.support.counting import counted
from tests.support.effects import down, later, make_due, send, sent, states, the_only

pytestmark = pytest.mark.django_db(transaction=True)


def stage(what: Any = "mail", by: Any = later) -> str:
    with transaction.atomic():
        return after_commit(by, what)


class TestTries:
    def test_a_failure_is_tried_again_under_the_same_key(self) -> None:
        key = stage()
        with down():
            assert run_due("default").failed == 1
        row = the_only()
        assert (row.state, row.tries, row.error) == ("pending", 1, "Down")
        assert run_due("default").done == 0  # not yet
        make_due()
        assert run_due("default").done == 1
        row = the_only()
        assert (row.state, row.tries, row.error) == ("done", 2, "")
        assert effects.keys == [key]

    def test_after_so_many_an_operator_decides(self) -> None:
        stage()
        with down():
            outcomes = []
            for _ in range(4):
                make_due()
                summary = run_due("default")
                outcomes.append((summary.failed, summary.failed_for_good))
        assert outcomes == [(1, 0), (1, 0), (0, 1), (0, 0)]
        row = the_only()
        assert (row.state, row.tries, row.due_at, row.purge_at) == ("failed", 3, None, None)
        assert row.finished_at is not None

    def test_tries_that_were_interrupted_count_too(self) -> None:
        """Whoever dies in an effect marks nothing."""
        stage()
        for _ in range(3):
            make_due()
            effects.before = _interrupt
            with pytest.raises(KeyboardInterrupt):
                run_due("default")
        effects.before = effects.nothing
        assert (the_only().state, the_only().tries) == ("pending", 3)
        make_due()
        assert run_due("default").failed_for_good == 1
        assert (the_only().state, the_only().error, sent) == ("failed", "TooManyTries", [])

    def test_an_old_one_is_not_tried_any_more(self) -> None:
        stage()
        IdempotencyEffect.objects.update(staged_at=StoreTime(timedelta(days=-7)))
        assert run_due("default").failed_for_good == 1
        assert (the_only().state, the_only().error, sent) == ("failed", "Expired", [])

    def test_time_passes_for_effects_too(self) -> None:
        stage()
        with down():
            run_due("default")
        assert run_due("default").done == 0
        advance(timedelta(minutes=1))
        assert run_due("default").done == 1
        stage()
        advance(timedelta(days=8))
        assert run_due("default").failed_for_good == 1

    def test_delays_grow_and_differ(self) -> None:
        for tries in range(1, 100):
            longest = min(timedelta(seconds=30) * 4 ** min(tries - 1, 10), timedelta(hours=12))
            found = {backoff(tries) for _ in range(20)}
            assert len(found) > 1
            assert longest / 2 <= min(found) <= max(found) <= longest

    def test_the_next_try_is_that_much_later(self) -> None:
        stage()
        with down():
            run_due("default")
        [(due, now)] = IdempotencyEffect.objects.values_list("due_at", StoreTime())
        assert timedelta(seconds=10) < due - now <= timedelta(seconds=30)

    def test_a_failed_one_can_be_run_again_or_given_up(self) -> None:
        key = stage()
        assert run_again("default", [key]) == 0  # it is pending
        IdempotencyEffect.objects.update(state="failed", due_at=None, tries=3)
        assert run_again("default", [key]) == 1
        assert run_due("default").done == 1
        assert give_up("default", [key]) == 0
        key = stage()
        assert give_up("default", [key]) == 1
        assert run_due("default").done == 0
        row = IdempotencyEffect.objects.get(pk=key)
        assert (row.state, row.due_at) == ("given_up", None)
        assert row.purge_at is not None

    def test_the_purge_leaves_what_is_pending_or_failed(self) -> None:
        for _ in range(4):
            stage()
        done, failed, given_up, pending = (each.pk for each in effects.effects())
        IdempotencyEffect.objects.filter(pk=failed).update(state="failed", due_at=None)
        give_up("default", [given_up])
        IdempotencyEffect.objects.filter(pk=done).update(
            state="done", due_at=None, purge_at=StoreTime(timedelta(seconds=-1))
        )
        assert list(purge("default", 10)) == [1]
        IdempotencyEffect.objects.filter(pk=given_up).update(purge_at=StoreTime())
        assert list(purge("default", 10)) == [1]
        assert list(purge("default", 10)) == []
        assert {row.pk for row in effects.effects()} == {failed, pending}

    @pytest.mark.parametrize("by", [send, later])
    def test_one_that_leaves_a_transaction_open_has_failed(self, by: Any, caplog: Any) -> None:
        """Otherwise what follows would not be marked, and would run again."""
        effects.before = lambda what: what == "bad" and transaction.set_autocommit(False)
        with transaction.atomic():
            for what in ("bad", "good"):
                after_commit(by, what)
        run_due("default")
        assert transaction.get_autocommit()
        assert states() == ["done", "pending"]
        assert [each.error for each in effects.effects(state="pending")] == ["EffectError"]
        assert "set_autocommit(False)" in caplog.text


class TestNames:
    def test_an_unknown_name_is_left_and_reported(self) -> None:
        for name in ("old.name", "old.name", "older.name"):
            stage()
            known = IdempotencyEffect.objects.exclude(name__startswith="old")
            known.update(name=name)
        stage("known")
        summary = run_due("default")
        assert (summary.done, summary.unknown) == (1, {"old.name": 2, "older.name": 1})
        assert states() == ["done", "pending", "pending", "pending"]
        assert {row.tries for row in effects.effects(state="pending")} == {0}

    def test_a_function_that_moves_keeps_its_name(self) -> None:
        @effect(name="receipt", run="worker")
        def before(what: str) -> None: ...

        stage("paid", before)
        del declaring._known["receipt"]

        @effect(name="receipt")
        def after(what: str) -> None:
            sent.append(f"{what} {current_effect().name}")

        assert run_due("default").done == 1
        assert sent == ["paid receipt"]


class TestRows:
    """A writer of the table cannot choose what runs."""

    @pytest.mark.parametrize("change", ["arguments", "name", "place"])
    def test_what_was_changed_is_refused(self, change: str, caplog: Any) -> None:
        stage("secret words")
        row = the_only()
        if change == "arguments":
            row.arguments = row.arguments.replace("secret", "other")
        elif change == "name":
            row.name = send.name
        else:  # a true row, in another one's place
            stage("other words")
            other = IdempotencyEffect.objects.exclude(pk=row.pk).get()
            row.arguments = other.arguments
            other.delete()
        row.save()
        with caplog.at_level(logging.INFO):
            assert run_due("default").failed_for_good == 1
        assert (the_only().state, the_only().error, sent) == ("failed", "ChangedEffect", [])
        assert "not tried again: its row was changed, or staged under another SECRET" in caplog.text
        assert "words" not in caplog.text

    def test_another_secret_signs_nothing(self, settings: Any) -> None:
        stage()
        settings.IDEMPOTENCY = {"SECRET": "another one, and long enough"}
        assert run_due("default").failed_for_good == 1

    def test_encrypted_arguments(self, settings: Any, caplog: Any) -> None:
        from cryptography.fernet import Fernet

        settings.IDEMPOTENCY = {
            "CODEC": "fernet",
            "ENCRYPTION_KEYS": [Fernet.generate_key().decode()],
        }
        stage("4111 1111")
        assert "4111" not in the_only().arguments
        keys = settings.IDEMPOTENCY["ENCRYPTION_KEYS"]
        # Without its key it is not lost: the key may come back.
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        assert run_due("default").failed == 1
        assert the_only().error == "Unreadable"
        assert "(try 1 of 3): its encryption key is not available" in caplog.text
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": keys}
        make_due()
        assert run_due("default").done == 1
        assert sent == ["4111 1111"]

    def test_what_an_error_says_is_in_the_log_alone(self, caplog: Any) -> None:
        stage("4111 1111")
        with down():
            run_due("default")
        assert "hunter2" in caplog.text
        assert "4111" not in caplog.text
        assert "hunter2" not in str(vars(the_only()))


class TestRuns:
    def test_up_to_a_limit(self) -> None:
        for number in range(5):
            stage(number)
        assert run_due("default", limit=3).done == 3
        assert run_due("default").done == 2

    def test_until_told_to_stop(self) -> None:
        for number in range(5):
            stage(number)
        assert run_due("default", should_stop=lambda: len(sent) == 2).done == 2
        assert states().count("pending") == 3
        assert {row.tries for row in effects.effects(state="pending")} == {0}

    def test_more_than_a_page(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(runner, "PAGE", 3)
        for number in range(8):
            stage(number)
        assert run_due("default").done == 8
        assert sorted(sent) == list(range(8))

    def test_one_that_another_has_taken_is_left_to_it(self) -> None:
        """The other takes it after this one has read it."""
        stage(1)
        seen = []

        def before(what: Any) -> None:
            effects.before = effects.nothing
            seen.append(in_thread(lambda: run_due("default")).result())

        effects.before = before
        assert run_due("default").done == 1
        assert [(each.done, each.failed) for each in seen] == [(0, 0)]
        assert sent == [1]

    def test_two_workers_share_the_work(self, monkeypatch: Any) -> None:
        for number in range(60):
            stage(number)
        rivals = [in_thread(lambda: run_due("default")) for _ in range(2)]
        done = [rival.result().done for rival in rivals]
        # What both have left, because others took whole pages.
        done.append(run_due("default").done)
        assert sum(done) == 60
        assert sorted(sent) == list(range(60))

    def test_a_try_that_took_too_long_marks_nothing(self, caplog: Any) -> None:
        """Another worker has taken it meanwhile (I12)."""
        stage(1)

        def before(what: Any) -> None:
            effects.before = effects.nothing
            make_due()
            assert in_thread(lambda: run_due("default")).result().done == 1
            IdempotencyEffect.objects.update(state="failed", error="Later")

        effects.before = before
        run_due("default")
        assert (the_only().state, the_only().error, the_only().tries) == ("failed", "Later", 2)
        assert "longer than its time limit" in caplog.text

    @pytest.mark.parametrize("fails", [False, True])
    def test_nor_while_the_other_one_is_at_it(self, fails: bool) -> None:
        stage(1)

        def before(what: Any) -> None:
            effects.before = effects.nothing
            make_due()
            in_thread(take).result()
            if fails:
                raise effects.Down

        def take() -> None:
            (row,) = rows.due("default", [later.name], 1)
            assert rows.take("default", row, timedelta(minutes=1))

        effects.before = before
        run_due("default")
        assert (the_only().state, the_only().tries, the_only().error) == ("pending", 2, "")

    def test_what_was_read_is_not_taken_if_it_was_tried_since(self) -> None:
        stage()
        (row,) = rows.due("default", [later.name], 1)
        with down():
            run_due("default")
        make_due()
        assert not rows.take("default", row, timedelta(minutes=1))
        (row,) = rows.due("default", [later.name], 1)
        assert rows.take("default", row, timedelta(minutes=1))

    def test_a_late_failure_does_not_put_it_back(self) -> None:
        stage(1)

        def before(what: Any) -> None:
            effects.before = effects.nothing
            make_due()
            assert in_thread(lambda: run_due("default")).result().done == 1
            raise effects.Down

        effects.before = before
        run_due("default")
        assert (the_only().state, the_only().error) == ("done", "")

    def test_nor_what_an_operator_has_run_again(self) -> None:
        """I12: tries are not numbered anew, so a late one is not taken for the new one."""
        key = stage(1)

        def late(what: Any) -> None:
            effects.before = new
            IdempotencyEffect.objects.update(state="failed", due_at=None)
            assert run_again("default", [key]) == 1
            assert in_thread(lambda: run_due("default")).result().done == 1
            raise effects.Down

        def new(what: Any) -> None:
            effects.before = effects.nothing
            row = the_only()
            in_thread(lambda: runner.rows.again("default", key, 1, "Down", timedelta(0))).result()
            assert (the_only().due_at, the_only().error) == (row.due_at, row.error)

        effects.before = late
        run_due("default")
        assert (the_only().state, the_only().tries, sent) == ("done", 2, [1])

    def test_a_new_round_has_all_its_tries(self) -> None:
        key = stage()
        for _ in range(2):
            with down():
                failures = [self._fails_for_good() for _ in range(3)]
            assert failures == [False, False, True]
            assert run_again("default", [key]) == 1
        assert run_due("default").done == 1
        assert the_only().tries == 7

    def _fails_for_good(self) -> bool:
        make_due()
        assert run_due("default").done == 0
        return the_only().state == "failed"

    def test_its_costs(self) -> None:
        stage()
        stage()
        with counted() as count:
            assert run_due("default", limit=1).done == 1
        # Read, take, mark, and look for unknown names.
        assert (count.statements, count.control) == (4, 0)
        with counted() as count:
            assert run_due("default").done == 1
        assert count.statements == 5
        with counted() as nothing:
            run_due("default")
        assert nothing.statements == 2

    def test_a_broken_transaction_does_not_reach_the_next_effect(self) -> None:
        @effect(name="breaks", run="worker")
        def breaks(what: Any) -> None:
            if what == 1:
                connection.close()
                connection.connection = None
                raise effects.Down
            Order.objects.create(item="vm")

        stage(1, breaks)
        stage(2, breaks)
        summary = run_due("default")
        assert (summary.done, summary.failed) == (1, 1)

    def test_an_effect_may_stage_others(self) -> None:
        @effect(name="chain", run="worker")
        def chain(what: Any) -> None:
            with transaction.atomic():
                after_commit(send, what)

        stage("next", chain)
        assert run_due("default").done == 1
        assert sent == ["next"]
        assert {row.record_id for row in effects.effects()} == {None}


def _interrupt(what: Any) -> None:
    raise KeyboardInterrupt
