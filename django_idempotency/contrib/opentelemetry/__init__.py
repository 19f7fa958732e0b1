"""Puts outcomes onto the current OpenTelemetry span."""
