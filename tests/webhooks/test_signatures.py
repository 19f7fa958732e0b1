"""Signatures of webhooks: those that senders make are right, and no others."""

import sys
from base64 import b64encode
from datetime import timedelta
from hmac import digest
from time import time
from typing import Any

import pytest
import stripe
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook, WebhookVerificationError

from django_idempotency.webhooks import (
    Event,
    InvalidSignature,
    github_signature,
    slack_signature,
    standard_signature,
    stripe_signature,
)
from tests.support.senders import SECRET, SENDERS, STANDARD, Headers, Sender

pytestmark = pytest.mark.once

OTHER = "whsec_" + b64encode(b"another secret of the sender").decode()
each_sender = pytest.mark.parametrize("sender", SENDERS, ids=str)
with_time = pytest.mark.parametrize("sender", [s for s in SENDERS if s.has_time], ids=str)


def request_of(body: str | bytes, headers: Headers, kind: str = "application/json") -> HttpRequest:
    return RequestFactory().post("/hook/", body, content_type=kind, headers=headers)


def verified(sender: Sender, body: str, headers: Headers, *secrets: str, **options: Any) -> Any:
    verify = sender.verify(lambda: list(secrets or (sender.secret,)), **options)
    return verify(request_of(body, headers))


def status_of(sender: Sender, body: str, headers: Headers, *secrets: str) -> int:
    with pytest.raises(InvalidSignature) as caught:
        verified(sender, body, headers, *secrets)
    assert sender.secret not in caught.value.reason
    return caught.value.status


@each_sender
class TestEverySender:
    def test_what_it_signs_is_an_event(self, sender: Sender) -> None:
        event = verified(sender, *sender.delivery("evt_7", data={"amount": 3}))
        assert (event.id, event["id"], event.data.amount) == ("evt_7", "evt_7", 3)
        assert not hasattr(event, "nothing")

    def test_another_body_or_secret_is_refused(self, sender: Sender) -> None:
        body, headers = sender.delivery()
        assert status_of(sender, body + " ", headers) == 401
        assert status_of(sender, body, headers, OTHER) == 401

    def test_a_missing_signature_is_refused(self, sender: Sender) -> None:
        body, headers = sender.delivery()
        for name in headers:
            if name.startswith("x-") and name not in {sender.header, "x-slack-request-timestamp"}:
                continue  # the id, which is not signed
            without = {each: value for each, value in headers.items() if each != name}
            assert status_of(sender, body, without) == 401
        assert status_of(sender, body, {}) == 401

    @pytest.mark.parametrize(
        "value",
        [
            *("", "v1", "v1=", "t=,v1=", "v1,", "v1,é", "sha256=", "sha256=é", "v0=é", ",,,"),
            *("=" * 9000, "t=1,v1=é", "t=é,v1=a", "t=-1,v1=a", "v1,%%% v1,", "\x80\xff"),
        ],
    )
    def test_what_nobody_can_read_is_refused(self, sender: Sender, value: str) -> None:
        """Whatever a stranger sends is a refusal, not an error of the server."""
        body, headers = sender.delivery()
        assert status_of(sender, body, {**headers, sender.header: value}) in {400, 401}

    def test_a_body_that_is_signed_and_no_json(self, sender: Sender) -> None:
        for body in ("{", "", "é", "[" * 100_000):
            headers = sender.sign(body, sender.secret, time(), "evt_1")
            assert status_of(sender, body, headers) == 400

    def test_a_body_of_any_bytes_is_refused(self, sender: Sender) -> None:
        _, headers = sender.delivery()
        with pytest.raises(InvalidSignature):
            sender.verify(lambda: sender.secret)(request_of(b"\xff\x00", headers))

    def test_secrets_can_be_replaced(self, sender: Sender) -> None:
        """Both are right for a while, in either order."""
        for secrets in ((sender.secret, OTHER), (OTHER, sender.secret)):
            for used in secrets:
                assert verified(sender, *sender.delivery(secret=used), *secrets)
        assert status_of(sender, *sender.delivery(), OTHER) == 401

    def test_a_setting_is_read_live(self, sender: Sender, settings: Any) -> None:
        verify = sender.verify("HOOK_SECRET")
        settings.HOOK_SECRET = sender.secret
        assert verify(request_of(*sender.delivery()))
        settings.HOOK_SECRET = [OTHER]
        with pytest.raises(InvalidSignature):
            verify(request_of(*sender.delivery()))

    @pytest.mark.parametrize("secrets", ["", " ", [], [""], None, [STANDARD, ""], [b"k"]], ids=str)
    def test_no_secret_is_an_error(self, sender: Sender, secrets: Any) -> None:
        """An empty secret would let anybody sign."""
        body, headers = sender.delivery()
        with pytest.raises(ImproperlyConfigured, match="has no secret"):
            sender.verify(lambda: secrets)(request_of(body, headers))

    def test_a_secret_in_place_of_a_name_is_not_shown(self, sender: Sender) -> None:
        with pytest.raises(ImproperlyConfigured) as caught:
            sender.verify("whsec_oops")(request_of(*sender.delivery()))
        assert "oops" not in str(caught.value)


@with_time
class TestTime:
    def test_old_and_future_signatures_are_refused(self, sender: Sender) -> None:
        for seconds in (-301, 301 + 5):
            assert status_of(sender, *sender.delivery(at=time() + seconds)) == 401
        for seconds in (-290, 290):
            assert verified(sender, *sender.delivery(at=time() + seconds))

    def test_the_tolerance_is_the_projects(self, sender: Sender) -> None:
        old = sender.delivery(at=time() - 3000)
        assert verified(sender, *old, tolerance=timedelta(hours=1))

    def test_a_time_that_is_none(self, sender: Sender) -> None:
        """It is signed, so only a sender with an error of its own gets here."""
        body, headers = sender.delivery(at=0)
        assert status_of(sender, body, headers) == 401


def test_githubs_own_example() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = request_of("Hello, World!", {"x-hub-signature-256": f"sha256={digest}"})
    with pytest.raises(InvalidSignature, match="not JSON"):  # so the signature is right
        github_signature(lambda: "It's a Secret to Everybody")(request)


def test_forms() -> None:
    """GitHub's and Slack's JSON in a field, and Slack's commands."""
    kind = "application/x-www-form-urlencoded"
    verify = slack_signature(lambda: SECRET)
    for body, found in (("payload=%7B%22id%22%3A7%7D", {"id": 7}), ("text=a&user=b", None)):
        headers = SENDERS[-1].sign(body, SECRET, time(), "")
        event = verify(request_of(body, headers, kind))
        assert isinstance(event, Event)
        assert event == (found or {"text": "a", "user": "b"})


@pytest.mark.parametrize(
    "secret", ["whsec_a", "whsec_", "whsec_ ", "====", "whsec_!!!!", "é", "a-b_"]
)
def test_a_secret_that_is_no_base64(secret: str, settings: Any) -> None:
    """What is left of it would be a key that anybody has: an empty one."""
    settings.HOOK_SECRET = secret
    body, headers = SENDERS[0].delivery()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    headers["webhook-signature"] = f"v1,{b64encode(digest(b'', signed, 'sha256')).decode()}"
    with pytest.raises(ImproperlyConfigured, match="is base64") as caught:
        standard_signature("HOOK_SECRET")(request_of(body, headers))
    assert secret not in str(caught.value)


@each_sender
def test_no_text_of_an_event_becomes_another_event(sender: Sender) -> None:
    """The media type is not signed: whoever has got hold of a delivery may change it."""
    body, headers = sender.delivery("evt_7", title='&payload={"id": "evt_666"}&')
    kind = "application/x-www-form-urlencoded"
    event = sender.verify(lambda: sender.secret)(request_of(body, headers, kind))
    assert event["id"] == "evt_7"


def test_a_secret_as_it_is_in_a_file(settings: Any) -> None:
    """With a line's end, and without what fills up the last four letters."""
    for secret in (f"{STANDARD}\n", STANDARD.rstrip("="), STANDARD.removeprefix("whsec_")):
        settings.HOOK_SECRET = secret
        assert standard_signature("HOOK_SECRET")(request_of(*SENDERS[0].delivery()))


@each_sender
def test_reports_of_errors_show_no_secret(sender: Sender, settings: Any) -> None:
    """One of several is missing, and Django mails what its frames hold."""
    settings.HOOK_SECRET = [sender.secret, ""]
    request = request_of(*sender.delivery())
    with pytest.raises(ImproperlyConfigured) as caught:
        sender.verify("HOOK_SECRET")(request)
    report = ExceptionReporter(request, caught.type, caught.value, caught.tb)
    frames = report.get_traceback_frames()
    shown = [each for frame in frames for each in frame["vars"] if frame["function"] == "_secrets"]
    assert shown
    assert not any(sender.secret in value for _, value in shown)


class TestLikeTheirOwnPackages:
    """The senders' packages accept and refuse the same."""

    CHANGES = [{}, {"body": "{}"}, {"at": -400}, {"at": 400}, {"at": -200}, {"secret": OTHER}]

    @pytest.mark.parametrize("change", CHANGES, ids=str)
    def test_they_agree(self, change: dict[str, Any]) -> None:
        for sender in SENDERS:
            if not sender.has_time:
                continue
            at = time() + change.get("at", 0)
            secret = change.get("secret", sender.secret)
            body, headers = sender.delivery(secret=secret, at=at)
            body = change.get("body", body)
            try:
                verified(sender, body, headers)
            except InvalidSignature:
                is_ours = False
            else:
                is_ours = True
            if sender.name == "stripe" and change.get("at") == 400:
                continue  # its package takes a time in the future; we do not
            assert is_ours == self.accepts(sender, body, headers), sender

    def accepts(self, sender: Sender, body: str, headers: Headers) -> bool:
        try:
            match sender.name:
                case "standard":
                    Webhook(STANDARD).verify(body, headers)
                case "stripe":
                    stripe.Webhook.construct_event(body, headers["stripe-signature"], SECRET)
                case _:
                    return SignatureVerifier(SECRET).is_valid_request(body, headers)
        except (WebhookVerificationError, stripe.SignatureVerificationError):
            return False
        return True


class TestStripesEvents:
    STRIPE = SENDERS[1]

    def test_the_event_is_of_its_package(self) -> None:
        event = verified(self.STRIPE, *self.STRIPE.delivery(data={"object": {"id": "in_1"}}))
        assert isinstance(event, stripe.Event)
        assert event.data.object.id == "in_1"

    def test_a_thin_event_is_plain(self) -> None:
        event = verified(self.STRIPE, *self.STRIPE.delivery(object="v2.core.event"))
        assert (type(event), event.id) == (Event, "evt_1")

    def test_without_its_package_it_is_plain(self, monkeypatch: Any) -> None:
        monkeypatch.setitem(sys.modules, "stripe", None)
        event = stripe_signature(lambda: SECRET)(request_of(*self.STRIPE.delivery()))
        assert (type(event), event.id) == (Event, "evt_1")
