"""``run_idempotent_work`` runs effects that are due, in as many processes as there are."""

import os
import re
import signal
import time
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import modify_settings

from django_idempotency.effects import after_commit
from django_idempotency.effects.models import EffectState, IdempotencyEffect
from django_idempotency.stores.database.dialects import StoreTime
from tests.shop.effects import ship
from tests.shop.models import Order
from tests.support import effects
from tests.support.effects import down, later, make_due, sent
from tests.support.server import Stage
from tests.support.work import Work, service

pytestmark = pytest.mark.django_db(transaction=True)

RESUMED = (
    'Resumed 0 operations in database "default" (failed: 0; could not start: 0; skipped because in '
    "flight, resolved or still unknown: 0).\n"
)


@pytest.fixture(autouse=True)
def _the_world() -> Any:
    effects.reset()
    yield
    effects.reset()


def command(**options: Any) -> str:
    out = StringIO()
    call_command("run_idempotent_work", stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def stage(effect: Any, *arguments: Any) -> None:
    with transaction.atomic():
        for each in arguments:
            after_commit(effect, each)


def shipped() -> Counter[str]:
    """How often each item was shipped."""
    return Counter(Order.objects.values_list("item", flat=True))


class TestOnce:
    def test_what_is_due_runs(self) -> None:
        stage(later, "one", "two")
        assert sent == []
        assert command() == (
            f'{RESUMED}Ran 2 effects in database "default" (failed, and tried again later: 0; '
            "failed for good: 0).\n"
        )
        assert sorted(sent) == ["one", "two"]
        assert "Ran 0 effects" in command()

    def test_at_most_so_many(self) -> None:
        stage(later, *range(5))
        assert "Ran 3 effects" in command(limit=3)
        assert "Ran 2 effects" in command(limit=3)

    def test_what_fails_is_tried_again_and_said(self) -> None:
        stage(later, "one")
        with down():
            for _ in range(2):
                with pytest.raises(CommandError, match="tried again later: 1"):
                    command()
                make_due()
            with pytest.raises(CommandError, match="failed for good: 1"):
                command()
        assert "hunter2" not in IdempotencyEffect.objects.get().error
        assert command().endswith("(failed, and tried again later: 0; failed for good: 0).\n")

    def test_what_nothing_declares_stays_and_is_said(self) -> None:
        stage(later, "one", "two")
        IdempotencyEffect.objects.update(name="shop.renamed")
        with pytest.raises(CommandError) as caught:
            command()
        assert str(caught.value).endswith(
            " Left alone, because nothing declares these effects: shop.renamed (2)."
        )
        assert set(IdempotencyEffect.objects.values_list("state", "tries")) == {("pending", 0)}

    def test_a_dry_run_runs_nothing(self) -> None:
        stage(later, "one")
        (each,) = IdempotencyEffect.objects.all()
        assert command(dry_run=True).splitlines() == [
            f"{each.key}  tests.support.effects.later  tries: 0",
            "1 operations and effects would run, unless in flight.",
        ]
        IdempotencyEffect.objects.update(name="shop.renamed")
        with pytest.raises(CommandError, match=r"0 operations.*shop\.renamed \(1\)"):
            command(dry_run=True)
        assert sent == []

    def test_without_the_app_there_are_none(self) -> None:
        stage(later, "one")
        with modify_settings(INSTALLED_APPS={"remove": "django_idempotency.effects"}):
            assert command() == RESUMED
        assert sent == []

    def test_a_signal_lets_the_effect_end_and_no_other_begin(self, monkeypatch: Any) -> None:
        stage(later, "one", "two")
        monkeypatch.setattr(effects, "before", lambda what: os.kill(os.getpid(), signal.SIGTERM))
        assert "Ran 1 effects" in command()
        assert len(sent) == 1


class TestPurge:
    """What is pending or has failed stays, however old it is."""

    @pytest.fixture(autouse=True)
    def _effects(self) -> None:
        stage(later, *range(5))
        keys = list(IdempotencyEffect.objects.values_list("pk", flat=True))
        states = ("done", "given_up", "done", "failed", "pending")
        for key, state in zip(keys, states, strict=True):
            row = IdempotencyEffect.objects.filter(pk=key)
            row.update(state=state, due_at=None, purge_at=StoreTime(timedelta(seconds=-1)))
        IdempotencyEffect.objects.filter(pk=keys[2]).update(purge_at=StoreTime(timedelta(days=1)))

    @staticmethod
    def purge(**options: Any) -> str:
        out = StringIO()
        call_command("purge_idempotency_records", stdout=out, **options)
        return out.getvalue()

    @pytest.mark.parametrize("batch", [1, 2, 1000])
    def test_what_has_ended_goes_in_batches(self, batch: int) -> None:
        assert self.purge(batch_size=batch).endswith(" Removed 2 effects that have ended.\n")
        assert effects.states() == ["done", "failed", "pending"]
        assert self.purge().endswith(" Removed 0 effects that have ended.\n")

    def test_a_dry_run_counts_them(self) -> None:
        assert self.purge(dry_run=True).endswith(" 2 effects that have ended would go, too.\n")
        assert len(effects.states()) == 5

    def test_the_next_run_goes_on_when_the_time_is_over(self) -> None:
        summary = self.purge(batch_size=1, time_limit="0")
        assert summary.endswith(" Removed 0 effects that have ended.\n")

    def test_without_the_app_there_are_none(self) -> None:
        with modify_settings(INSTALLED_APPS={"remove": "django_idempotency.effects"}):
            assert self.purge().endswith("lag: 0s).\n")
            assert self.purge(dry_run=True).endswith("unless locked.\n")
        assert len(effects.states()) == 5


@pytest.mark.processes
class TestProcesses:
    def test_two_crons_at_once(self, tmp_path: Path) -> None:
        """I19: each effect is taken by one of them."""
        stage(ship, *range(50))
        connection.close()
        commands = [Work(tmp_path) for _ in range(2)]
        ends = [each.end() for each in commands]
        assert [status for status, _ in ends] == [0, 0], ends
        ran = [int(each) for _, said in ends for each in re.findall(r"Ran (\d+)", said)]
        assert sum(ran) == 50
        assert shipped() == {f"shipped {number}": 1 for number in range(50)}

    def test_a_service_finishes_the_effect_that_runs(self, tmp_path: Path) -> None:
        told = Stage(tmp_path)
        told.hang_next()
        with service(tmp_path) as work:
            stage(ship, "one", "two")
            told.hanging()
            work.process.terminate()
            told.go_on()
            status, said = work.end()
        assert (status, said.splitlines()[-1]) == (0, "Stopped.")
        assert "Ran 1 effects" in said
        assert len(shipped()) == 1
        states = sorted(IdempotencyEffect.objects.values_list("state", flat=True))
        assert states == [EffectState.DONE, EffectState.PENDING]

    @pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.whole)])
    def test_many_effects_survive_a_killed_process(self, count: int, tmp_path: Path) -> None:
        """I19: what it had done and not marked happens once more, and nothing else does."""
        stage(ship, *range(count))
        told = Stage(tmp_path)
        connection.close()
        told.hang_next()
        with service(tmp_path), service(tmp_path):
            killed, _ = told.hanging()
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda: left() == 1)  # whoever has it may be slow: it waits for its time limit
            (lost,) = IdempotencyEffect.objects.filter(state=EffectState.PENDING)
            assert lost.tries == 1
            make_due()
            wait_for(lambda: left() == 0)
        assert set(IdempotencyEffect.objects.values_list("state", flat=True)) == {EffectState.DONE}
        assert Counter(shipped().values()) == {1: count - 1, 2: 1}

    @pytest.mark.whole
    def test_processes_are_killed_now_and_then(self, tmp_path: Path) -> None:
        """I19: each effect happens, and at most one once more for each kill."""
        count, kills = 10_000, 9
        stage(ship, *range(count))
        with ExitStack() as stack:
            works = [stack.enter_context(service(tmp_path)) for _ in range(2)]
            for kill in range(1, kills + 1):
                wait_for(lambda mark=count - kill * count // (kills + 1): left() <= mark)
                works[kill % 2].process.kill()
                works[kill % 2].end()
                works[kill % 2] = stack.enter_context(service(tmp_path))
            wait_for(lambda: not IdempotencyEffect.objects.filter(tries=0).exists())
            for each in works:
                each.process.terminate()
                assert each.end()[0] == 0
        assert left() <= kills
        make_due()
        assert Work(tmp_path).end()[0] == 0
        assert left() == 0
        assert len(shipped()) == count
        assert shipped().total() <= count + kills


def left() -> int:
    return IdempotencyEffect.objects.exclude(state=EffectState.DONE).count()


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
