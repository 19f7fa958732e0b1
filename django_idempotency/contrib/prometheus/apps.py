"""The Django application."""

from django.apps import AppConfig


class PrometheusConfig(AppConfig):
    """Connects the receiver."""

    name = "django_idempotency.contrib.prometheus"
    label = "django_idempotency_prometheus"
    verbose_name = "Idempotency metrics"

    def ready(self) -> None:
        from ...signals import connect
        from .metrics import observe

        connect(observe)
