"""Contract A: buying machines and other items. Bearer token of the account.

A key belongs to the account, so it survives the rotation of the token. Only success is stored:
a purchase that was refused is tried again by its retry. What callers may rely on is published at
the address that errors link to.
"""

from datetime import timedelta

from django.db import transaction
from rest_framework import status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.decorators import idempotent

from ..effects import send_receipt
from ..models import Order, VirtualMachine
from ..provisioning import provision
from ..serializers import MachineSerializer, OrderSerializer

POLICY = {
    "scope": "principal",
    "retention": timedelta(hours=24),
    "mismatch_status": 409,
    "in_flight": "conflict",
    "in_flight_status": 409,
    "not_stored": ["4xx", "5xx"],
    "docs_url": "/docs/retries",
}


class VirtualMachines(ListAPIView):
    serializer_class = MachineSerializer

    def get_queryset(self):
        return VirtualMachine.objects.filter(account=self.request.user).order_by("pk")

    @idempotent(**POLICY)
    def post(self, request: Request) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        with transaction.atomic():
            item = wanted.validated_data["plan"]
            order = Order.objects.create(account=request.user, item=item)
            machine = wanted.save(account=request.user, order=order)
            provision(machine)
        answer = {
            "order": OrderSerializer(order).data,
            "virtual_machine": self.get_serializer(machine).data,
        }
        return Response(answer, status=status.HTTP_201_CREATED)


class Orders(ListAPIView):
    serializer_class = OrderSerializer

    def get_queryset(self):
        return Order.objects.filter(account=self.request.user).order_by("pk")

    @idempotent(**POLICY)
    def post(self, request: Request) -> Response:
        order = self.get_serializer(data=request.data)
        order.is_valid(raise_exception=True)
        with transaction.atomic():
            saved = order.save(account=request.user)
            provision(saved)
            request.idempotency.after_commit(send_receipt, saved.pk)
        return Response(order.data, status=status.HTTP_201_CREATED)
