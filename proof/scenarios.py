"""What is interleaved: actors, and the record they find."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, permutations, product
from typing import Any

from django.http import Http404
from django.test import RequestFactory

from django_idempotency.stores.database.store import DatabaseStore
from proof import world
from proof.interleavings import ACTORS, Action, Actor, Clock, kill

KEY = "k"
DUPLICATES = ("anna", "bert", "carl")
FACTORY = RequestFactory()


@dataclass
class Answer:
    status: int
    body: bytes
    replayed: bool


def send(view: Any, item: str, outcome: str = "201", fingerprint: str = "same") -> Answer:
    """One request; ``item`` names who buys, which is no part of the fingerprint."""
    headers = {"HTTP_IDEMPOTENCY_KEY": KEY, "HTTP_X_ITEM": item, "HTTP_X_OUTCOME": outcome}
    body = json.dumps({"fingerprint": fingerprint})
    request = FACTORY.post(world.PATH, body, content_type="application/json", **headers)
    try:
        response = view(request)
    except Http404:
        return Answer(404, b"", False)
    return Answer(
        response.status_code, response.content, response.get("Idempotency-Replayed") == "true"
    )


@dataclass(frozen=True)
class Request:
    """An action: one request."""

    outcome: str = "201"
    fingerprint: str = "same"
    view: Any = world.buy

    def __call__(self, actor: Actor) -> Answer:
        return send(self.view, actor.name, self.outcome, self.fingerprint)


def expire(actor: Actor) -> None:
    """Time passes: whatever is completed by now is past its retention."""
    actor.stop("TIME")
    actor.clock.advance(world.RETENTION * 2)


def purge(actor: Actor) -> int:
    return sum(DatabaseStore("default").purge(10))


def killer(victim: str) -> Action:
    """The session of an attempt ends, although its process lives on."""

    def action(actor: Actor) -> None:
        actor.stop("KILL")
        target = ACTORS[victim]
        if target.state == "paused":
            target.killed = True
            kill(target.session)

    return action


def nothing(now: Clock) -> None:
    """No record yet."""


@dataclass(frozen=True)
class Earlier:
    """What has happened before: an attempt that died after its claim (503), or one that has
    answered, and may be expired."""

    outcome: str = "201"
    is_expired: bool = False
    view: Any = world.buy

    def __call__(self, now: Clock) -> None:
        send(self.view, "earlier", self.outcome)
        if self.is_expired:
            now.advance(world.RETENTION * 2)


interrupted, completed, expired = Earlier("503"), Earlier(), Earlier(is_expired=True)


@dataclass
class Scenario:
    """Actors by name, and the record they find.

    :ivar merged: orders that lead to the same state are continued once
    :ivar blocks: statements may wait for locks
    :ivar rows: only for databases with row locks and sessions
    :ivar view: that the retry at the end asks
    """

    name: str
    actors: dict[str, Action]
    before: Callable[[Clock], None] = nothing
    merged: bool = True
    blocks: bool = False
    rows: bool = False
    statuses: frozenset[int] = frozenset({201, 409})
    view: Any = world.buy

    @property
    def has_requests_only(self) -> bool:
        return all(isinstance(action, Request) for action in self.actors.values())

    def renamings(self) -> Iterator[dict[str, str]]:
        """All ways to call those who send the same request by each other's names."""
        if not self.has_requests_only:
            yield {}
            return
        alike: dict[Action, list[str]] = {}
        for name, action in self.actors.items():
            alike.setdefault(action, []).append(name)
        for names in product(*map(permutations, alike.values())):
            yield dict(zip(chain(*alike.values()), chain(*names), strict=True))


def scenarios() -> Iterator[Scenario]:
    """In the order of their size."""
    two = {"anna": Request(), "bert": Request()}
    three = {**two, "carl": Request()}
    yield Scenario("two duplicates", two, merged=False)
    yield Scenario("two duplicates find an interrupted record", two, interrupted)
    yield Scenario("two duplicates find an expired record", two, expired)
    yield Scenario("three replays", three, completed, merged=False, statuses=frozenset({201}))
    yield Scenario("three duplicates", three)
    yield Scenario("three duplicates find an interrupted record", three, interrupted)
    yield Scenario("three duplicates find an expired record", three, expired)
    other = {**two, "other": Request(fingerprint="other")}
    yield Scenario("two duplicates, another body", other, statuses=frozenset({201, 409, 422}))
    failing = {"anna": Request("503"), "bert": Request(), "carl": Request()}
    yield Scenario("a failing attempt, two duplicates", failing, statuses=_with(503))
    late = {"anna": Request("raise 404"), "bert": Request("503"), "carl": Request()}
    yield Scenario("a raised 404, a failing attempt, a duplicate", late, statuses=_with(404, 503))
    alone = {"time": expire, "purge": purge, "anna": Request()}
    yield Scenario("an attempt, expiry, purge", alone)
    yield Scenario("two duplicates, expiry, purge", {**two, "time": expire, "purge": purge})
    yield Scenario("a duplicate, expiry, two purges", _purges(), completed)
    yield Scenario("two duplicates, purge, expired record", {**two, "purge": purge}, expired)
    killed = {**two, "killer": killer("anna")}
    yield Scenario("two duplicates, a lost session", killed, rows=True, statuses=_with(500))
    yield Scenario("takeover, a lost session", killed, interrupted, rows=True, statuses=_with(500))
    waiting = {"anna": Request(view=world.waiting), "bert": Request(view=world.waiting)}
    yield Scenario("two duplicates that wait", waiting, blocks=True, rows=True)
    crowd = {name: Request(view=world.waiting) for name in DUPLICATES}
    yield Scenario(
        "three that wait find an interrupted record",
        crowd,
        interrupted,
        blocks=True,
        rows=True,
        statuses=frozenset({201}),
    )


def _purges() -> dict[str, Action]:
    return {"anna": Request(), "time": expire, "purge": purge, "purge 2": purge}


def _with(*statuses: int) -> frozenset[int]:
    return frozenset({201, 409, *statuses})
