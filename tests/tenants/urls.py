from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from tests.shop.models import Order


def buy(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(item=connection.schema_name)
    return JsonResponse({"order": order.pk, "of": order.item}, status=201)


urlpatterns = [
    path("buy/", buy),
    path("charge/", idempotent(buy, atomic=False)),
]
