"""For ``include()``: ``idempotency-keys/{key}``."""

from django.urls import path, register_converter

from .views import OperationStatusView


class KeyConverter:
    """Anything: the view says what is wrong with it, as it would of the header."""

    regex = r"[\s\S]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(KeyConverter, "idempotency_key")

urlpatterns = [
    path(
        "idempotency-keys/<idempotency_key:key>",
        OperationStatusView.as_view(),
        name="idempotency-key",
    ),
]
