"""Contract B: the public API for machines. Key in ``x-api-key``.

A key belongs to the token, so another token of the same account is another caller. The body is
not compared: whoever sends a key again gets the first answer for 24 hours.
"""

from datetime import timedelta

from rest_framework.mixins import (
    CreateModelMixin,
    DestroyModelMixin,
    ListModelMixin,
    UpdateModelMixin,
)
from rest_framework.viewsets import GenericViewSet

from django_idempotency.decorators import idempotent

from ..authentication import HeaderKey
from ..models import VirtualMachine
from ..provisioning import provision
from ..serializers import PublicMachineSerializer


@idempotent(
    scope="token",
    fingerprint="none",
    retention=timedelta(hours=24),
    not_stored=["5xx"],
    replay_header="Idempotency-Replayed",
)
class PublicMachines(
    CreateModelMixin, ListModelMixin, UpdateModelMixin, DestroyModelMixin, GenericViewSet
):
    authentication_classes = [HeaderKey]
    serializer_class = PublicMachineSerializer
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]
    lookup_field = "uuid"

    def get_queryset(self):
        return VirtualMachine.objects.filter(account=self.request.user).order_by("pk")

    def perform_create(self, serializer) -> None:
        provision(serializer.save(account=self.request.user))
