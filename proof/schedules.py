"""Every order of a scenario, and what must hold after every step and every schedule."""

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic
from typing import Any

from django.db import connection

from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.database.dialects import StoreTime
from proof import world
from proof.interleavings import ACTORS, Actor, Clock, Run
from proof.report import Outcome
from proof.scenarios import DUPLICATES, Answer, Scenario, scenarios, send
from tests.shop.models import Order

_NAMES = re.compile("|".join(DUPLICATES))


@contextmanager
def actors() -> Iterator[None]:
    """Threads live as long as the experiment: connecting is slow."""
    try:
        yield
    finally:
        for actor in ACTORS.values():
            actor.quit()
        ACTORS.clear()


def explore(
    scenario: Scenario,
    seconds: float = 3600,
    schedules: int = 10**9,
    check: "type[Check] | None" = None,
) -> Outcome:
    """Run every order; stop early after so many seconds or schedules, and say so.

    :param check: what must hold
    """
    outcome = Outcome(scenario.name, "schedules")
    checked = check or Check
    ends, known = monotonic() + seconds, set()
    requests_only = scenario.has_requests_only
    pending: deque[tuple[str, ...]] = deque([()])
    while pending and not outcome.violations:
        if monotonic() > ends or outcome.count >= schedules:
            outcome.note("orders left", len(pending))
            break
        prefix = pending.popleft()
        with Clock() as now:
            run = checked(scenario, now, outcome)
            for name in prefix:
                run.step(name)
            while enabled := run.enabled():
                if scenario.merged and (silent := run.silent(enabled, requests_only)):
                    run.step(silent)
                    continue
                state = run.state() if scenario.merged else run.trace
                if state in known:
                    outcome.note("orders merged")
                    run.finish()
                    break
                known.add(state)
                going = run.going(enabled)
                pending += [(*run.trace, other) for other in enabled if other != going]
                run.step(going)
            else:
                outcome.count += 1
            run.finish()
            run.check()
    if scenario.merged:
        outcome.note("states", len(known))
    return outcome


class Check(Run):
    """A schedule with the invariants that must hold in it."""

    def __init__(self, scenario: Scenario, now: Clock, outcome: Outcome) -> None:
        _restart()
        scenario.before(now)
        self.before = list(Order.objects.values_list("item", flat=True))
        chosen = {name: ACTORS.get(name) or _new(name) for name in scenario.actors}
        super().__init__(chosen, now)
        self.scenario, self.outcome = scenario, outcome
        self.stored: dict[str, int] = {}
        self.counted_by = ""
        self.record = self._record()
        self.orders = tuple(self.before)
        for name, action in scenario.actors.items():
            chosen[name].give(action, now)

    def step(self, name: str) -> None:
        super().step(name)
        if not self.may_have_committed(name):
            return
        before, self.record = self.record, self._record()
        self.orders = tuple(Order.objects.order_by("pk").values_list("item", flat=True))
        known = None not in (before, self.record) and before["id"] == self.record["id"]
        if not known:
            self.counted_by = ""  # attempts of a record that is gone count no more
        if self.record is None or before == self.record:
            return
        if known and self.record["attempt"] > before["attempt"]:
            self.counted_by = name
        if self.record["state"] == "completed" and not (known and before["state"] == "completed"):
            self.stored[name] = len(self.steps)
            if self.counted_by not in {"", name}:
                self.wrong(f"I12: {name} stored after {self.counted_by} had taken over")

    def may_have_committed(self, name: str) -> bool:
        """What is in a transaction is nobody else's business yet."""
        sql = self.steps[-1].sql
        # MariaDB's and MySQL's commits may travel with a statement.
        commits = sql == "COMMIT" or "SET autocommit" in sql
        return commits or not self.actors[name].is_in_transaction

    def state(self) -> Any:
        """Everything that the future depends on. Which of those who do the same has done what
        makes no difference, so names are given in the order that makes the smallest text."""
        return hash(min(map(self._state_under, self.scenario.renamings())))

    def _state_under(self, names: dict[str, str]) -> str:
        actors = sorted(self.actors.values(), key=lambda actor: names.get(actor.name, actor.name))
        seen = [(actor.name, actor.state, actor.killed, actor.seen) for actor in actors]
        record = self.record and sorted(self.record.items())
        text = repr((seen, record, self.orders, self.clock.epoch, self.ghosts()))
        return _NAMES.sub(lambda found: names.get(found[0], found[0]), text)

    def ghosts(self) -> Any:
        """What nobody has seen, and checks depend on."""
        return self.counted_by, sorted(self._order_of_stores())

    def _order_of_stores(self) -> list[tuple[str, int]]:
        ranked = sorted(self.stored, key=lambda name: self.stored[name])
        return [(name, rank) for rank, name in enumerate(ranked)]

    def wrong(self, text: str) -> None:
        self.outcome.violation(f"{text} [{' '.join(self.trace)}]")

    def check(self) -> None:
        answers = {
            name: actor.result
            for name, actor in self.actors.items()
            if isinstance(actor.result, Answer)
        }
        self._check_errors()
        self._check_statuses(answers)
        self._check_effects(answers)
        self._check_waiting()
        self._check_retry()

    def _check_errors(self) -> None:
        for name, actor in self.actors.items():
            told = str(actor.result) == "database is locked"  # SQLite's way to say: later
            if isinstance(actor.result, BaseException) and not (actor.killed or told):
                self.wrong(f"{name} raised {actor.result!r}")

    def _check_statuses(self, answers: dict[str, Answer]) -> None:
        allowed = self.scenario.statuses | ({503} if connection.vendor == "sqlite" else set())
        for name, answer in answers.items():
            if answer.status not in allowed and not self.actors[name].killed:
                self.wrong(f"{name} got {answer.status} {answer.body[:200]!r}")

    def _check_effects(self, answers: dict[str, Answer]) -> None:
        """I1, I2: those who were told that they bought have bought, once, and nobody else."""
        bought = list(Order.objects.order_by("pk").values_list("item", flat=True))[
            len(self.before) :
        ]
        told = [n for n, a in answers.items() if a.status == 201 and not a.replayed]
        if sorted(bought) != sorted(told):
            self.wrong(f"I2: {told} were told that they bought; {bought} did")
        for name, answer in answers.items():
            is_order = answer.replayed and answer.status == 201
            if is_order and json.loads(answer.body)["item"] not in self.before + bought:
                self.wrong(f"I2: {name} got a replay of what did not happen")
        bought = sorted(told, key=lambda name: self.stored.get(name, 0))
        for earlier, later in pairwise(bought):
            self._check_retention(earlier, later)

    def _check_retention(self, earlier: str, later: str) -> None:
        """I1, I14: a second execution locks its record after the first one's retention, which
        counts from the statement that stores the response."""
        write = self._last(later, "shop_order", len(self.steps))
        lock = max(i for i, step in enumerate(self.steps[:write]) if step.actor == later)
        store = self._last(earlier, "UPDATE", len(self.steps))
        if not any(step.sql == "TIME" for step in self.steps[store:lock]):
            self.wrong(f"I1: {earlier} and {later} executed within one retention")

    def _last(self, actor: str, sql: str, before: int) -> int:
        steps = enumerate(self.steps[:before])
        return max((i for i, step in steps if step.actor == actor and sql in step.sql), default=0)

    def _check_waiting(self) -> None:
        """I4, I14: nobody waits for a lock."""
        if not self.scenario.blocks:
            for step in self.waited:
                self.wrong(f"I4, I14: {step.actor} waited in {step.sql[:60]}")

    def _check_retry(self) -> None:
        """No stuck key: a retry gets the stored answer or runs, and only if it must (I2, I8)."""
        executed = Order.objects.count()
        record = self._record()
        remembered = record is not None and record["state"] == "completed" and not record["expired"]
        fingerprint = "same"
        answer = send(self.scenario.view, "retry")
        if answer.status == 422:
            fingerprint = "other"
            answer = send(self.scenario.view, "retry", fingerprint=fingerprint)
        if answer.status != 201 and not (remembered and answer.status == 404):
            self.wrong(f"a retry got {answer.status} {answer.body[:200]!r}")
        if (Order.objects.count() == executed) != remembered:
            self.wrong(f"I2: remembered: {remembered}, and the retry got {answer}")
        again = send(self.scenario.view, "again", fingerprint=fingerprint)
        if (again.status, again.body) != (answer.status, answer.body) and again.status != 404:
            self.wrong(f"I6: the second retry got {again}, the first {answer}")

    def _record(self) -> dict[str, Any] | None:
        fields = ("id", "state", "attempt", "response_status", "response_body", "expires_at")
        row = IdempotencyRecord.objects.values(*fields, now=StoreTime()).first()
        if row is None:
            return None
        row["expired"] = row.pop("expires_at") <= row.pop("now")
        row["response_body"] = row["response_body"] and bytes(row["response_body"])
        return row


def _new(name: str) -> Actor:
    ACTORS[name] = Actor(name)
    return ACTORS[name]


def _restart() -> None:
    """Empty tables that number their rows from 1."""
    world.empty()
    tables = [model._meta.db_table for model in (Order, IdempotencyRecord)]
    with connection.cursor() as cursor:
        for table in tables:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), 1, FALSE)", [table])
            elif connection.vendor == "mysql":
                cursor.execute(f"ALTER TABLE {table} AUTO_INCREMENT = 1")
            else:
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])


def run(seconds: float) -> list[Outcome]:
    """Explore every scenario of requests.

    :param seconds: at most so long for each
    """
    with actors():
        return explore_all(scenarios(), seconds)


def explore_all(
    chosen: Iterable[Scenario], seconds: float, check: "type[Check] | None" = None
) -> list[Outcome]:
    """Explore those that this database can have."""
    outcomes = []
    for scenario in chosen:
        if scenario.rows and connection.vendor == "sqlite":
            continue
        started = monotonic()
        outcome = explore(scenario, seconds, check=check)
        outcome.seconds = monotonic() - started
        outcomes.append(outcome)
    return outcomes
