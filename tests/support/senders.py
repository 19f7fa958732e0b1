"""Senders of webhooks: how they sign deliveries, by their own packages where there are any."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import digest
from time import time
from typing import Any

from django.http import HttpRequest
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook
from stripe import WebhookSignature

from django_idempotency.webhooks import (
    github_signature,
    shopify_signature,
    slack_signature,
    standard_signature,
    stripe_signature,
)

Headers = dict[str, str]

STANDARD = "whsec_" + b64encode(b"the first secret of a sender").decode()
SECRET = "a secret of a sender"
"""Not one of ours: tests use it as if a sender had made it."""


def standard(body: str, secret: str, at: float, event: str) -> Headers:
    moment = datetime.fromtimestamp(int(at), tz=UTC)
    signature = Webhook(secret).sign(event, moment, body)
    return {
        "webhook-id": event,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": f"v1a,other {signature}",
    }


def stripe(body: str, secret: str, at: float, event: str) -> Headers:
    made = WebhookSignature.generate_signature_header(body, secret, int(at))
    return {"stripe-signature": made + ",v0=old"}


def github(body: str, secret: str, at: float, event: str) -> Headers:
    made = digest(secret.encode(), body.encode(), "sha256").hex()
    return {"x-hub-signature-256": f"sha256={made}", "x-github-delivery": event}


def shopify(body: str, secret: str, at: float, event: str) -> Headers:
    made = b64encode(digest(secret.encode(), body.encode(), "sha256")).decode()
    return {"x-shopify-hmac-sha256": made, "x-shopify-webhook-id": event}


def slack(body: str, secret: str, at: float, event: str) -> Headers:
    moment = str(int(at))
    made = SignatureVerifier(secret).generate_signature(timestamp=moment, body=body)
    return {"x-slack-request-timestamp": moment, "x-slack-signature": str(made)}


@dataclass(frozen=True)
class Sender:
    """One kind of signature.

    :ivar sign: returns the header fields of a delivery: its body, secret, time, and the event's id
    :ivar header: of those that it sends, the one with the signature
    :ivar key: the arguments of ``@webhook`` that say where the event's id is
    """

    name: str
    sign: Callable[[str, str, float, str], Headers]
    verify: Callable[..., Callable[[HttpRequest], Any]]
    header: str
    key: dict[str, Any]
    secret: str = SECRET
    has_time: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def setting(self) -> str:
        return f"{self.name.upper()}_SECRETS"

    def delivery(
        self, event: str = "evt_1", /, secret: str = "", at: float | None = None, **content: Any
    ) -> tuple[str, Headers]:
        """Return the body of an event, and the header fields."""
        document = {"id": event, "event_id": event, "object": "event", "type": "paid", **content}
        body = json.dumps(document)
        return body, self.sign(body, secret or self.secret, time() if at is None else at, event)


def by_id(event: Any) -> Any:
    return event.id


SENDERS = [
    Sender(
        "standard",
        standard,
        standard_signature,
        "webhook-signature",
        {"key_header": "webhook-id"},
        STANDARD,
    ),
    Sender("stripe", stripe, stripe_signature, "stripe-signature", {"key": by_id}),
    Sender(
        "github",
        github,
        github_signature,
        "x-hub-signature-256",
        {"key_header": "X-GitHub-Delivery"},
        has_time=False,
    ),
    Sender(
        "shopify",
        shopify,
        shopify_signature,
        "x-shopify-hmac-sha256",
        {"key_header": "X-Shopify-Webhook-Id"},
        has_time=False,
    ),
    Sender(
        "slack",
        slack,
        slack_signature,
        "x-slack-signature",
        {"key": lambda event: event["event_id"]},
    ),
]
