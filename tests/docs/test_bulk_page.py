"""``how-to/bulk.md``: what it says of each item, of failures and of crashes."""

import json
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.signals import post_save
from django.test import Client

from django_idempotency.models import IdempotencyRecord
from tests.conftest import in_thread, row_locks
from tests.docs.pages import how_to
from tests.shop import models
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE

pytestmark = pytest.mark.django_db(transaction=True)

A, B, BAD = {"key": "a", "item": "A"}, {"key": "b", "item": "B"}, {"key": "c", "item": ""}
PATHS = ["/orders/bulk/", "/orders/bulk-under-a-key/"]


@pytest.fixture(autouse=True)
def page(settings: Any, monkeypatch: Any, client: Client) -> ModuleType:
    shop, page = ModuleType("shop.models"), ModuleType("bulk")
    vars(shop).update(Order=models.Order)
    for module in (ModuleType("shop"), shop, page):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for code in how_to("bulk"):
        exec(compile(code, "bulk.md", "exec"), vars(page))
    settings.ROOT_URLCONF = "bulk"
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client.force_login(User.objects.create_user("ada"))
    return page


@pytest.fixture
def post(client: Client) -> Callable[..., Any]:
    client.raise_request_exception = False

    def send(where: str, *items: Any, key: str = "k") -> Any:
        headers = {"idempotency-key": key}
        return client.post(where, json.dumps(items), "application/json", headers=headers)

    return send


@pytest.fixture
def after_write() -> Iterator[Callable[[Callable[[str], Any]], None]]:
    """Let something happen when an order is written, once for each item."""
    acts: list[Any] = []

    def install(act: Callable[[str], Any]) -> None:
        seen: set[str] = set()

        def receive(instance: Order, **rest: Any) -> None:
            if instance.item not in seen:
                seen.add(instance.item)
                act(instance.item)

        acts.append(receive)
        post_save.connect(receive, sender=Order)

    yield install
    for act in acts:
        post_save.disconnect(act, sender=Order)


def statuses(response: Any) -> list[int]:
    assert response.status_code == 207
    return [each["status"] for each in response.json()["results"]]


def items() -> list[str]:
    return sorted(Order.objects.values_list("item", flat=True))


@pytest.mark.parametrize("where", PATHS)
def test_each_item_is_done_once(where: str, post: Any) -> None:
    """I20: also in a request with other items, in another order."""
    first = post(where, A, BAD, B)
    assert (statuses(first), items()) == ([201, 400, 201], ["A", "B"])
    again = post(where, A, BAD, B)
    assert again.json() == first.json()
    rest = post(where, B, {"key": "c-2", "item": "C"}, key="k-2")
    assert (statuses(rest), items()) == ([201, 201], ["A", "B", "C"])
    assert rest.json()["results"][0] == first.json()["results"][2]
    assert statuses(post(where, {"key": "a", "item": "other"}, key="k-3")) == [422]


def test_a_request_that_is_done_is_replayed(post: Any) -> None:
    where = "/orders/bulk-under-a-key/"
    assert "Idempotency-Replayed" not in post(where, A, BAD)
    assert post(where, A, B).status_code == 422
    for is_replay in (False, True):
        answer = post(where, A, B, key="k-2")
        assert ("Idempotency-Replayed" in answer) is is_replay
    assert items() == ["A", "B"]


@pytest.mark.parametrize("where", PATHS)
def test_what_was_done_before_a_crash_stays_done(where: str, post: Any, after_write: Any) -> None:
    def die(item: str) -> None:
        if item == "B":
            raise SystemExit

    after_write(die)
    with pytest.raises(SystemExit):
        post(where, A, B)
    assert items() == ["A"]
    assert (statuses(post(where, A, B)), items()) == ([201, 201], ["A", "B"])


def test_malformed_items_are_answered_each(post: Any) -> None:
    answer = post("/orders/bulk/", {"key": "x" * 300, "item": "A"}, {"key": 7, "item": "A"}, B)
    assert (statuses(answer), items()) == ([400, 400, 201], ["B"])
    assert post("/orders/bulk/", "no object").status_code == 400


def test_a_longer_list_is_refused_whole(post: Any) -> None:
    """I20: a client would take items without an answer for done."""
    answer = post("/orders/bulk/", *({"key": str(n), "item": "A"} for n in range(101)))
    assert (answer.status_code, items()) == (400, [])


def test_keys_of_callers_are_apart(post: Any, client: Client) -> None:
    """I16."""
    post("/orders/bulk/", A)
    client.force_login(User.objects.create_user("eve"))
    answer = post("/orders/bulk/", A)
    assert (statuses(answer), items()) == ([201], ["A", "A"])
    assert IdempotencyRecord.objects.count() == 2


@row_locks
def test_an_item_that_another_request_is_doing(post: Any, after_write: Any) -> None:
    rivals: list[Any] = []

    def meanwhile(item: str) -> None:
        if item == "A":
            rivals.append(in_thread(lambda: post("/orders/bulk/", A, B)).result())

    after_write(meanwhile)
    assert statuses(post("/orders/bulk/", A)) == [201]
    assert (statuses(rivals[0]), items()) == ([409, 201], ["A", "B"])
