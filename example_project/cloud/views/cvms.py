"""Contract D: machines of an app and their replicas.

A key is optional, and belongs to a caller and an endpoint. "Not now" answers (409, 429, 503) are
not stored, so their retry runs. Replicas are counted under a lock on their app: requests with
different keys cannot exceed its limit either.
"""

from datetime import timedelta

from django.db import transaction
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.generics import ListCreateAPIView, get_object_or_404
from rest_framework.mixins import CreateModelMixin, ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from django_idempotency.decorators import idempotent

from ..models import App, Cvm
from ..provisioning import provision
from ..serializers import AppSerializer, CvmSerializer, ReplicaSerializer


def caller_and_endpoint(request: Request) -> tuple[str, ...] | None:
    """The caller and the endpoint."""
    if not request.user.is_authenticated:
        return None
    return (str(request.user.pk), request.method, request.path)


POLICY = {
    "required": False,
    "scope": caller_and_endpoint,
    "retention": timedelta(hours=24),
    "mismatch_status": 422,
    "in_flight_status": 409,
    "not_stored": [409, 429, "5xx"],
}


class LimitReached(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = "The app has as many replicas as it may have. Try again later."
    default_code = "replica_limit"


class Apps(CreateModelMixin, ListModelMixin, GenericViewSet):
    serializer_class = AppSerializer

    def get_queryset(self):
        return App.objects.filter(account=self.request.user).order_by("pk")

    def perform_create(self, serializer) -> None:
        serializer.save(account=self.request.user)

    @action(detail=True, methods=["post"], url_path="cvms/(?P<vm_uuid>[^/]+)/replicas")
    @idempotent(**POLICY)
    def replicas(self, request: Request, pk: str, vm_uuid: str) -> Response:
        wanted = ReplicaSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        with transaction.atomic():
            app = get_object_or_404(self.get_queryset().select_for_update(), pk=pk)
            source = get_object_or_404(app.cvms, uuid=vm_uuid)
            if app.cvms.filter(source__isnull=False).count() >= app.replica_limit:
                raise LimitReached
            replica = wanted.save(app=app, source=source)
            provision(replica)
        return Response(CvmSerializer(replica).data, status=status.HTTP_201_CREATED)

    @replicas.mapping.get
    def list_replicas(self, request: Request, pk: str, vm_uuid: str) -> Response:
        app = get_object_or_404(self.get_queryset(), pk=pk)
        source = get_object_or_404(app.cvms, uuid=vm_uuid)
        return Response(CvmSerializer(source.replicas.order_by("pk"), many=True).data)


@idempotent(**POLICY)
class Cvms(ListCreateAPIView):
    serializer_class = CvmSerializer

    def get_queryset(self):
        return Cvm.objects.filter(app__account=self.request.user).order_by("pk")

    def perform_create(self, serializer) -> None:
        with transaction.atomic():
            provision(serializer.save())
