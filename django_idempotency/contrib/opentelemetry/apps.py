"""The Django application."""

from django.apps import AppConfig


class OpenTelemetryConfig(AppConfig):
    """Connects the receiver."""

    name = "django_idempotency.contrib.opentelemetry"
    label = "django_idempotency_opentelemetry"
    verbose_name = "Idempotency traces"

    def ready(self) -> None:
        from ...signals import connect
        from .spans import describe

        connect(describe)
