"""Payloads of the five contracts, in their spelling."""

from rest_framework import serializers

from .models import App, Cvm, LedgerEntry, Order, Transaction, VirtualMachine


class OrderSerializer(serializers.ModelSerializer):
    class Meta:
        model = Order
        fields = ["id", "item", "quantity", "created_at"]


class MachineSerializer(serializers.ModelSerializer):
    """A machine in contract A's words."""

    class Meta:
        model = VirtualMachine
        fields = ["uuid", "name", "plan", "region", "os_template", "address", "created_at"]


class PublicMachineSerializer(serializers.ModelSerializer):
    """A machine in contract B's words."""

    id = serializers.UUIDField(source="uuid", read_only=True)
    planId = serializers.CharField(source="plan", max_length=50)  # noqa: N815
    regionId = serializers.CharField(source="region", max_length=50)  # noqa: N815
    osTemplateId = serializers.CharField(source="os_template", max_length=50)  # noqa: N815

    class Meta:
        model = VirtualMachine
        fields = ["id", "name", "planId", "regionId", "osTemplateId", "address"]
        read_only_fields = ["address"]


class AdjustmentSerializer(serializers.ModelSerializer):
    class Meta:
        model = LedgerEntry
        fields = ["id", "user_id", "delta", "reason"]


class AppSerializer(serializers.ModelSerializer):
    class Meta:
        model = App
        fields = ["id", "name", "replica_limit"]


class CvmSerializer(serializers.ModelSerializer):
    """Names the resource, so that a caller can find out what its request has made."""

    app_id = serializers.PrimaryKeyRelatedField(source="app", queryset=App.objects.all())
    vm_uuid = serializers.UUIDField(source="uuid", read_only=True)
    replica_of = serializers.UUIDField(source="source.uuid", read_only=True, default=None)

    class Meta:
        model = Cvm
        fields = ["app_id", "vm_uuid", "node_id", "replica_of"]

    def validate_app_id(self, app: App) -> App:
        if app.account != self.context["request"].user:
            raise serializers.ValidationError("There is no such app.")
        return app


class ReplicaSerializer(serializers.ModelSerializer):
    """What the caller may say about a new replica."""

    class Meta:
        model = Cvm
        fields = ["node_id"]


class TransactionSerializer(serializers.ModelSerializer):
    transactionId = serializers.CharField(source="transaction_id", read_only=True)  # noqa: N815
    refno = serializers.CharField(source="reference", max_length=100)

    class Meta:
        model = Transaction
        fields = ["transactionId", "refno", "amount", "currency"]
