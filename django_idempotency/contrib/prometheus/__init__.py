"""Counts outcomes for Prometheus, with prometheus-client."""

from ...extras import require

require("prometheus_client", "prometheus", "django_idempotency.contrib.prometheus")
