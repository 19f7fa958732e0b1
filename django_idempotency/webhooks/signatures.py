"""Signatures of webhooks: who sent a delivery, and when.

Each function returns one for ``@webhook(verify=...)``: given a request, it returns the event, or
raises :class:`InvalidSignature`. It compares in constant time, and tries each secret, so that one
can be replaced by another without losing a delivery.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from datetime import timedelta
from hmac import compare_digest, digest
from time import time
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, QueryDict
from django.views.decorators.debug import sensitive_variables

Verify = Callable[[HttpRequest], Any]
"""Returns the event of a request, or raises :class:`InvalidSignature`."""

Secrets = str | Callable[[], str | Iterable[str]]
"""The name of a setting, or a function. Either gives one secret, or several during a rotation."""

TOLERANCE = timedelta(minutes=5)
"""How old a signature may be, and how far ahead the sender's clock: what the senders recommend."""

UNAUTHORIZED, BAD_REQUEST = 401, 400

SECRETS = "_idempotency_secrets"
"""Attribute of a function that verifies: where its secrets are, and what makes a key of one."""


class InvalidSignature(Exception):
    """A delivery is not from the sender, or not what the sender signs.

    :param reason: what is wrong, for the log and for the sender: no secret, no signature
    :param status: of the answer: 401, or 400 for what cannot be read
    """

    def __init__(self, reason: str, status: int = UNAUTHORIZED) -> None:
        self.reason = reason
        self.status = status
        super().__init__(reason)


class Event(dict[str, Any]):
    """A JSON object whose members are attributes, too: ``event.id`` is ``event["id"]``.

    A member with the name of a method of ``dict`` is found by ``event["items"]`` only.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The event has no member {name!r}.") from None


def standard_signature(secrets: Secrets, tolerance: timedelta = TOLERANCE) -> Verify:
    """Return the check of the Standard Webhooks specification (Svix and many others).

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

    :param secrets: base64, with or without the prefix ``whsec_``
    """

    def verify(request: HttpRequest) -> Any:
        sent = _header(request, "webhook-signature")
        message, moment = _header(request, "webhook-id"), _header(request, "webhook-timestamp")
        signed = f"{message}.{moment}.".encode("utf-8", "surrogateescape") + request.body
        candidates = [each.removeprefix("v1,") for each in sent.split(" ") if each[:3] == "v1,"]
        _check(candidates, (_base64(_decoded(each), signed) for each in _secrets(secrets)))
        _check_time(moment, tolerance)
        return _event(request)

    return _with_secrets(verify, secrets, _decoded)


def stripe_signature(secrets: Secrets, tolerance: timedelta = TOLERANCE) -> Verify:
    """Return the check of Stripe's signatures. The event is a ``stripe.Event`` if that package is
    installed; a thin event is an :class:`Event` in any case.

    https://docs.stripe.com/webhooks#verify-manually
    """

    def verify(request: HttpRequest) -> Any:
        pairs = [each.partition("=") for each in _header(request, "stripe-signature").split(",")]
        moment = next((value for name, _, value in pairs if name.strip() == "t"), "")
        signed = f"{moment}.".encode("utf-8", "surrogateescape") + request.body
        candidates = [value for name, _, value in pairs if name.strip() == "v1"]
        _check(candidates, (_hex(each.encode(), signed) for each in _secrets(secrets)))
        _check_time(moment, tolerance)
        event = _event(request)
        is_thin = not isinstance(event, Event) or event.get("object") != "event"
        return event if is_thin else _stripe_event(event)

    return _with_secrets(verify, secrets)


def github_signature(secrets: Secrets) -> Verify:
    """Return the check of GitHub's signatures. They have no time.

    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """

    def verify(request: HttpRequest) -> Any:
        sent = _header(request, "x-hub-signature-256")
        body = request.body
        _check([sent], (f"sha256={_hex(each.encode(), body)}" for each in _secrets(secrets)))
        return _event(request)

    return _with_secrets(verify, secrets)


def shopify_signature(secrets: Secrets) -> Verify:
    """Return the check of Shopify's signatures. They have no time.

    https://shopify.dev/docs/apps/build/webhooks/subscribe/https#step-2-validate-the-origin-of-your-webhook
    """

    def verify(request: HttpRequest) -> Any:
        sent = _header(request, "x-shopify-hmac-sha256")
        body = request.body
        _check([sent], (_base64(each.encode(), body) for each in _secrets(secrets)))
        return _event(request)

    return _with_secrets(verify, secrets)


def slack_signature(secrets: Secrets, tolerance: timedelta = TOLERANCE) -> Verify:
    """Return the check of Slack's signatures.

    https://docs.slack.dev/authentication/verifying-requests-from-slack
    """

    def verify(request: HttpRequest) -> Any:
        sent = _header(request, "x-slack-signature")
        moment = _header(request, "x-slack-request-timestamp")
        signed = f"v0:{moment}:".encode("utf-8", "surrogateescape") + request.body
        _check([sent], (f"v0={_hex(each.encode(), signed)}" for each in _secrets(secrets)))
        _check_time(moment, tolerance)
        return _event(request)

    return _with_secrets(verify, secrets)


def lacks_secret(verify: Verify) -> bool:
    """Whether the setting that a signature function was given is missing or has no secret. What a
    function gives is not asked for."""
    given, key_of = getattr(verify, SECRETS, (None, str.encode))
    try:
        return isinstance(given, str) and not all(map(key_of, _secrets(given)))
    except ImproperlyConfigured:
        return True


def _with_secrets(
    verify: Verify, secrets: Secrets, key_of: Callable[[str], bytes] = str.encode
) -> Verify:
    setattr(verify, SECRETS, (secrets, key_of))
    return verify


def _stripe_event(event: Event) -> Any:
    try:
        from stripe import Event as StripeEvent  # takes long, and only receivers need it
    except ImportError:
        return event
    return StripeEvent.construct_from(event, None)


def _header(request: HttpRequest, name: str) -> str:
    value = request.headers.get(name, "")
    if not value:
        raise InvalidSignature(f"The header {name} is missing.")
    return value


@sensitive_variables()
def _secrets(given: Secrets) -> list[str]:
    """Return the secrets, as they are now.

    :raises ImproperlyConfigured: if there is none; an empty one would let anybody sign
    """
    found = given() if callable(given) else getattr(settings, given, "")
    several = [found] if isinstance(found, str) else list(found or ())
    if not several or not all(isinstance(each, str) and each.strip() for each in several):
        # Not the name: it may be the secret itself.
        raise ImproperlyConfigured(
            "A webhook has no secret. Give its signature function the name of a setting, or a "
            "function; either must give one non-empty text, or a list of them."
        )
    return several


@sensitive_variables()
def _decoded(secret: str) -> bytes:
    """:raises ImproperlyConfigured: unless it is base64 of something: anybody could sign"""
    text = secret.strip().removeprefix("whsec_").rstrip("=")
    try:
        key = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:  # also for letters that are not ASCII
        key = b""
    if not key:
        raise ImproperlyConfigured(
            "A secret of Standard Webhooks is base64, as the sender shows it."
        ) from None
    return key


def _hex(key: bytes, signed: bytes) -> str:
    return digest(key, signed, "sha256").hex()


def _base64(key: bytes, signed: bytes) -> str:
    return b64encode(digest(key, signed, "sha256")).decode()


@sensitive_variables()
def _check(sent: list[str], expected: Iterable[str]) -> None:
    """:raises InvalidSignature: if none of the signatures is one that a secret makes"""
    wanted = [each.encode() for each in expected]
    found = [each.encode("utf-8", "surrogateescape") for each in sent]
    # All of them: how long it takes says nothing about which one is right.
    right = [compare_digest(each, own) for each in found for own in wanted]
    if not any(right):
        raise InvalidSignature("The signature does not match the body and the secret.")


def _check_time(moment: str, tolerance: timedelta) -> None:
    """:raises InvalidSignature: if the time, which is signed, is not now"""
    if not moment.isdecimal() or not moment.isascii() or len(moment) > 20:
        raise InvalidSignature("The time of the signature is not a number.", BAD_REQUEST)
    if abs(time() - int(moment)) > tolerance.total_seconds():
        raise InvalidSignature("The signature is too old, or a clock is wrong.")


def _event(request: HttpRequest) -> Any:
    """Return what the body says: JSON, or a form with JSON in its field ``payload``.

    The media type is not signed, so it does not decide: a stranger who has got hold of a delivery
    could have its JSON read as a form, with a field that a text in the event holds.
    """
    try:
        return _loaded(request.body)
    except InvalidSignature:
        if request.content_type != "application/x-www-form-urlencoded":
            raise
    form = QueryDict(request.body, encoding="utf-8")
    return _loaded(form["payload"]) if "payload" in form else Event(form.dict())


def _loaded(text: bytes | str) -> Any:
    try:
        return json.loads(text, object_hook=Event)
    except (ValueError, RecursionError):
        raise InvalidSignature("The body is not JSON.", BAD_REQUEST) from None
