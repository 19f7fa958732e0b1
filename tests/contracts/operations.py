"""What the clients of each contract send."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from example_project.demo.client import Answer, Client
from example_project.demo.stage import (
    ADJUST,
    CVMS,
    LEDGER,
    MACHINE,
    MACHINES,
    MARKER,
    ORDERS,
    PAYMENT,
    PAYMENTS,
    PUBLIC_MACHINE,
    PUBLIC_MACHINES,
    TICKETS,
    new_key,
)
from tests.contracts.shop import Shop


@dataclass(frozen=True)
class Case:
    """One operation of one caller under a new key.

    :ivar other: another body
    :ivar rows: where the effects are listed, if not where they are made
    :ivar mismatch: status for another body
    :ivar minutes: how long the answer is kept
    """

    shop: Shop
    client: Client
    path: str
    data: dict[str, Any]
    other: dict[str, Any]
    rows: str = ""
    marker: str = MARKER
    mismatch: int = 422
    minutes: int = 24 * 60
    key: str = field(default_factory=new_key)

    def post(self, data: Any = None, key: str | None = None) -> Answer:
        """Send the operation, or another body, under the case's key, or another."""
        return self.client.post(self.path, data or self.data, key or self.key)

    def count(self) -> int:
        return len(self.client.get(self.rows or self.path).json)

    def runs(self, answer: Answer) -> bool:
        """Whether this is a success, and nobody's replay."""
        return answer.status == 201 and answer.headers[self.marker] is None

    def replays(self, first: Answer, again: Answer) -> bool:
        same = (again.status, again.body) == (first.status, first.body)
        typed = again.headers["Content-Type"] == first.headers["Content-Type"]
        marks = (first.headers[self.marker], again.headers[self.marker])
        return same and typed and marks == (None, "true")


Operation = Callable[[Shop, int], Case]
"""Makes the case of the first or the second caller (0, 1)."""


def machines(shop: Shop, who: int) -> Case:
    caller = shop.customers()[who]
    return Case(shop, caller, MACHINES, MACHINE, MACHINE | {"region": "ams"}, mismatch=409)


def orders(shop: Shop, who: int) -> Case:
    order = {"item": "domain", "quantity": 1}
    return Case(shop, shop.customers()[who], ORDERS, order, order | {"quantity": 2}, mismatch=409)


def public_machines(shop: Shop, who: int) -> Case:
    other = PUBLIC_MACHINE | {"name": "db-2"}
    return Case(shop, shop.api_keys()[who], PUBLIC_MACHINES, PUBLIC_MACHINE, other)


def adjustments(shop: Shop, who: int) -> Case:
    change = {"user_id": new_key(), "delta": 10, "reason": "quest"}
    return Case(
        shop,
        shop.bearer_keys()[who],
        ADJUST,
        change,
        change | {"delta": 20},
        LEDGER,
        marker="Idempotent-Replay",
        mismatch=409,
    )


def cvms(shop: Shop, who: int) -> Case:
    caller = shop.customers()[who]
    data = {"app_id": new_app(caller)}
    return Case(shop, caller, CVMS, data, data | {"node_id": 2})


def replicas(shop: Shop, who: int, limit: int = 3) -> Case:
    caller = shop.customers()[who]
    app = new_app(caller, limit)
    source = caller.post(CVMS, {"app_id": app}).json["vm_uuid"]
    path = f"/apps/{app}/cvms/{source}/replicas"
    return Case(shop, caller, path, {"node_id": 1}, {"node_id": 2})


def new_app(caller: Client, limit: int = 3) -> int:
    return caller.post("/apps", {"name": "inference", "replica_limit": limit}).json["id"]


def payments(shop: Shop, who: int) -> Case:
    caller = shop.merchants()[who]
    return Case(shop, caller, PAYMENTS, PAYMENT, PAYMENT | {"amount": 1}, minutes=60)


def tickets(shop: Shop, who: int) -> Case:
    caller = shop.browsers()[who]
    return Case(shop, caller, TICKETS, {"subject": "Help"}, {"subject": "Thanks"})


OPERATIONS: dict[str, Operation] = {
    "A-machines": machines,
    "A-orders": orders,
    "B": public_machines,
    "C": adjustments,
    "D-cvms": cvms,
    "D-replicas": replicas,
    "E": payments,
}
"""By name; the first letter is the contract."""

A = ("A-machines", "A-orders")
B = ("B",)
C = ("C",)
D = ("D-cvms", "D-replicas")
E = ("E",)
EVERY = (*A, *B, *C, *D, *E)
