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
from ..series import BUCKETS, CODES, sources, views_that_write


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
UNPROTECTED = Counter(
    "django_idempotency_unprotected_requests",
    "Requests whose key nothing looks up: of anonymous callers, or to views without a guard.",
    ["view"],
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
    for source in sources():
        for outcome in source.outcomes:
            REQUESTS.labels(str(outcome), source.method, source.view)
        for code in source.codes:
            ERRORS.labels(str(code), source.view)
    for name, _ in views_that_write():
        UNPROTECTED.labels(name)


def observe(event: Any, **kwargs: Any) -> None:
    """Receive all signals."""
    outcome = str(event.outcome)
    REQUESTS.labels(outcome, event.method, event.view).inc()
    GUARD.labels(outcome).observe(event.guard_duration)
    if event.status is not None and event.reason in CODES:
        ERRORS.labels(event.reason, event.view).inc()


def observe_unprotected(request: Any, **kwargs: Any) -> None:
    """Receive ``unprotected``."""
    match = request.resolver_match
    UNPROTECTED.labels("" if match is None else match.view_name).inc()
