"""One action of a viewset owns its transactions, and the others stay in ``ATOMIC_REQUESTS``."""

from types import ModuleType
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils.decorators import method_decorator
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.viewsets import GenericViewSet

from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.checking import only, silent


class OrderViewSet(GenericViewSet):  # type: ignore[type-arg]
    queryset = Order.objects.all()

    def create(self, request: Any) -> Response:
        return Response({"in a transaction": connection.in_atomic_block}, status=201)


class Pays(GenericViewSet):  # type: ignore[type-arg]
    queryset = Order.objects.all()

    @action(detail=True, methods=["post"])
    @idempotent(atomic=False, on_interrupted="run")
    def pay(self, request: Any, pk: str) -> Response:
        own = request.idempotency.step("pay", lambda: Order.objects.create(item="charge").pk)
        return Response({"in a transaction": connection.in_atomic_block, "for": own}, status=201)


class OneViewSet(OrderViewSet, Pays):
    """Where the decorator would have to stand on the dispatch() of all."""


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class PaymentViewSet(Pays):
    """As the documentation advises."""


def urls(*viewsets: Any) -> Any:
    router, conf = DefaultRouter(), ModuleType("urls")
    for viewset in viewsets:
        router.register("orders", viewset, basename=viewset.__name__)
    conf.urlpatterns = router.urls  # type: ignore[attr-defined]
    return conf


@pytest.fixture(autouse=True)
def blocks(monkeypatch: Any, transactional_db: None) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


def test_it_has_a_class_of_its_own(caller: Caller, settings: Any) -> None:
    settings.ROOT_URLCONF = urls(OneViewSet)
    assert "all of its methods and actions" in only("E020").hint
    settings.ROOT_URLCONF = urls(OrderViewSet, PaymentViewSet)
    silent("E020")
    order = caller.post("/orders/", key=None)
    assert order.json() == {"in a transaction": True}
    first, again = (caller.post("/orders/7/pay/") for _ in "12")
    assert (
        first.json()
        == again.json()
        == {
            "in a transaction": False,
            "for": Order.objects.get().pk,
        }
    )
    assert again["Idempotency-Replayed"] == "true"


def test_on_the_dispatch_of_one_class_it_takes_the_block_from_all(
    caller: Caller, settings: Any
) -> None:
    """Which is what the hint is about."""

    @method_decorator(transaction.non_atomic_requests, name="dispatch")
    class Bare(OneViewSet):
        pass

    settings.ROOT_URLCONF = urls(Bare)
    silent("E020")
    assert caller.post("/orders/", key=None).json() == {"in a transaction": False}
