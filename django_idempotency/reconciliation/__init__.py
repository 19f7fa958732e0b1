"""The status of an operation: an endpoint for clients, with Django REST framework."""

from ..extras import require

require("rest_framework", "drf", "django_idempotency.reconciliation")

from .operation_status import OperationStatusSerializer, OperationStatusView  # noqa: E402

__all__ = ["OperationStatusSerializer", "OperationStatusView"]
