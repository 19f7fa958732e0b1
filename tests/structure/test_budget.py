"""What a request costs beyond its view, counted by the database server."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tests.conftest import Caller
from tests.shop.hooks import SECRET
from tests.shop.models import Order
from tests.support.adapters import every_adapter, few_adapters, some_adapters
from tests.support.counting import Count, claim_lock_and_store, counted
from tests.support.senders import SENDERS

pytestmark = pytest.mark.usefixtures("kept_claim_connections")


def control_of_a_first_request() -> int:
    """On MySQL a transaction begins, switches autocommit off, and commits by switching it on; two
    are for the savepoint that must still exist at the end. All of them travel with the lock and the
    store. With ``ATOMIC_REQUESTS`` the attempt shares Django's transaction (SQLite's is left and
    entered again)."""
    asked = 2 if connection.vendor == "mysql" else 0
    if not connection.settings_dict["ATOMIC_REQUESTS"]:
        return asked + (3 if connection.vendor == "mysql" else 2)
    return asked + (4 if connection.vendor == "sqlite" else 0)


STRIPE = SENDERS[1]
READ = INSERT = 1
"""What a replay costs, and what the view would have cost."""


def cost(caller: Caller, path: str, **arguments: Any) -> Count:
    caller.post(path, {"item": "warm"}, key="warm-up")
    with counted() as count:
        assert caller.post(path, {"item": "vm"}, **arguments).status_code in {201, 422}
    return count


@every_adapter
def test_a_first_request_costs_a_claim_a_lock_and_a_store(adapter: str, caller: Caller) -> None:
    bare = cost(caller, adapter, key=None)
    first = cost(caller, adapter, key="k")
    assert first.statements - bare.statements == claim_lock_and_store()
    assert first.control - bare.control <= control_of_a_first_request()


@some_adapters
def test_a_replay_costs_one_statement_and_no_transaction(adapter: str, caller: Caller) -> None:
    """A replay that writes would cost as much as a first request."""
    bare = cost(caller, adapter, key=None)
    caller.post(adapter, {"item": "vm"}, key="k")
    replay = cost(caller, adapter, key="k")
    assert replay.statements - bare.statements == READ - INSERT
    assert replay.control <= bare.control + _suspended(adapter)


@some_adapters
def test_a_key_that_a_function_finds_costs_the_same(
    adapter: str, caller: Caller, settings: Any
) -> None:
    """The function itself sends nothing here; a request in which it finds none pays nothing."""
    settings.IDEMPOTENCY = {"KEY_FROM": lambda request: request.META.get("HTTP_X_EVENT")}
    bare = cost(caller, adapter, key=None)
    first, replay = (cost(caller, adapter, key=None, headers={"x-event": "k"}) for _ in range(2))
    assert first.statements - bare.statements == claim_lock_and_store()
    assert first.control - bare.control <= control_of_a_first_request()
    assert replay.statements - bare.statements == READ - INSERT
    settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
    del settings.IDEMPOTENCY
    unguarded = cost(Caller("not guarded"), adapter, key=None)
    assert (bare.statements, bare.control) == (unguarded.statements, unguarded.control)


@pytest.mark.django_db(transaction=True)
def test_an_event_costs_what_a_request_with_a_header_costs(client: Client) -> None:
    """A receiver asks for no session and no caller: there is nothing else to pay."""
    counts = {}
    for event, what in (("evt_0", "warm"), ("evt_1", "first"), ("evt_1", "replay")):
        body, headers = STRIPE.delivery(event, secret=SECRET)
        with counted() as counts[what]:
            response = client.post("/hooks/paid/", body, "application/json", headers=headers)
        assert response.status_code == 201
    assert counts["first"].statements == INSERT + claim_lock_and_store()
    assert (counts["replay"].statements, counts["replay"].control) == (READ, 0)


@few_adapters
def test_a_mismatch_costs_one_statement(adapter: str, caller: Caller) -> None:
    bare = cost(caller, adapter, key=None)
    caller.post(adapter, {"item": "other"}, key="k")
    assert cost(caller, adapter, key="k").statements == bare.statements + READ - INSERT


@pytest.mark.once
@some_adapters
def test_without_the_header_nothing_is_spent(adapter: str, caller: Caller, settings: Any) -> None:
    """I9: the same statements as without the app's middleware."""
    guarded = cost(caller, adapter, key=None)
    settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
    bare = cost(Caller("not guarded"), adapter, key=None)  # a client keeps its middlewares
    assert (guarded.statements, guarded.control) == (bare.statements, bare.control)


def test_safe_methods_and_exempt_views_cost_nothing(
    use_middleware: None, caller: Caller, monkeypatch: Any
) -> None:
    """I9: no claim, no fingerprint, no key parsed, whatever the header says."""
    for path in ("/exempt-function/", "/exempt-rest-function/"):
        assert caller.post(path, key="not a key").status_code == 201
        assert caller.post(path, key="k").content != caller.post(path, key="k").content
    response = caller.get("/orders/", headers={"idempotency-key": "not a key"})
    assert response.status_code in {200, 401}
    assert Order.objects.count() == 6


@pytest.mark.django_db(transaction=True)
def test_the_counter_sees_a_statement_and_its_transaction() -> None:
    from django.db import transaction

    connection.ensure_connection()
    with counted() as count:
        with transaction.atomic():
            Order.objects.create(item="vm")
        Order.objects.count()
    assert count.statements == 2
    assert count.control >= 1


def _suspended(adapter: str) -> int:
    """On SQLite a transaction of ``ATOMIC_REQUESTS`` is ended and begun once more."""
    leaves = connection.settings_dict["ATOMIC_REQUESTS"] and connection.vendor == "sqlite"
    return 3 if leaves else 0
