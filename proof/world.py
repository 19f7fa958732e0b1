"""The guarded view that experiments send requests to, and the state they look at."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from django.db import connection, connections
from django.http import Http404, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.shop.models import Coupon, Order

PATH = "/buy/"
RETENTION = timedelta(hours=1)


def everybody(request: Any) -> str:
    return "proof"


def _buy(request: Any) -> HttpResponse:
    """One order; headers say who buys and how the request ends."""
    item = request.headers.get("X-Item") or _item(request)
    order = Order.objects.create(item=item)
    outcome = request.headers.get("X-Outcome", "201")
    if outcome == "raise 404":
        raise Http404("no such plan")
    if outcome == "crash":
        raise RuntimeError("the view is broken")
    body = {"id": order.pk, "item": item, "padding": "." * int(request.headers.get("X-Padding", 0))}
    return JsonResponse(body, status=int(outcome))


buy = csrf_exempt(idempotent(scope=everybody, retention=RETENTION)(_buy))
waiting = csrf_exempt(
    idempotent(
        scope=everybody,
        retention=RETENTION,
        in_flight="wait",
        wait_timeout=timedelta(minutes=1),  # schedulers take their time
        wait_limit=10,
    )(_buy)
)


@csrf_exempt
def admitted(request: Any) -> HttpResponse:
    """Writes before the guard begins, as authentication may."""
    Coupon.objects.create(code=uuid4().hex)
    response: HttpResponse = buy(request)
    return response


def _item(request: Any) -> str:
    """A view that takes any body: what it cannot read is an order for a server."""
    try:
        item = json.loads(request.body)["item"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "server"
    return str(item).encode("utf-8", "replace").decode().replace("\0", "")[:200]


urlpatterns = [path("buy/", buy), path("admitted/", admitted)]


@contextmanager
def surrounded(atomic_requests: bool, *middleware: str, **settings: Any) -> Iterator[None]:
    """Set ``ATOMIC_REQUESTS`` and the middleware for a while. Without ours a guard begins inside
    Django's block."""
    block = {"ATOMIC_REQUESTS": atomic_requests}
    with (
        override_settings(MIDDLEWARE=list(middleware), **settings),
        patch.dict(connections.settings["default"], block),
    ):
        yield


def client() -> Client:
    """A client whose answers to exceptions are what a server would send."""
    return Client(raise_request_exception=False)


def post(browser: Client, key: str, data: Any = None, to: str = PATH, **headers: str) -> Any:
    headers = {"HTTP_X_" + name.upper(): value for name, value in headers.items()}
    return browser.post(
        to, data or {}, content_type="application/json", HTTP_IDEMPOTENCY_KEY=key, **headers
    )


def empty() -> None:
    """Forget everything that was done."""
    Order.objects.all().delete()
    IdempotencyRecord.objects.all().delete()


def close() -> None:
    connection.close()
