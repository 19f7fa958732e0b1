"""The counters and the histogram, in prometheus-client's default registry.

The values of all labels are bounded: outcomes and codes by this package, methods by the policy,
views by the URLconf.
"""

from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ...signals import Outcome
from ..series import BUCKETS, CODES, guarded_views


class Zeros(Collector):
    """Has no metrics: lets the series of those that are registered after it exist."""

    def collect(self) -> Iterator[Metric]:
        begin_at_zero()
        return iter(())

    def describe(self) -> Iterator[Metric]:
        return iter(())


REGISTRY.register(Zeros())

REQUESTS = Counter(
    "django_idempotency_requests",
    "Requests with an idempotency key, by how they ended.",
    ["outcome", "method", "view"],
)
ERRORS = Counter(
    "django_idempotency_error_answers",
    "Error answers to requests with an idempotency key, and to those that lack one.",
    ["code", "view"],
)
GUARD = Histogram(
    "django_idempotency_guard_duration_seconds",
    "Time that the guard has added to a request.",
    ["outcome"],
    buckets=BUCKETS,
)


def begin_at_zero() -> None:
    """Let all series of all guarded views exist, in this process."""
    for outcome in Outcome:
        GUARD.labels(str(outcome))
    for view in guarded_views():
        for outcome in view.outcomes:
            REQUESTS.labels(str(outcome), view.method, view.view)
        for code in view.codes:
            ERRORS.labels(str(code), view.view)


def observe(event: Any, **kwargs: Any) -> None:
    """Receive all signals."""
    outcome = str(event.outcome)
    REQUESTS.labels(outcome, event.method, event.view).inc()
    GUARD.labels(outcome).observe(event.guard_duration)
    if event.status is not None and event.reason in CODES:
        ERRORS.labels(event.reason, event.view).inc()
