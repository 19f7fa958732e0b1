"""The metrics, in prometheus-client's default registry.

The values of all labels are bounded: outcomes and reasons by this package, methods by the policy,
views by the URLconf.
"""

from typing import Any

from prometheus_client import Counter, Histogram

from ...signals import Event

REQUESTS = Counter(
    "django_idempotency_requests",
    "Requests with an idempotency key, by outcome.",
    ["outcome", "method", "view", "reason"],
)
DURATION = Histogram(
    "django_idempotency_request_duration_seconds",
    "Time from reading a key to the outcome, including the view if it ran.",
    ["outcome", "method", "view"],
)


def observe(event: Event, **kwargs: Any) -> None:
    """Receive any signal."""
    outcome = str(event.outcome)
    REQUESTS.labels(outcome, event.method, event.view, event.reason).inc()
    DURATION.labels(outcome, event.method, event.view).observe(event.duration)
