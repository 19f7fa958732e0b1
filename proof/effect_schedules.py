"""Interleavings of those who may run an effect: its own process, workers, retries, the purge.

An effect stops before it does anything, so that all others can go on while it hangs.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from unittest.mock import patch

from django.test import override_settings
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.effects import current_effect, effect, rows, runner
from django_idempotency.effects.models import EffectState, IdempotencyEffect
from django_idempotency.stores.database.dialects import StoreTime
from proof import schedules, world
from proof.interleavings import Action, Actor, Clock
from proof.report import Outcome
from proof.scenarios import Request, Scenario, killer, send
from proof.schedules import Check

BUDGET = timedelta(minutes=5)
"""Schedulers take their time."""
LEASES = timedelta(minutes=10)
MONTH = timedelta(days=30)

told: list[tuple[str, str]] = []
"""Who has done an effect, and under which key."""


@effect(name="proof.ship", expires=2 * MONTH, max_tries=1000)
def ship(fails: bool = False) -> None:
    key, actor = current_effect().key, threading.current_thread()
    if isinstance(actor, Actor):
        actor.stop(f"DISPATCH {key}")
    told.append((actor.name, key))
    if fails and current_effect().tries == 1:
        raise RuntimeError("nobody is at home")


def _view(*effects: bool) -> Any:
    """Buys, and stages effects, which fail at first or not."""

    def view(request: Any) -> Any:
        for fails in effects:
            request.idempotency.after_commit(ship, fails)
        return world._buy(request)

    return csrf_exempt(idempotent(scope=world.everybody, retention=2 * MONTH)(view))


one, two, failing = _view(False), _view(False, False), _view(True)


def worker(actor: Actor) -> None:
    runner.run_due("default")


def purge(actor: Actor) -> int:
    return rows.purge("default", 10)


def passes(by: timedelta) -> Action:
    def action(actor: Actor) -> None:
        actor.stop("TIME")
        actor.clock.advance(by)

    return action


def pending(now: Clock) -> None:
    """Its process was killed right after the commit, and that is a while ago."""
    with patch.object(runner, "run_inline", lambda *args, **kwargs: None):
        send(one, "earlier")
    now.advance(LEASES)


class Row(NamedTuple):
    state: str
    tries: int
    is_due: bool


class EffectCheck(Check):
    """I19, and I12 for marks."""

    def __init__(self, scenario: Scenario, now: Clock, outcome: Outcome) -> None:
        told.clear()
        IdempotencyEffect.objects.all().delete()
        self.rows: dict[str, Row] = {}
        super().__init__(scenario, now, outcome)
        self.rows = _rows()
        self.known = set(self.rows)
        self.takes: dict[str, dict[str, int]] = {}  # by key and actor: when
        self.owners: dict[str, str] = {}

    def step(self, name: str) -> None:
        dispatched = self.actors[name].next.partition("DISPATCH ")[2]
        if dispatched:
            self._check_dispatch(name, dispatched)
        super().step(name)
        if self.may_have_committed(name):
            before, self.rows = self.rows, _rows()
            for key in before | self.rows:
                self._check_change(name, key, before.get(key), self.rows.get(key))

    def _check_dispatch(self, name: str, key: str) -> None:
        row = self.rows.get(key)
        if row is None:
            self.wrong(f"I19: {name} dispatched what is not committed")
        elif name not in self.takes.get(key, {}):
            self.wrong(f"I19: {name} dispatched what it has not taken")
        elif self.owners[key] == name and row.state != EffectState.PENDING:
            self.wrong(f"I19: {name} had marked the effect before it happened")

    def _check_change(self, name: str, key: str, before: Row | None, after: Row | None) -> None:
        if after is None:
            if before is not None and before.state != EffectState.DONE:
                self.wrong(f"I19: {name} removed what was {before.state}")
            return
        self.known.add(key)
        owner = self.owners.get(key, "")
        if after.tries > (before.tries if before else 0):
            taken = self.takes.setdefault(key, {})
            if taken.get(owner) == self.clock.epoch:
                self.wrong(f"I19: {name} took what {owner} has taken, whose time is not over")
            self.owners[key] = name
            taken[name] = self.clock.epoch if before else self._inserted_at(name)
        elif before is not None and before.state != after.state and owner != name:
            self.wrong(f"I12: {name} marked what {owner} has taken since")

    def _inserted_at(self, name: str) -> int:
        """When an actor has sent what became visible with its commit."""
        table = IdempotencyEffect._meta.db_table
        return max(s.epoch for s in self.steps if s.actor == name and table in s.sql)

    def ghosts(self) -> Any:
        takes = [(key, sorted(taken.items())) for key, taken in sorted(self.takes.items())]
        return super().ghosts(), sorted(self.rows.items()), told, takes, sorted(self.owners.items())

    def check(self) -> None:
        self._check_count()
        super().check()
        self.clock.advance(MONTH)
        runner.run_due("default")
        ended = {row.state for row in _rows().values()}
        if ended - {EffectState.DONE}:
            self.wrong(f"I19: effects are {ended} at the end")
        missing = self.known - {key for _, key in told}
        if missing:
            self.wrong(f"I19: {len(missing)} effects have never happened")

    def _check_count(self) -> None:
        """One extra at most per lease that ends while somebody runs it, and per failure."""
        passed = sum(step.sql == "TIME" for step in self.steps)
        killed = sum(actor.killed for actor in self.actors.values())
        for key, count in Counter(key for _, key in told).items():
            if count > 1 + passed + killed:
                self.wrong(f"I19: {key} happened {count} times")


def _rows() -> dict[str, Row]:
    values = IdempotencyEffect.objects.values_list("key", "state", "tries", "due_at", StoreTime())
    return {
        str(key): Row(state, tries, due is not None and due <= now)
        for key, state, tries, due, now in values
    }


def scenarios() -> Iterator[Scenario]:
    anna, bert = Request(view=one), Request(view=one)
    both = {"worker": worker, "worker 2": worker}
    ends = {"time": passes(LEASES)}

    def scenario(name: str, actors: dict[str, Action], *rest: Any, **options: Any) -> Scenario:
        return Scenario(f"effects: {name}", actors, *rest, view=one, **options)

    yield scenario("a request, a worker", {"anna": anna, "worker": worker})
    yield scenario("two workers", both, pending)
    yield scenario("two workers, leases end", {**both, **ends}, pending)
    yield scenario("a request, leases end, a worker", {"anna": anna, **ends, "worker": worker})
    twice = {"anna": Request(view=two), **ends, "worker": worker}
    yield scenario("two of a request, leases end, a worker", twice)
    fails = {"anna": Request(view=failing), **ends, "worker": worker}
    yield scenario("a failing one, leases end, a worker", fails)
    yield scenario("a request, leases end, two workers", {"anna": anna, **ends, **both})
    retried = {"anna": anna, "bert": bert, **ends, "worker": worker}
    yield scenario("a request, its retry, leases end, a worker", retried)
    old = {"purge": purge, "time": passes(MONTH), "worker": worker}
    yield scenario("a worker, a month, purge", old, pending)
    yield scenario("a request, a worker, a month, purge", {"anna": anna, **old})
    lost = {"anna": anna, "killer": killer("anna"), **ends, "worker": worker}
    statuses = frozenset({201, 409, 500})
    yield scenario("a lost session, leases end, a worker", lost, rows=True, statuses=statuses)


@contextmanager
def deterministic() -> Iterator[None]:
    """The same schedule gives the same run."""
    with (
        override_settings(IDEMPOTENCY={"EFFECTS_BUDGET": BUDGET}),
        patch.object(runner, "shuffle", lambda page: None),
        schedules.actors(),
    ):
        yield


def run(seconds: float) -> list[Outcome]:
    """Explore every scenario.

    :param seconds: at most so long for each
    """
    with deterministic():
        return schedules.explore_all(scenarios(), seconds, EffectCheck)
