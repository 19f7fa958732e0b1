"""For ``include()``: ``idempotency-keys/{key}``."""

from django.urls import path

from .operation_status import OperationStatusView

urlpatterns = [
    # A key may hold slashes.
    path("idempotency-keys/<path:key>", OperationStatusView.as_view(), name="idempotency-key")
]
