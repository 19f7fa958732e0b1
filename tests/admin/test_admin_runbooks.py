"""The admin leads from what is not as usual to what to do about it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import path, reverse

from django_idempotency.admin import effects
from django_idempotency.effects.models import EffectState, IdempotencyEffect
from django_idempotency.effects.rows import NewRow, insert
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import Omitted, State
from tests.support import statistics
from tests.support.admin import remember

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.once]

SITE = "https://wiki.shop.example/idempotency/"
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
UNFINISHED: Any = {"state": State.CLAIMED, "response_status": None, "completed_at": None}
KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


@pytest.fixture(autouse=True)
def documented(settings: Any) -> None:
    settings.IDEMPOTENCY = {"DOCUMENTATION": SITE}


def link(name: str) -> str:
    return f'<a href="{SITE}runbooks/{name}.html">What to do</a>'


def shown(client: Client, record: IdempotencyRecord) -> str:
    change = reverse("admin:django_idempotency_idempotencyrecord_change", args=[record.pk])
    return client.get(change).content.decode()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (UNFINISHED, "attempt-recovered"),
        (UNFINISHED | {"outcome_open": True}, "outcome-unknown"),
        ({"response_omitted": Omitted.TOO_LARGE, "response_body": None}, "response-unavailable"),
    ],
)
def test_a_record(admin_client: Client, settings: Any, values: Any, name: str) -> None:
    record = remember("one", **values)
    assert link(name) in shown(admin_client, record)
    settings.IDEMPOTENCY = {"DOCUMENTATION": "/docs"}  # without a slash, and on this site
    assert f'href="/docs/runbooks/{name}.html"' in shown(admin_client, record)
    settings.IDEMPOTENCY = {}
    assert "What to do" not in shown(admin_client, record)


def test_what_is_as_usual_needs_none(admin_client: Client) -> None:
    assert "What to do" not in shown(admin_client, remember("one"))


@pytest.mark.parametrize("state", EffectState)
def test_an_effect(admin_client: Client, state: EffectState) -> None:
    insert("default", [NewRow(KEY, remember("one").pk, "shop.mail", "[]", None)])
    IdempotencyEffect.objects.filter(pk=KEY).update(state=state)
    change = reverse("admin:idempotency_effects_idempotencyeffect_change", args=[KEY])
    page = admin_client.get(change).content.decode()
    expected = {"pending": "effects-late", "failed": "effect-failed"}.get(state)
    assert ("What to do" in page) is bool(expected)
    assert expected is None or link(expected) in page


class TestStatistics:
    @pytest.fixture
    def installed(self, settings: Any) -> Iterator[None]:
        yield from statistics.installed(settings)

    def test_an_outcome(self, installed: None, admin_client: Client, settings: Any) -> None:
        from django_idempotency.contrib.statistics.admin import RUNBOOKS as BY_OUTCOME
        from django_idempotency.contrib.statistics.admin import _count

        assert str(_count("executed", 1200)) == "<strong>1,200</strong>"
        for outcome, name in BY_OUTCOME.items():
            assert link(name) in _count(outcome, 1)
            assert (RUNBOOKS / f"{name}.md").exists()


def test_every_runbook_is_there() -> None:
    names = {"attempt-recovered", "outcome-unknown", "response-unavailable"}
    for name in names | set(effects._RUNBOOKS.values()):
        assert (RUNBOOKS / f"{name}.md").exists()
