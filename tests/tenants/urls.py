from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from tests.shop.models import Order


def nothing() -> None:
    """What happens during a purchase, unless a story says something else."""


during_purchase = nothing


def buy(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(item=connection.schema_name)
    during_purchase()
    return JsonResponse({"order": order.pk, "of": order.item}, status=201)


urlpatterns = [
    path("buy/", buy),
    path("charge/", idempotent(buy, atomic=False)),
]
