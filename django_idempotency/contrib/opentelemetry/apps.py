"""The Django application. Without an SDK there is no span and no metric, and next to no cost."""

from django.apps import AppConfig


class OpenTelemetryConfig(AppConfig):
    """Describes requests on their spans, and counts outcomes, as soon as it is installed."""

    name = "django_idempotency.contrib.opentelemetry"
    label = "django_idempotency_opentelemetry"
    verbose_name = "Idempotency traces and metrics"

    def ready(self) -> None:
        from ...signals import connect, unprotected
        from ..series import before_first_request
        from .metrics import begin_at_zero, observe, observe_unprotected
        from .spans import describe

        connect(describe)
        connect(observe)
        unprotected.connect(observe_unprotected)
        before_first_request(begin_at_zero)
