"""The Django application."""

from django.apps import AppConfig


class PrometheusConfig(AppConfig):
    """Counts outcomes as soon as it is installed."""

    name = "django_idempotency.contrib.prometheus"
    label = "django_idempotency_prometheus"
    verbose_name = "Idempotency metrics"

    def ready(self) -> None:
        from ...signals import connect, unprotected
        from ..series import before_first_request
        from . import exporting  # noqa: F401  (registers the gauges)
        from .counting import begin_at_zero, observe, observe_unprotected

        connect(observe)
        unprotected.connect(observe_unprotected)
        before_first_request(begin_at_zero)
