"""Outcomes on the current span, which an instrumentation of Django or of the server has made."""

from typing import Any

from opentelemetry import trace

FACTS = ("reason", "cause", "key_digest", "scope_digest")
"""Fields of an event that are attributes unless they are empty."""


def describe(event: Any, **kwargs: Any) -> None:
    """Receive all signals: set attributes of the current span, and add an event to it."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    attributes: dict[str, str | int | float] = {
        "idempotency.outcome": str(event.outcome),
        "idempotency.attempt": event.attempt,
        "idempotency.guard.duration": event.guard_duration,
    }
    for name in FACTS:
        if value := getattr(event, name):
            attributes[f"idempotency.{name}"] = value
    span.set_attributes(attributes)
    span.add_event(f"idempotency.{event.outcome}", attributes)
