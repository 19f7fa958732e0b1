"""Records and effects as a shop has them, for pictures and for tests of layout."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

from django.contrib.auth.models import User
from django.utils import timezone

from django_idempotency.effects.models import EffectState, IdempotencyEffect
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import State
from tests.support.admin import remember

UNFINISHED = {"response_status": None, "response_body": None, "completed_at": None}

SHOWN = "8e03978e-40d5-43e8-bc93-6894a57f9324"
"""Key of the record whose page is shown."""
LONG_KEY = "checkout-" + "0123456789abcdef" * 15
LONG_PATH = "/shops/1042/customers/77/" + "orders-of-this-year/" * 11

_NAMES = UUID("00000000-0000-4000-8000-000000000000")


def tell(hostile: bool = False) -> IdempotencyRecord:
    """Create records and a superuser ``admin``; return the one that is to be in flight.

    :param hostile: also one with the longest key and path
    """
    User.objects.create_superuser("admin", password="secret")
    now = timezone.now()
    headers = json.dumps([["Content-Type", "application/json"], ["Location", "/orders/1042/"]])
    body = {"order": {"id": 1042, "total": "129.00", "currency": "EUR", "items": ["disk", "vm"]}}

    def record(key: str, seconds: float, took: float = 0.2, **values: Any) -> IdempotencyRecord:
        created = now - timedelta(seconds=seconds)
        completed = created + timedelta(seconds=took)
        given: dict[str, Any] = {
            "response_headers": headers,
            "response_body": json.dumps(body).encode(),
            "created_at": created,
            "completed_at": completed,
            "expires_at": completed + timedelta(days=1),
        }
        return remember(key, **given | values)

    record("order-1039-pay", 93_900, path="/orders/1039/payments/")
    record("order-1040-cancel", 4_025, method="DELETE", path="/orders/1040/", response_status=204)
    record("order-1041-address", 1_910, method="PUT", path="/orders/1041/address/")
    if hostile:
        record(LONG_KEY, 1_800, path=LONG_PATH[:255])
    record("2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d", 325, response_status=422)
    shown = record(SHOWN, 94, took=41.4, attempt=2, request_id="7f1c9a52")
    _stage(shown, now)
    record("cart-77-checkout", 42, path="/carts/77/checkout/", state=State.CLAIMED, **UNFINISHED)
    return record("cart-78-pay", 3, path="/carts/78/checkout/", state=State.CLAIMED, **UNFINISHED)


def _stage(record: IdempotencyRecord, now: Any) -> None:
    """Stage effects of an operation: one has run, one is to be tried again, two have failed."""
    staged = now - timedelta(seconds=52)
    rows: list[dict[str, Any]] = [
        {"state": EffectState.DONE, "tries": 1, "finished_at": staged + timedelta(seconds=1)},
        {"state": EffectState.PENDING, "tries": 2, "due_at": now + timedelta(seconds=95)},
        {"state": EffectState.FAILED, "tries": 8, "error": "ConnectionRefusedError"},
        {"state": EffectState.FAILED, "tries": 3, "error": "UnknownWarehouse"},
    ]
    rows[0]["purge_at"] = now + timedelta(days=7)
    names = ("mails.receipt", "crm.update", "search.index", "warehouse.reserve")
    for name, row in zip(names, rows, strict=True):
        row = {"error": "TimeoutError" if row["tries"] == 2 else "", **row}
        IdempotencyEffect.objects.create(
            key=uuid5(_NAMES, name),
            record_id=record.pk,
            name=f"shop.{name}",
            arguments="[]",
            staged_at=staged,
            **row,
        )
