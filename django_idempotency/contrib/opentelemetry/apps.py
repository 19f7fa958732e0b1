"""The Django application. Without an SDK there is no span, and no cost."""

from typing import Any

from django.apps import AppConfig
from opentelemetry import trace


class OpenTelemetryConfig(AppConfig):
    """Describes requests on their spans as soon as it is installed."""

    name = "django_idempotency.contrib.opentelemetry"
    label = "django_idempotency_opentelemetry"
    verbose_name = "Idempotency traces"

    def ready(self) -> None:
        from ...signals import connect

        connect(describe)


def describe(event: Any, **kwargs: Any) -> None:
    """Receive all signals: set attributes of the current span, and add an event to it."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    facts: dict[str, str | int] = {
        "idempotency.outcome": str(event.outcome),
        "idempotency.attempt": event.attempt,
    }
    if event.reason:
        facts["idempotency.reason"] = event.reason
    if event.key_digest:
        facts["idempotency.key_digest"] = event.key_digest
    span.set_attributes(facts)
    span.add_event(f"idempotency.{event.outcome}", facts)
