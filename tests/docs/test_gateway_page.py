"""The payment gateway page: one charge, whatever dies in between."""

import sys
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from django_idempotency.test import assert_idempotent, crash, lost_response
from tests.docs.pages import DOCS, blocks, text_of
from tests.shop import models
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE

pytestmark = [pytest.mark.once, pytest.mark.django_db]

PAGE = DOCS / "how-to/payment-gateways.md"
PATHS = ["/pay/", "/pay-by-reference/"]
paths = pytest.mark.parametrize("path", PATHS)


class Unreachable(Exception):
    pass


class Gateway(ModuleType):
    """Remembers charges: by key it makes one of them, by reference it finds them."""

    def __init__(self) -> None:
        super().__init__("shop.gateway")
        self.charges: list[str | None] = []
        self.is_down = False
        self.Unreachable = Unreachable

    def charge(self, amount: str, key: str | None = None, reference: str | None = None) -> str:
        if key is None or key not in self.charges:
            self.charges.append(key or reference)
        return f"ch_{self.charges.index(key or reference)}"

    def find(self, reference: str) -> str | None:
        if self.is_down:
            raise Unreachable
        return f"ch_{self.charges.index(reference)}" if reference in self.charges else None


@pytest.fixture
def gateway(settings: Any, monkeypatch: Any) -> Gateway:
    """A shop whose URLconf is the page."""
    gateway, page, shop = Gateway(), ModuleType("payments"), ModuleType("shop")
    module = ModuleType("shop.models")
    vars(module).update(Order=models.Order)
    vars(shop).update(gateway=gateway)
    known = {"shop": shop, "shop.gateway": gateway, "shop.models": module, "payments": page}
    for name, each in known.items():
        monkeypatch.setitem(sys.modules, name, each)
    for code in blocks(text_of(PAGE), "python"):
        exec(compile(code, PAGE, "exec"), vars(page))
    settings.ROOT_URLCONF = "payments"
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    return gateway


@pytest.fixture
def client(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_user("ada"))
    return client


def pay(client: Client, path: str) -> Any:
    return client.post(path, {"amount": "42"}, headers={"idempotency-key": "k"})


@paths
def test_a_payment_is_idempotent(gateway: Gateway, client: Client, path: str) -> None:
    assert_idempotent(client, path, {"amount": "42"}, creates=Order.objects.all())
    assert len(gateway.charges) == 1


@paths
def test_a_crash_after_the_charge_does_not_charge_again(
    gateway: Gateway, client: Client, path: str
) -> None:
    """I11."""
    with crash():
        pay(client, path)
    again = pay(client, path)
    assert (again.status_code, again.json()["charge"]) == (201, "ch_0")
    assert len(gateway.charges) == 1
    assert pay(client, path).content == again.content


@paths
def test_a_lost_answer_is_replayed(gateway: Gateway, client: Client, path: str) -> None:
    with lost_response():
        pay(client, path)
    assert pay(client, path)["Idempotency-Replayed"] == "true"
    assert len(gateway.charges) == 1


def test_what_nobody_knows_is_refused(gateway: Gateway, client: Client) -> None:
    with crash():
        pay(client, "/pay-by-reference/")
    gateway.is_down = True
    refused = pay(client, "/pay-by-reference/")
    assert (refused.status_code, refused.json()["code"]) == (409, "outcome_unknown")
    assert len(gateway.charges) == 1


def test_nothing_was_charged_so_it_runs(gateway: Gateway, client: Client) -> None:
    with crash():
        pay(client, "/pay-by-reference/")
    gateway.charges.clear()
    assert pay(client, "/pay-by-reference/").status_code == 201
    assert len(gateway.charges) == 1
