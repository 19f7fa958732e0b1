"""Attributes and events of a request's span. Without an SDK there is no span, and no cost."""

from typing import Any

from opentelemetry import trace

from ...signals import Event


def describe(event: Event, **kwargs: Any) -> None:
    """Receive any signal: set attributes of the current span, and add an event."""
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
