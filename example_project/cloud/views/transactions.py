"""Contract E: payments. HTTP Basic; POST only; after 60 minutes a key is a new operation."""

import uuid
from datetime import timedelta

from rest_framework import status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.decorators import idempotent

from ..authentication import Merchant
from ..models import Transaction
from ..serializers import TransactionSerializer


@idempotent(methods=["POST"], retention=timedelta(minutes=60))
class Transactions(ListAPIView):
    authentication_classes = [Merchant]
    serializer_class = TransactionSerializer

    def get_queryset(self):
        return Transaction.objects.filter(account=self.request.user).order_by("pk")

    def post(self, request: Request) -> Response:
        payment = self.get_serializer(data=request.data)
        payment.is_valid(raise_exception=True)
        payment.save(account=request.user, transaction_id=uuid.uuid4().hex)
        return Response(payment.data, status=status.HTTP_201_CREATED)
