"""``REQUEST_ID``: a record knows what the project calls its request."""

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.support.adapters import few_adapters
from tests.support.admin import staff
from tests.support.counting import counted

PATH = "/decorated-rest/"


def the_id() -> str:
    return IdempotencyRecord.objects.get().request_id


def made_by_a_middleware(request: Any) -> Any:
    return 4711


def nothing(request: Any) -> None:
    return None


@few_adapters
def test_of_a_header(adapter: str, caller: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY = {"REQUEST_ID": "X-Request-Id"}
    caller.post(adapter, headers={"x-request-id": "0f-11:a"})
    assert the_id() == "0f-11:a"


@few_adapters
def test_of_a_function(adapter: str, caller: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY = {"REQUEST_ID": f"{__name__}.made_by_a_middleware"}
    caller.post(adapter)
    assert the_id() == "4711"


@pytest.mark.parametrize("source", [None, "X-Request-Id", nothing])
def test_without_one(caller: Caller, settings: Any, source: Any) -> None:
    settings.IDEMPOTENCY = {"REQUEST_ID": source}
    assert caller.post(PATH).status_code == 201
    assert the_id() == ""


@pytest.mark.parametrize(
    ("sent", "kept"), [("x" * 300, "x" * 64), ("<b>\u00e9\x01", "%3Cb%3E%C3%A9%01"), ("", "")]
)
def test_what_clients_send_is_kept_short_and_plain(
    caller: Caller, settings: Any, sent: str, kept: str
) -> None:
    settings.IDEMPOTENCY = {"REQUEST_ID": "X-Request-Id"}
    assert caller.post(PATH, headers={"x-request-id": sent}).status_code == 201
    assert the_id() == kept


def test_the_request_that_claimed_the_record_names_it(caller: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY = {"REQUEST_ID": "X-Request-Id"}
    for number in ("1", "2"):
        assert caller.post(PATH, headers={"x-request-id": number}).status_code == 201
    assert the_id() == "1"


def test_it_costs_no_statement(caller: Caller, settings: Any) -> None:
    def cost(key: str) -> int:
        with counted() as count:
            assert caller.post(PATH, key=key, headers={"x-request-id": "1"}).status_code == 201
        return count.statements

    cost("warm-up")
    usual = cost("one")
    settings.IDEMPOTENCY = {"REQUEST_ID": "X-Request-Id"}
    assert cost("two") == usual


def test_operators_see_it(caller: Caller, settings: Any, client: Client) -> None:
    settings.IDEMPOTENCY = {"REQUEST_ID": "X-Request-Id"}
    caller.post(PATH, headers={"x-request-id": "0f11-a"})
    printed = io.StringIO()
    call_command("idempotency_records", "k-1", stdout=printed)
    assert ", request 0f11-a\n" in printed.getvalue()
    record = IdempotencyRecord.objects.get()
    client.force_login(staff("view_idempotencyrecord"))
    page = client.get(
        reverse("admin:django_idempotency_idempotencyrecord_change", args=[record.pk])
    )
    assert "0f11-a" in page.content.decode()
