"""Counter, histogram and gauges, by OpenTelemetry's semantic conventions.

Attributes that these define have their names (``http.request.method``, ``http.route``,
``error.type``); others begin with ``idempotency.``
(https://opentelemetry.io/docs/specs/semconv/general/metrics/). The values of all are bounded.

The instruments wait for a meter provider, which a process may set after it has loaded its apps.
"""

from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from ...functions.run import METHOD
from ...protocol.problems import Code
from ...signals import Outcome
from ..figures import MEANINGS, figures
from ..series import BUCKETS, CODES, sources, views_that_write

OUTCOME = "idempotency.outcome"
NAMES = {
    "records": ("idempotency.records", "{record}"),
    "unknown_outcomes": ("idempotency.unknown_outcomes", "{operation}"),
    "expired_records": ("idempotency.expired_records", "{record}"),
    "purge_lag_seconds": ("idempotency.purge.lag", "s"),
    "effects": ("idempotency.effects", "{effect}"),
    "effects_lag_seconds": ("idempotency.effects.lag", "s"),
    "cache_up": ("idempotency.cache.up", "1"),
    "collector_up": ("idempotency.collector.up", "1"),
}
"""Names and units of the figures."""

_meter = metrics.get_meter("django_idempotency")
REQUESTS = _meter.create_counter(
    "idempotency.requests", "{request}", "Requests with an idempotency key, by how they ended."
)
UNPROTECTED = _meter.create_counter(
    "idempotency.unprotected_requests",
    "{request}",
    "Requests whose key nothing looks up: of anonymous callers, or to views without a guard.",
)
GUARD = _meter.create_histogram(
    "idempotency.guard.duration",
    "s",
    "Time that the guard has added to a request.",
    explicit_bucket_boundaries_advisory=BUCKETS,
)


def _gauge(name: str) -> Callable[[CallbackOptions], Iterator[Observation]]:
    """Return what reads one figure. All read the same ones, which are kept for some seconds."""

    def read(options: CallbackOptions) -> Iterator[Observation]:
        for figure in figures.current():
            if figure.name == name:
                named = {f"idempotency.{label}": text for label, text in figure.labels.items()}
                yield Observation(figure.value, named)

    return read


# They are gauges, not counters that go up and down: processes that see the same table say the same
# number, and it must not be added up.
GAUGES = [
    _meter.create_observable_gauge(name, [_gauge(figure)], unit, MEANINGS[figure])
    for figure, (name, unit) in NAMES.items()
]


def begin_at_zero() -> None:
    """Let all series of all guarded views exist, in this process."""
    for source in sources():
        for outcome in source.outcomes:
            for code in _codes(outcome, source.codes):
                REQUESTS.add(0, _attributes(outcome, source, code))
    for _, route in views_that_write():
        UNPROTECTED.add(0, {"http.route": route})


def _codes(outcome: Outcome, possible: tuple[Code, ...]) -> list[str]:
    """Return which codes go with an outcome; an empty one stands for none."""
    of_its_own = {Outcome.CONFLICT: Code.IN_FLIGHT, Outcome.MISMATCH: Code.KEY_REUSED}
    if possible and outcome is Outcome.REFUSED:
        return [str(code) for code in possible if code not in of_its_own.values()]
    return [str(of_its_own.get(outcome, "")) if possible else ""]


def observe(event: Any, **kwargs: Any) -> None:
    """Receive all signals."""
    is_error = event.status is not None and event.reason in CODES
    REQUESTS.add(1, _attributes(event.outcome, event, event.reason if is_error else ""))
    GUARD.record(event.guard_duration, {OUTCOME: str(event.outcome)})


def observe_unprotected(request: Any, **kwargs: Any) -> None:
    """Receive ``unprotected``."""
    match = request.resolver_match
    UNPROTECTED.add(1, {"http.route": "" if match is None else match.route})


def _attributes(outcome: Outcome, of: Any, code: str) -> dict[str, str]:
    """Return the attributes of one series.

    :param of: an event, or a source
    """
    if of.method == METHOD:
        where = {"code.function.name": of.view}
    else:
        where = {"http.request.method": of.method, "http.route": of.route}
    return where | {OUTCOME: str(outcome)} | ({"error.type": code} if code else {})
