"""Contract E: payments. HTTP Basic; POST only; after 60 minutes a key is a new operation.

A payment that was declined is a result like any other.
"""

import uuid
from datetime import timedelta

from rest_framework import status
from rest_framework.generics import ListAPIView, RetrieveUpdateAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.decorators import idempotent

from ..authentication import Merchant
from ..models import Transaction
from ..provisioning import provision
from ..serializers import TransactionSerializer

POLICY = {
    "methods": ["POST"],
    "retention": timedelta(minutes=60),
    "mismatch_status": 422,
    "in_flight_status": 409,
}


class Payments:
    authentication_classes = [Merchant]
    serializer_class = TransactionSerializer

    def get_queryset(self):
        return Transaction.objects.filter(account=self.request.user).order_by("pk")


@idempotent(**POLICY)
class Transactions(Payments, ListAPIView):
    def post(self, request: Request) -> Response:
        payment = self.get_serializer(data=request.data)
        payment.is_valid(raise_exception=True)
        provision(payment.save(account=request.user, transaction_id=uuid.uuid4().hex))
        return Response(payment.data, status=status.HTTP_201_CREATED)


@idempotent(**POLICY)
class OneTransaction(Payments, RetrieveUpdateAPIView):
    """The state of a payment, and its correction before it is settled."""

    lookup_field = "transaction_id"
