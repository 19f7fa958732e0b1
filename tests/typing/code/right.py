"""Code of a project, without a mistake: checkers have nothing to say about it."""

from datetime import timedelta
from typing import assert_type

from django.forms import Form
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.generic import FormView

from django_idempotency.decorators import idempotent
from django_idempotency.forms import IdempotentFormMixin, idempotent_form
from django_idempotency.operations import (
    arun_once,
    idempotent_function,
    operation_of,
    run_once,
)
from django_idempotency.options import IdempotencySettings, IdempotentOptions
from django_idempotency.webhooks import Event, stripe_signature, webhook

IDEMPOTENCY: IdempotencySettings = {
    "RETENTION": timedelta(days=7),
    "METHODS": ["POST"],
    "NOT_STORED": [429, "5xx"],
    "SCOPE": "shop.keys.scope",
    "PATHS": [r"^/api/"],
    "EXEMPT_PATHS": {r"^/api/preview": "changes nothing"},
    "POLICIES": {r"^/api/payments/": {"REQUIRED": True, "FINGERPRINT_FIELDS": ["amount"]}},
}

LONG: IdempotentOptions = {"required": True, "retention": timedelta(days=30)}


def key_of(request: HttpRequest) -> str | None:
    return request.GET.get("key")


@idempotent(key=key_of, codec="zlib", not_stored=range(400, 500))
def pay(request: HttpRequest, pk: int) -> JsonResponse:
    if operation := operation_of(request):
        assert_type(operation.key, str)
        assert_type(operation.derive_key("charge"), str)
    return operation_of(request).not_done(JsonResponse({"pk": pk}))


@idempotent(**LONG)
def refund(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent_form(scope="principal", wait_timeout=timedelta(seconds=3))
def order(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Contact(IdempotentFormMixin, FormView[Form]):
    idempotency_options = {"scope": "principal", "wait_limit": 2}


@webhook("stripe", verify=stripe_signature("SECRET"), key=lambda event: event["id"], store="db")
def paid(request: HttpRequest, event: Event) -> HttpResponse:
    return HttpResponse()


@idempotent_function(scope="invoices", key=lambda number: f"invoice:{number}", atomic=False)
def invoice(number: int) -> str:
    return str(number)


async def ship(number: int) -> bool:
    return number > 0


assert_type(pay(HttpRequest(), 1), JsonResponse)
assert_type(invoice(1), str)
assert_type(run_once(invoice, 1, key="1", scope="a", retention=timedelta(days=1)), str)
assert_type(run_once(ship, 1, key="1", scope="a"), bool)


async def later() -> None:
    assert_type(await arun_once(ship, 1, key="1", scope="a", in_flight="wait"), bool)
    assert_type(await arun_once(invoice, 1, key="1", scope="a"), str)
