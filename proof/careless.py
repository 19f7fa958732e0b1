"""Careless views: whatever they catch, close, end or wish, nothing is stored whose writes are gone.

Every sequence of up to two mishaps in one view, with a write before each. What the client is
told, what is stored and what is there are compared, and a retry must get the same, or run.
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from proof import world
from proof.report import Outcome
from tests.shop.models import Coupon, Order
from tests.support import losses
from tests.support.databases import DATABASE

Mishap = Callable[[], Any]


def wish() -> None:
    transaction.set_rollback(True)


def healed() -> None:
    with suppress(DatabaseError), transaction.atomic():
        Coupon.objects.create(code="taken")


def durable() -> None:
    with suppress(RuntimeError), transaction.atomic(durable=True):
        Order.objects.create(item="durable")


def commit() -> None:
    with suppress(DatabaseError):
        losses.run("COMMIT")


def breaks() -> None:
    raise RuntimeError("the view is broken")


SERVER: list[Mishap] = {
    "postgresql": [losses.kill, losses.aborted],
    "mariadb": [losses.kill, losses.procedure],
    "sqlite": [losses.or_rollback],
}[DATABASE]
MISHAPS: list[Mishap] = [
    *(wish, healed, durable, commit, breaks),
    *(losses.bulk_create, losses.no_database_error, losses.close_old, losses.reconnect),
    *SERVER,
]
planned: tuple[Mishap, ...] = ()
"""What the next request meets."""


@csrf_exempt
@idempotent(scope=world.everybody)
def view(request: Any) -> HttpResponse:
    for number, mishap in enumerate(planned):
        with suppress(DatabaseError):
            Order.objects.create(item=str(number))
        with suppress(DatabaseError):
            mishap()
    return HttpResponse("done", status=201)


def run(longest: int = 2) -> list[Outcome]:
    """Try all sequences of up to so many mishaps."""
    outcome = Outcome("careless views")
    Coupon.objects.all().delete()
    losses.setup()
    for length in range(1, longest + 1):
        for mishaps in product(MISHAPS, repeat=length):
            _check(mishaps, outcome)
    connection.close()
    return [outcome]


def _check(mishaps: tuple[Mishap, ...], outcome: Outcome) -> None:
    global planned
    world.empty()
    planned = mishaps
    outcome.count += 1
    where = ", ".join(each.__name__ for each in mishaps)
    status, replayed = _send()
    stored = list(IdempotencyRecord.objects.values_list("state", flat=True)) == ["completed"]
    orders = set(Order.objects.values_list("item", flat=True))
    expected = {str(number) for number in range(len(mishaps))}
    if stored != (status == 201):
        outcome.violation(f"I2 {where}: told {status}, but stored is {stored}")
    elif stored and orders != (set() if wish in mishaps else expected):
        outcome.violation(f"I2 {where}: stored, and there is {orders}")
    elif not stored and orders:
        outcome.violation(f"I2 {where}: not stored, and there is {orders}")
    outcome.note("stored" if stored else "refused")
    planned = (healed,)
    status, replayed = _send()
    if status != 201 or replayed is not stored:
        outcome.violation(f"{where}: the retry got {status}, a replay: {replayed}")


def _send() -> tuple[int, bool]:
    headers = {"idempotency-key": "k"}
    try:
        response = view(RequestFactory().post("/careless/", headers=headers))
    except Exception:
        return 500, False
    finally:
        connection.close_if_unusable_or_obsolete()
    return response.status_code, response.get("Idempotency-Replayed") == "true"
