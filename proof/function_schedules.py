"""Interleavings of functions that run once: the orders of statements that duplicates of a call, its
expiry, the purge and a lost session can take, under the invariants of requests."""

import json
from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse, JsonResponse

from django_idempotency.operations import KeyReused, OperationInFlight, run_once
from proof import schedules, world
from proof.interleavings import Action
from proof.report import Outcome
from proof.scenarios import KEY, Earlier, Request, Scenario, expire, killer, purge
from tests.shop.models import Order


class Down(Exception):
    """The function fails."""


def _calls(**options: Any) -> Any:
    """A function under a key, in the form of a view, as experiments send it."""

    def view(request: Any) -> HttpResponse:
        ran = []

        def buy(fingerprint: str) -> dict[str, Any]:
            ran.append(fingerprint)
            order = Order.objects.create(item=request.headers["X-Item"])
            if request.headers["X-Outcome"] != "201":
                raise Down
            return {"id": order.pk, "item": order.item}

        under = {"key": KEY, "scope": "proof", "name": "buy", "retention": world.RETENTION}
        try:
            result = run_once(buy, json.loads(request.body)["fingerprint"], **under, **options)
        except OperationInFlight:
            return HttpResponse(status=409)
        except KeyReused:
            return HttpResponse(status=422)
        except Down:
            return HttpResponse(status=503)
        headers = {} if ran else {"Idempotency-Replayed": "true"}
        return JsonResponse(result, status=201, headers=headers)

    return view


once = _calls()
waiting = _calls(in_flight="wait", wait_limit=10)


def scenarios() -> Iterator[Scenario]:
    def scenario(name: str, actors: dict[str, Action], *rest: Any, **options: Any) -> Scenario:
        return Scenario(f"run_once: {name}", actors, *rest, view=once, **options)

    call = Request(view=once)
    two = {"anna": call, "bert": call}
    interrupted = Earlier("503", view=once)
    yield scenario("two calls", two)
    yield scenario("two calls find an interrupted one", two, interrupted)
    yield scenario("two calls find an expired one", two, Earlier(is_expired=True, view=once))
    other = {**two, "other": Request(fingerprint="other", view=once)}
    statuses = frozenset({201, 409, 422})
    yield scenario("two calls, other arguments", other, statuses=statuses)
    failing = {"anna": Request("503", view=once), "bert": call}
    yield scenario("a failing call, another", failing, statuses=frozenset({201, 409, 503}))
    passing = {"anna": call, "time": expire, "purge": purge}
    yield scenario("a call, expiry, purge", passing, Earlier(view=once))
    killed = {**two, "killer": killer("anna")}
    yield scenario("two calls, a lost session", killed, rows=True)
    waits = {"anna": Request(view=waiting), "bert": Request(view=waiting)}
    yield scenario("two calls that wait", waits, blocks=True, rows=True)


def run(seconds: float) -> list[Outcome]:
    """Explore every scenario.

    :param seconds: at most so long for each
    """
    with schedules.actors():
        return schedules.explore_all(scenarios(), seconds)
