"""What drf-spectacular cannot know of the views. Imported only if it is installed.

Nothing in here is about keys: what policies promise gets into the document by itself.
"""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    extend_schema,
    extend_schema_view,
    inline_serializer,
)
from rest_framework.serializers import IntegerField

from . import serializers
from .views import cvms, economy, public, transactions, vps


class BearerKeyScheme(OpenApiAuthenticationExtension):
    target_class = "cloud.authentication.BearerKey"
    name = "bearerKey"

    def get_security_definition(self, auto_schema):
        return {"type": "http", "scheme": "bearer"}


class HeaderKeyScheme(OpenApiAuthenticationExtension):
    target_class = "cloud.authentication.HeaderKey"
    name = "apiKey"

    def get_security_definition(self, auto_schema):
        return {"type": "apiKey", "in": "header", "name": "x-api-key"}


class MerchantScheme(OpenApiAuthenticationExtension):
    target_class = "cloud.authentication.Merchant"
    name = "merchant"

    def get_security_definition(self, auto_schema):
        return {"type": "http", "scheme": "basic"}


def in_path(name: str, kind: OpenApiTypes) -> OpenApiParameter:
    return OpenApiParameter(name, kind, OpenApiParameter.PATH)


ADJUSTED = inline_serializer(
    "Adjusted", {**serializers.AdjustmentSerializer().get_fields(), "balance": IntegerField()}
)
BOUGHT = inline_serializer(
    "Bought",
    {"order": serializers.OrderSerializer(), "virtual_machine": serializers.MachineSerializer()},
)
ONE_MACHINE = extend_schema(parameters=[in_path("uuid", OpenApiTypes.UUID)])
ONE_PAYMENT = extend_schema(parameters=[in_path("transaction_id", OpenApiTypes.STR)])
REPLICAS = [in_path("id", OpenApiTypes.INT), in_path("vm_uuid", OpenApiTypes.UUID)]

# Handlers of their own.
extend_schema(request=serializers.AdjustmentSerializer, responses={201: ADJUSTED})(economy.adjust)
extend_schema(
    operation_id="api_v1_economy_ledger_list",
    responses=serializers.AdjustmentSerializer(many=True),
)(economy.ledger)
extend_schema(responses={201: BOUGHT})(vps.VirtualMachines.post)
extend_schema(responses={201: serializers.OrderSerializer})(vps.Orders.post)
extend_schema(responses={201: serializers.TransactionSerializer})(transactions.Transactions.post)
extend_schema(
    parameters=[in_path("uuid", OpenApiTypes.UUID)],
    request=None,
    responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
)(public.PublicMachines.backup)
extend_schema(
    parameters=REPLICAS,
    request=serializers.ReplicaSerializer,
    responses={201: serializers.CvmSerializer},
)(cvms.Apps.replicas)
extend_schema(parameters=REPLICAS, responses=serializers.CvmSerializer(many=True))(
    cvms.Apps.list_replicas
)

# Handlers that come from REST framework.
extend_schema_view(update=ONE_MACHINE, partial_update=ONE_MACHINE, destroy=ONE_MACHINE)(
    public.PublicMachines
)
extend_schema_view(get=ONE_PAYMENT, put=ONE_PAYMENT, patch=ONE_PAYMENT)(transactions.OneTransaction)
