"""The same purchase, as an event that a sender delivers."""

from typing import Any

from django.http import HttpResponse, JsonResponse

from django_idempotency.webhooks import stripe_signature, webhook
from tests.shop.views import buy

SECRET = "whsec_of_the_shop"


@webhook("shop", verify=stripe_signature(lambda: SECRET), key=lambda event: event["id"])
def paid(request: Any, event: Any) -> HttpResponse:
    status, body = buy({"item": event["id"]})
    return JsonResponse(body, status=status)
