"""The Django application, and its metrics in prometheus-client's default registry.

The values of all labels are bounded: outcomes and reasons by this package, methods by the policy,
views by the URLconf.
"""

from typing import Any

from django.apps import AppConfig
from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "django_idempotency_requests",
    "Requests with an idempotency key, by how they ended.",
    ["outcome", "method", "view", "reason"],
)
DURATION = Histogram(
    "django_idempotency_request_duration_seconds",
    "Time from the first look at a key to the outcome, with the view if it ran.",
    ["outcome", "method", "view"],
)


class PrometheusConfig(AppConfig):
    """Counts outcomes as soon as it is installed."""

    name = "django_idempotency.contrib.prometheus"
    label = "django_idempotency_prometheus"
    verbose_name = "Idempotency metrics"

    def ready(self) -> None:
        from ...signals import connect

        connect(observe)


def observe(event: Any, **kwargs: Any) -> None:
    """Receive all signals."""
    outcome = str(event.outcome)
    REQUESTS.labels(outcome, event.method, event.view, event.reason).inc()
    DURATION.labels(outcome, event.method, event.view).observe(event.duration)
