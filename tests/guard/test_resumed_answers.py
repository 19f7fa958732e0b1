"""What a resumable handler or a resolver returns is rendered as in a request to its view."""

import json
from typing import Any

import pytest
from rest_framework.response import Response

from django_idempotency.guard.request_state import TEMPLATE
from django_idempotency.guard.resuming import Resumed
from django_idempotency.models import IdempotencyRecord
from django_idempotency.resolving import RUN_AGAIN
from tests.conftest import Caller
from tests.shop import effects, resumable
from tests.shop.models import Order
from tests.support.resuming import interrupt, resume_all

ITEM = {"item": "vm"}


@pytest.fixture(autouse=True)
def urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.shop.resumable"


KINDS = {
    "/rest-class/berlin/": (
        "text/x-shout; charset=utf-8",
        '{"DATA": {"ORDER": %d}, "SHOP": "BERLIN"}',
    ),
    "/rest-function/": ("application/json", '{"order":%d}'),
    "/viewset/": ("text/x-shout; charset=utf-8", '{"ORDER": %d}'),
    "/plain/": ("application/json", '{"order":%d}'),
    "/async/": ("application/json", '{"order":%d}'),
    "/ninja/buy/": ("application/json; charset=utf-8", '{"order": %d}'),
}
"""Paths of views with handlers, and the answers that these make."""


@pytest.mark.parametrize("path", KINDS)
def test_a_handlers_answer_is_its_views(path: str, caller: Caller, monkeypatch: Any) -> None:
    """I6: the same media type, schema and envelope; and nothing of it runs twice (I1)."""
    interrupt(caller, monkeypatch, path)
    assert resume_all() == [Resumed.DONE]
    order = Order.objects.get(item="vm")
    answer = caller.post(path, ITEM)
    content_type, body = KINDS[path]
    assert (answer.status_code, answer["Idempotency-Replayed"]) == (201, "true")
    assert (answer["Content-Type"], answer.content.decode()) == (content_type, body % order.pk)
    assert Order.objects.count() == 2
    if path not in {"/plain/", "/async/"}:  # as far as its view returns the same
        first = caller.post(path, ITEM, "k-2")
        assert first["Content-Type"] == content_type
        assert first.content.decode() == body % Order.objects.latest("pk").pk
        names = set(first.headers) - {"Idempotency-Replayed"}
        assert names == set(answer.headers) - {"Idempotency-Replayed"}


def test_a_template_response(caller: Caller, monkeypatch: Any) -> None:
    interrupt(caller, monkeypatch, "/template/")
    assert resume_all() == [Resumed.DONE]
    replay = caller.post("/template/", ITEM)
    fresh = caller.post("/template/", ITEM, "k-2")
    assert replay.content == fresh.content
    assert vars(replay)[TEMPLATE] is vars(fresh)[TEMPLATE] is True  # who reads its context gets one
    assert "vm" in replay.content.decode()


def test_a_view_that_has_moved_is_not_missed(
    caller: Caller, monkeypatch: Any, settings: Any
) -> None:
    """Only what it would have negotiated is not known any more."""
    interrupt(caller, monkeypatch, "/viewset/")
    IdempotencyRecord.objects.update(path="/moved/")
    assert resume_all() == [Resumed.DONE]
    answer = caller.post("/viewset/", ITEM)
    assert json.loads(answer.content) == {"order": Order.objects.get(item="vm").pk}


def test_what_cannot_be_rendered_is_refused_before_anything_runs(
    caller: Caller, monkeypatch: Any, caplog: Any
) -> None:
    """I11"""
    interrupt(caller, monkeypatch, "/broken/")
    charged = Order.objects.count()
    assert resume_all() == [Resumed.IMPOSSIBLE]
    assert "its view does not render" in caplog.text
    assert Order.objects.count() == charged
    assert IdempotencyRecord.objects.get().attempt == 1


@pytest.mark.parametrize("by", ["client", "command"])
@pytest.mark.parametrize("path", ["/rest-class/berlin/", "/plain/", "/ninja/buy/"])
def test_a_resolvers_answer_is_its_views(
    path: str, by: str, caller: Caller, monkeypatch: Any, settings: Any
) -> None:
    said = {"order": 7}
    settings.IDEMPOTENCY = {"RESOLVER": effects.ask}
    interrupt(caller, monkeypatch, path)
    monkeypatch.setattr(
        effects,
        "resolver",
        lambda operation: (
            resumable.Status(201, said) if "ninja" in path else Response(said, status=201)
        ),
    )
    if by == "command":
        assert resume_all() == [Resumed.DONE]
    for _ in range(2):
        answer = caller.post(path, ITEM)
        content_type, body = KINDS[path]
        assert (answer.status_code, answer["Idempotency-Replayed"]) == (201, "true")
        assert (answer["Content-Type"], answer.content.decode()) == (content_type, body % 7)
    assert Order.objects.count() == 1


def test_a_resolvers_answer_that_is_not_stored_is_rendered_too(
    caller: Caller, monkeypatch: Any, settings: Any
) -> None:
    settings.IDEMPOTENCY = {"RESOLVER": effects.ask}
    interrupt(caller, monkeypatch, "/rest-class/berlin/")
    monkeypatch.setattr(effects, "resolver", lambda operation: Response({}, status=503))
    answer = caller.post("/rest-class/berlin/", ITEM)
    assert (answer.status_code, answer.content) == (503, b'{"DATA": {}, "SHOP": "BERLIN"}')
    monkeypatch.setattr(effects, "resolver", lambda operation: RUN_AGAIN)
    assert caller.post("/rest-class/berlin/", ITEM).status_code == 201


@pytest.mark.parametrize("path", ["/rest-class/berlin/", "/ninja/buy/"])
def test_a_resolver_may_still_let_it_run(
    path: str, caller: Caller, monkeypatch: Any, settings: Any
) -> None:
    settings.IDEMPOTENCY = {"RESOLVER": effects.ask}
    interrupt(caller, monkeypatch, path)
    monkeypatch.setattr(effects, "resolver", lambda operation: RUN_AGAIN)
    answer = caller.post(path, ITEM)
    assert (answer.status_code, "Idempotency-Replayed" in answer) == (201, False)
    assert Order.objects.count() == 2


def test_code_around_the_view_finds_the_data_on_a_replay(caller: Caller, monkeypatch: Any) -> None:
    """I6: the body does not say them, so they are stored beside it, as for a request."""
    path = "/rest-class/berlin/"
    interrupt(caller, monkeypatch, path)
    assert resume_all() == [Resumed.DONE]
    order = {"order": Order.objects.get(item="vm").pk}
    resumable.passing.clear()
    caller.post(path, ITEM)
    assert resumable.passing == [order]
