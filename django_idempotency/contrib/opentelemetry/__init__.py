"""Adds outcomes to the current OpenTelemetry span."""

from ...extras import require

require("opentelemetry", "opentelemetry", "django_idempotency.contrib.opentelemetry")
