"""Receivers of webhooks: each event is handled once, however often its sender delivers it."""

from .receiving import webhook
from .signatures import (
    Event,
    InvalidSignature,
    github_signature,
    shopify_signature,
    slack_signature,
    standard_signature,
    stripe_signature,
)

__all__ = [
    "Event",
    "InvalidSignature",
    "github_signature",
    "shopify_signature",
    "slack_signature",
    "standard_signature",
    "stripe_signature",
    "webhook",
]
