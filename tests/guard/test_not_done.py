"""A view says that nothing was done: the key is free, and what it wrote stays."""

from collections.abc import Iterator
from typing import Any

import pytest

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import State
from django_idempotency.signals import SIGNALS, Event
from django_idempotency.test import crash
from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import every_adapter

INVALID = {"item": "invalid", "outcome": views.NOT_DONE}
FIXED = {"item": "fixed"}


@pytest.fixture
def outcomes() -> Iterator[list[str]]:
    heard: list[str] = []

    def note(event: Event, **kwargs: Any) -> None:
        heard.append(str(event.outcome))

    for signal in SIGNALS.values():
        signal.connect(note)
    yield heard
    for signal in SIGNALS.values():
        signal.disconnect(note)


def items() -> list[str]:
    return list(Order.objects.order_by("pk").values_list("item", flat=True))


@every_adapter
class TestTheKeyIsFree:
    def test_another_body_runs_and_replays(
        self, adapter: str, caller: Caller, outcomes: list[str]
    ) -> None:
        """An invalid form and the corrected one have the key of their page."""
        assert caller.post(adapter, INVALID).status_code == 200
        assert not IdempotencyRecord.objects.exists()
        first, replay = caller.post(adapter, FIXED), caller.post(adapter, FIXED)
        assert (first.status_code, replay.content) == (201, first.content)
        assert replay["Idempotency-Replayed"] == "true"
        assert caller.post(adapter, INVALID).status_code == 422
        assert outcomes == ["not_done", "executed", "replayed", "mismatch"]

    def test_what_the_view_wrote_stays(self, adapter: str, caller: Caller) -> None:
        """I2: as without a key. Nobody switches a lockout or an audit row off by sending one."""
        caller.post(adapter, INVALID)
        caller.post(adapter, INVALID)
        assert items() == ["invalid", "invalid"]

    def test_a_crash_before_the_commit_leaves_the_claim(
        self, adapter: str, caller: Caller, outcomes: list[str]
    ) -> None:
        """The same body runs; for another one the key is not free yet."""
        with crash():
            caller.post(adapter, INVALID)
        assert IdempotencyRecord.objects.get().state == State.CLAIMED
        assert caller.post(adapter, FIXED).status_code == 422
        assert caller.post(adapter, INVALID).status_code == 200
        assert caller.post(adapter, FIXED).status_code == 201
        assert items() == ["invalid", "fixed"]
        assert outcomes[-2:] == ["not_done", "executed"]
