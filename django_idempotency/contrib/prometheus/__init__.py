"""Counts outcomes for Prometheus, with prometheus-client."""
