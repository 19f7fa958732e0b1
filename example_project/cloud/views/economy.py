"""Contract C: players' balances. Bearer token; a key has at most 128 characters.

The id of an upstream event makes a good key.

Refusals are stored like success: a retry after a top-up still gets the refusal it is about.
"""

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Sum
from rest_framework import status
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.exceptions import ValidationError
from rest_framework.generics import RetrieveUpdateDestroyAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.decorators import idempotent

from ..authentication import BearerKey
from ..models import LedgerEntry
from ..provisioning import provision
from ..serializers import AdjustmentSerializer

POLICY = {
    "scope": "token",
    "key_max_length": 128,
    "fingerprint": "request",
    "retention": timedelta(hours=24),
    "mismatch_status": 409,
    "in_flight_status": 409,
    "not_stored": ["5xx"],
    "replay_header": "Idempotent-Replay",
}


@api_view(["POST"])
@authentication_classes([BearerKey])
@idempotent(**POLICY)
def adjust(request: Request) -> Response:
    """Change a balance, which never becomes negative."""
    wanted = AdjustmentSerializer(data=request.data)
    wanted.is_valid(raise_exception=True)
    with transaction.atomic():
        # One change at a time per account, so that two of them cannot spend the same balance.
        account = get_user_model().objects.select_for_update().get(pk=request.user.pk)
        entry = wanted.save(account=account)
        player = LedgerEntry.objects.filter(account=account, user_id=wanted.data["user_id"])
        balance = player.aggregate(Sum("delta"))["delta__sum"]
        if balance < 0:
            raise ValidationError({"delta": "The balance would become negative."})
    provision(entry)
    return Response({**wanted.data, "balance": balance}, status=status.HTTP_201_CREATED)


@api_view(["GET", "HEAD"])
@authentication_classes([BearerKey])
def ledger(request: Request) -> Response:
    entries = LedgerEntry.objects.filter(account=request.user).order_by("pk")
    return Response(AdjustmentSerializer(entries, many=True).data)


@idempotent(**POLICY)
class Entry(RetrieveUpdateDestroyAPIView):
    """One entry: read, corrected or taken back."""

    authentication_classes = [BearerKey]
    serializer_class = AdjustmentSerializer

    def get_queryset(self):
        return LedgerEntry.objects.filter(account=self.request.user)
