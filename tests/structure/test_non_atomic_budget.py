"""What non-atomic mode costs, counted by the database server and on the wire. The views send
nothing, so all of it is the guard's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.operations.base import InFlight, Started
from django_idempotency.stores.database.connections import own_connections
from tests.support.counting import counted, wire_to_database
from tests.support.databases import DATABASE
from tests.support.holding import CREATED, an_operation
from tests.support.interruptions import Crash, crash

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("kept_claim_connections"),
]


class Cost(NamedTuple):
    """Of one request, on all connections.

    :ivar statements: that the server gets
    :ivar control: of transactions
    :ivar trips: round trips, which SQLite does not have
    """

    statements: int
    control: int
    trips: int | None = None


def costs(postgresql: Cost, mariadb: Cost, sqlite: Cost) -> dict[str, Cost]:
    return {"postgresql": postgresql, "mariadb": mariadb, "sqlite": sqlite}


COSTS = {
    "first": costs(Cost(4, 2, 4), Cost(4, 5, 4), Cost(5, 0)),
    "replay": costs(Cost(1, 0, 1), Cost(1, 0, 1), Cost(1, 0)),
    "mismatch": costs(Cost(1, 0, 1), Cost(1, 0, 1), Cost(1, 0)),
    "duplicate_in_flight": costs(Cost(2, 2, 3), Cost(2, 5, 4), Cost(1, 0)),
    "not_now": costs(Cost(4, 2, 4), Cost(4, 5, 4), Cost(5, 0)),
    "retry_after_not_now": costs(Cost(9, 6, 11), Cost(9, 13, 13), Cost(9, 1)),
    "retry_after_an_interruption": costs(Cost(9, 6, 11), Cost(9, 13, 13), Cost(9, 1)),
    "unknown_outcome": costs(Cost(3, 2, 4), Cost(3, 5, 5), Cost(3, 0)),
    "one_step": costs(Cost(6, 4, 6), Cost(6, 9, 9), Cost(7, 1)),
    "three_steps": costs(Cost(10, 8, 10), Cost(10, 17, 19), Cost(11, 3)),
}


def nothing() -> None:
    """Happens in the view, unless a test says otherwise."""


meanwhile: Callable[[], Any] = nothing


def everybody(request: HttpRequest) -> str:
    return "somebody"


def view(request: HttpRequest, steps: int = 0, status: int = 201) -> HttpResponse:
    for number in range(steps):
        request.idempotency.step(f"step {number}", nothing)  # type: ignore[attr-defined]
    meanwhile()
    return HttpResponse(status=status)


guarded = idempotent(scope=everybody, atomic=False)(view)
running_again = idempotent(scope=everybody, atomic=False, on_interrupted="run")(view)

urlpatterns = [
    path("view/", csrf_exempt(guarded)),
    path("steps/<int:steps>/", csrf_exempt(running_again)),
    path("status/<int:status>/", csrf_exempt(guarded)),
    path("again/", csrf_exempt(running_again)),
]


def post(url: str, key: str = "k", **extra: Any) -> int:
    headers = {"Idempotency-Key": key}
    response = Client(headers=headers).post(url, content_type="text/plain", **extra)
    return int(response.status_code)


def first() -> Iterator[None]:
    yield
    assert post("/view/") == 201


def replay() -> Iterator[None]:
    assert post("/view/") == 201
    yield
    assert post("/view/") == 201


def mismatch() -> Iterator[None]:
    assert post("/view/") == 201
    yield
    assert post("/view/", data="other") == 422


def duplicate_in_flight() -> Iterator[None]:
    operation, _ = an_operation()
    assert operation.begin() == Started()
    yield
    assert an_operation()[0].begin() == InFlight()
    yield
    assert operation.finish(CREATED)


def not_now() -> Iterator[None]:
    yield
    assert post("/status/503/") == 503


def retry_after_not_now() -> Iterator[None]:
    assert post("/status/503/") == 503
    yield
    assert post("/status/503/") == 503


def retry_after_an_interruption() -> Iterator[None]:
    interrupt("/again/")
    yield
    assert post("/again/") == 201


def unknown_outcome() -> Iterator[None]:
    interrupt("/view/")
    yield
    assert post("/view/") == 409


def interrupt(url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "meanwhile", crash)
        with pytest.raises(Crash):
            post(url)


def one_step() -> Iterator[None]:
    yield
    assert post("/steps/1/") == 201


def three_steps() -> Iterator[None]:
    yield
    assert post("/steps/3/") == 201


CASES = [
    *(first, replay, mismatch, duplicate_in_flight, not_now, retry_after_not_now),
    *(retry_after_an_interruption, unknown_outcome, one_step, three_steps),
]


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def case(request: Any) -> Callable[[], Iterator[None]]:
    found: Callable[[], Iterator[None]] = request.param
    return found


def test_statements(case: Callable[[], Iterator[None]]) -> None:
    """Counted by the server, on the view's connection and on the one that locks."""
    budget = COSTS[case.__name__][DATABASE]
    with prepared(case) as request, counted() as count:
        next(request, None)
    assert count.statements <= budget.statements
    assert count.control <= budget.control


@pytest.mark.skipif(DATABASE == "sqlite", reason="SQLite is in the process")
def test_round_trips(case: Callable[[], Iterator[None]]) -> None:
    budget = COSTS[case.__name__][DATABASE]
    with wire_to_database() as wire, prepared(case) as request, wire.counted() as trips:
        next(request, None)
    assert budget.trips is not None
    assert trips.total <= budget.trips


@contextmanager
def prepared(case: Callable[[], Iterator[None]]) -> Iterator[Iterator[None]]:
    """Everything is there before the request that counts, with two connections that lock."""
    connection.ensure_connection()
    pool = own_connections("default")
    if connection.vendor != "sqlite":
        for each in [pool.lend(2), pool.lend(2)]:
            pool.take_back(each)
        for number in range(3):  # a new session is asked who it is
            each, rival = [an_operation(key=f"warm-up {number}")[0] for _ in "12"]
            assert (each.begin(), rival.begin(), each.finish(CREATED)) == (
                Started(),
                InFlight(),
                True,
            )
    request = case()
    next(request)
    yield request
    next(request, None)
