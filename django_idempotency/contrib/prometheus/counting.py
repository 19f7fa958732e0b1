"""The counters and the histogram, in prometheus-client's default registry.

The values of all labels are bounded: outcomes and codes by this package, methods by the policy,
views by the URLconf.
"""

from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY, Counter
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..series import CODES, guarded_views


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


def begin_at_zero() -> None:
    """Let all series of all guarded views exist, in this process."""
    for view in guarded_views():
        for outcome in view.outcomes:
            REQUESTS.labels(str(outcome), view.method, view.view)
        for code in view.codes:
            ERRORS.labels(str(code), view.view)


def observe(event: Any, **kwargs: Any) -> None:
    """Receive all signals."""
    REQUESTS.labels(str(event.outcome), event.method, event.view).inc()
    if event.status is not None and event.reason in CODES:
        ERRORS.labels(event.reason, event.view).inc()
