"""What a request wants to remember: its claim."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from ..conf import configuration
from ..policy import Fingerprint, Policy
from ..protocol.fingerprint import NO_PAYLOAD, Payload, custom_fingerprint, fingerprint
from ..protocol.record import Claim
from ..protocol.scope import scope_digest
from .body import payload
from .principal import Parts
from .target import target_of


def claim_of(
    request: HttpRequest,
    policy: Policy,
    key: str,
    scope: Parts,
    caller: Any,
    parsed: Callable[[], Payload | None],
) -> Claim:
    """Return the claim of a request under a key.

    :param scope: what identifies the caller
    :param caller: the request that policy's own functions get; in a DRF view, DRF's
    :param parsed: digests what a framework has parsed, if it consumed the body
    :raises BodyTooLarge: if policy does not want such a body kept
    """
    secret = configuration().secret
    return Claim(
        scope=scope_digest(secret, scope),
        key=key,
        fingerprint=_fingerprint(request, policy, caller, parsed),
        method=request.method or "",
        # For people only: short, and free of characters that a column might refuse.
        path=quote(request.path)[:255],
        retention=policy.retention,
        tombstone=policy.tombstone,
        codec=str(policy.codec),
        secret=secret,
    )


def _fingerprint(
    request: HttpRequest, policy: Policy, caller: Any, parsed: Callable[[], Payload | None]
) -> str:
    if not isinstance(policy.fingerprint, Fingerprint):
        return custom_fingerprint(_said(policy.fingerprint(caller)))
    target = target_of(request, policy, caller)
    if policy.fingerprint is Fingerprint.NONE:
        return fingerprint(target, NO_PAYLOAD)
    content = payload(request, policy.selection, policy.max_request_size) or parsed()
    if content is None:
        raise ImproperlyConfigured(
            "The request's body was read before the idempotency guard could digest it. "
            "List IdempotencyMiddleware in MIDDLEWARE, or read request.body, which stays "
            "available, instead of request.read()."
        )
    return fingerprint(target, content)


def _said(text: Any) -> str:
    """An object's default text would be another one for each retry."""
    if not isinstance(text, str):
        raise ImproperlyConfigured(
            f"FINGERPRINT returned an instance of {type(text).__qualname__}. It must return text: "
            "what is equal in two requests that are the same one."
        )
    return text
