"""Contract B: the public API for machines. Key in ``x-api-key``.

A key is any printable ASCII and belongs to the token, so another token of the same account is
another caller. The body is not compared: whoever sends a key again gets the first answer for 24
hours. Every write is guarded but the download, which is made anew for every request. While records
cannot be kept, requests are let through.
"""

from datetime import timedelta
from secrets import token_bytes

from django.http import HttpResponse
from rest_framework.decorators import action
from rest_framework.mixins import (
    CreateModelMixin,
    DestroyModelMixin,
    ListModelMixin,
    UpdateModelMixin,
)
from rest_framework.request import Request
from rest_framework.viewsets import GenericViewSet

from django_idempotency.decorators import idempotency_exempt, idempotent

from ..authentication import HeaderKey
from ..models import VirtualMachine
from ..provisioning import provision
from ..serializers import PublicMachineSerializer


@idempotent(
    key_format="printable",
    key_max_length=255,
    scope="token",
    fingerprint="none",
    retention=timedelta(hours=24),
    in_flight_status=409,
    not_stored=["5xx"],
    replay_header="Idempotency-Replayed",
    outage="open",
)
class PublicMachines(
    CreateModelMixin, ListModelMixin, UpdateModelMixin, DestroyModelMixin, GenericViewSet
):
    authentication_classes = [HeaderKey]
    serializer_class = PublicMachineSerializer
    http_method_names = ["get", "post", "put", "patch", "delete", "head", "options"]
    lookup_field = "uuid"

    def get_queryset(self):
        return VirtualMachine.objects.filter(account=self.request.user).order_by("pk")

    def perform_create(self, serializer) -> None:
        provision(serializer.save(account=self.request.user))

    @action(detail=True, methods=["post"])
    @idempotency_exempt(reason="binary downloads are outside of the contract")
    def backup(self, request: Request, uuid: str) -> HttpResponse:
        self.get_object()
        return HttpResponse(token_bytes(64), content_type="application/octet-stream")
