"""Receivers of webhooks against strangers, and against senders and projects that make mistakes."""

import json
import logging
from datetime import timedelta
from time import time
from typing import Any

import pytest
from django.db.models import F
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client
from django.urls import path, re_path

from django_idempotency.models import IdempotencyRecord
from django_idempotency.webhooks import receiving, webhook
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.senders import SENDERS

pytestmark = pytest.mark.django_db(transaction=True)

GITHUB, STRIPE = SENDERS[2], SENDERS[1]
signed: dict[str, Any] = {"verify": GITHUB.verify("GITHUB_SECRETS"), **GITHUB.key}


def handle(event: Any) -> HttpResponse:
    Order.objects.create(item=str(event))
    return HttpResponse("handled")


@webhook("attacked", **signed)
def hook(request: Any, event: Any, *args: Any, **kwargs: Any) -> HttpResponse:
    return handle(event)


@webhook("attacked by Stripe", verify=STRIPE.verify("STRIPE_SECRETS"), **STRIPE.key)
def by_member(request: Any, event: Any) -> HttpResponse:
    return handle(event)


@webhook("streams", **signed)
def streams(request: Any, event: Any) -> StreamingHttpResponse:
    handle(event)
    return StreamingHttpResponse([b"handled"], status=202)


@webhook("large", max_response_size=5, **signed)
def large(request: Any, event: Any) -> HttpResponse:
    return handle(event)


urlpatterns = [
    path("hook/", hook),
    path("by-member/", by_member),
    path("streams/", streams),
    path("large/", large),
    re_path(r"^unnamed/(\d+)/$", hook),
    path("given/", hook, {"tenant": "a"}),
    path("row/", hook, {"tenant": Order(pk=7, item="may change")}),
    path("object/", hook, {"tenant": object()}),
    path("function/", hook, {"tenant": handle}),
]


@pytest.fixture(autouse=True)
def _project(settings: Any, monkeypatch: Any) -> None:
    settings.ROOT_URLCONF = __name__
    for sender in SENDERS:
        setattr(settings, sender.setting, [sender.secret])
    monkeypatch.setattr(receiving, "_receivers", dict(receiving._receivers))


def post(where: str, body: str, headers: dict[str, str]) -> Any:
    client = Client(raise_request_exception=False)
    return client.post(where, body, content_type="application/json", headers=headers)


def deliver(where: str = "/hook/", event: str = "evt_1") -> Any:
    return post(where, *GITHUB.delivery(event))


@pytest.mark.once
@pytest.mark.parametrize(
    "option",
    [{"recheck": "authentication"}, {"methods": ["PUT"]}, {"header": "X"}, {"key_from": len}],
)
def test_no_option_gets_round_the_signature(option: dict[str, Any]) -> None:
    """I5: the middleware would replay before the view, which verifies, is called."""
    with pytest.raises(TypeError, match=f"does not take the option {next(iter(option))}"):
        webhook("new", **signed, **option)


def test_no_setting_gets_round_the_signature(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY = {"POLICIES": {"": {"RECHECK": "authentication", "HEADER": "X-Id"}}}
    assert deliver().content == b"handled"
    body, headers = GITHUB.delivery()
    del headers[GITHUB.header]
    forged = post("/hook/", body, headers | {"x-id": "evt_1"})
    assert (forged.status_code, b"handled" in forged.content) == (401, False)


@pytest.mark.once
def test_async_functions_are_refused() -> None:
    """A coroutine would be the event, or no event's id."""

    async def anything(request: Any) -> Any:
        raise AssertionError("not called")

    with pytest.raises(TypeError, match="must not be async"):
        webhook("new", verify=anything, key=len)
    with pytest.raises(TypeError, match="must not be async"):
        webhook("new", verify=signed["verify"], key=anything)


@pytest.mark.parametrize("body", ["[]", "{}", "1", '"evt"', "null", '{"id": null}'])
def test_what_is_signed_and_no_event_has_no_id(body: str, caplog: Any) -> None:
    """It is no error of the server; people see where the id was looked for."""
    response = post("/by-member/", body, STRIPE.sign(body, STRIPE.secret, time(), ""))
    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_missing")
    assert not Order.objects.exists()
    warned = [each for each in caplog.records if each.levelno == logging.WARNING and each.exc_info]
    assert len(warned) == (0 if "null}" in body else 1)


@pytest.mark.parametrize("found", [["evt"], True, 1.5, "", " evt", "é", "a\0", "e" * 256])
def test_an_id_that_is_no_key_is_refused(found: Any) -> None:
    body = json.dumps({"id": found})
    response = post("/by-member/", body, STRIPE.sign(body, STRIPE.secret, time(), ""))
    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_invalid")
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize(("where", "status"), [("/streams/", 202), ("/large/", 200)])
def test_an_event_whose_answer_is_not_kept_was_handled(where: str, status: int) -> None:
    """An error would be a failed delivery, for ever."""
    first, again = deliver(where), deliver(where)
    assert (first.status_code, first.getvalue()) == (status, b"handled")
    assert (again.status_code, again.content) == (status, b"")
    assert Order.objects.count() == 1


def test_the_projects_errors_stay_its_own(settings: Any) -> None:
    settings.IDEMPOTENCY = {"ERRORS": lambda problem, request: HttpResponse("own", status=418)}
    body, headers = GITHUB.delivery()
    del headers["x-github-delivery"]
    assert post("/hook/", body, headers).status_code == 418
    assert [deliver("/large/").status_code for _ in range(2)] == [200, 200]


def test_a_tombstone_does_not_refuse_events(settings: Any) -> None:
    settings.IDEMPOTENCY = {"TOMBSTONE": timedelta(days=90)}
    deliver()
    IdempotencyRecord.objects.update(expires_at=F("expires_at") - timedelta(days=36))
    assert deliver().status_code == 200
    assert Order.objects.count() == 2


def test_each_parameter_of_the_path_belongs_to_the_scope() -> None:
    """Groups without a name, and what the URL's pattern gives by itself."""
    for where in ("/hook/", "/unnamed/1/", "/unnamed/2/", "/given/", "/row/"):
        assert [deliver(where).status_code for _ in range(2)] == [200, 200]
    assert Order.objects.count() == IdempotencyRecord.objects.count() == 5


@pytest.mark.parametrize("where", ["/object/", "/function/"])
def test_an_object_in_the_path_has_no_name(where: str, caplog: Any) -> None:
    """I16: its text is an address in memory, which is another one in each process."""
    assert deliver(where).status_code == 500
    assert "has no stable text" in caplog.text
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.once
def test_receivers_that_a_function_makes_need_names() -> None:
    """An event for one tenant would count as handled for the other."""

    def receiver_for(tenant: str, name: str) -> Any:
        @webhook(name, **signed)
        def hook(request: Any, event: Any) -> HttpResponse:
            return handle(tenant)

        return hook

    for tenant in ("a", "b"):
        receiver_for(tenant, f"tenant {tenant}")
    receiver_for("a", "tenants")
    with pytest.raises(TypeError, match="Give each receiver its own name"):
        receiver_for("b", "tenants")


@pytest.mark.once
def test_a_method_is_no_receiver() -> None:
    with pytest.raises(TypeError, match="a function, not a class or a method"):

        class Hooks:
            @webhook("new", **signed)
            def post(self, request: Any, event: Any) -> HttpResponse:
                return handle(event)
