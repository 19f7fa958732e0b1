"""The reconciliation endpoint tells what an operation's effects still have to do."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import modify_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils.timezone import now

from django_idempotency.effects import after_commit
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.effects.runner import run_due
from tests.conftest import Caller
from tests.shop.urls import urlpatterns as shop
from tests.support import effects
from tests.support.problems import code_of

ORDER = "/decorated-rest/"
WITHOUT = {"key", "state", "outcome_unknown", "created", "completed", "expires", "status"}
"""What an answer has without effects."""


class Project:
    """What a URLconf module is to Django."""

    urlpatterns = [path("api/", include("django_idempotency.reconciliation.urls")), *shop]


def ask(caller: Caller) -> Any:
    return caller.send("get", "/api/idempotency-keys/k-1", key=None)


def told(caller: Caller) -> dict[str, Any]:
    answer = ask(caller)
    assert answer.status_code == 200, answer.content
    document: dict[str, Any] = answer.json()
    return document


@pytest.fixture(autouse=True)
def staged(caller: Caller, after_write: Any, settings: Any) -> Iterator[None]:
    """An operation with one effect that is done, and one for a worker."""
    settings.ROOT_URLCONF = Project
    effects.reset()

    def stage() -> None:
        after_commit(effects.send, "first")
        after_commit(effects.later, "second")

    after_write(stage)
    caller.post(ORDER)
    yield
    effects.reset()


def test_pending_ones_are_there(caller: Caller) -> None:
    found = told(caller)
    assert set(found) == WITHOUT | {"effects"}
    (effect,) = found["effects"]
    assert set(effect) == {"name", "state", "tries", "due"}
    assert (effect["name"], effect["state"], effect["tries"]) == ("later", "pending", 0)
    assert abs(datetime.fromisoformat(effect["due"]) - now()) < timedelta(minutes=1)


def test_failed_ones_are_there_without_the_reason(caller: Caller) -> None:
    with effects.down():
        for _ in range(3):
            run_due("default")
            effects.make_due()
    (effect,) = told(caller)["effects"]
    assert (effect["state"], effect["tries"], effect["due"]) == ("failed", 3, None)
    assert b"Down" not in ask(caller).content


def test_what_has_happened_is_not(caller: Caller) -> None:
    run_due("default")
    assert told(caller)["effects"] == []


def test_times_have_a_zone_without_time_zones(caller: Caller, settings: Any) -> None:
    settings.USE_TZ = False
    (effect,) = told(caller)["effects"]
    assert datetime.fromisoformat(effect["due"]).tzinfo is not None


def test_a_stranger_hears_nothing(stranger: Caller) -> None:
    assert ask(stranger).status_code == 404


def test_they_are_one_statement_and_none_without_the_app(caller: Caller) -> None:
    with CaptureQueriesContext(connection) as within:
        told(caller)
    with (
        modify_settings(INSTALLED_APPS={"remove": "django_idempotency.effects"}),
        CaptureQueriesContext(connection) as without,
    ):
        assert set(told(caller)) == WITHOUT
    assert len(within) == len(without) + 1


def test_a_table_that_is_missing_is_an_outage(caller: Caller) -> None:
    def gone(execute: Any, sql: str, *args: Any) -> Any:
        if IdempotencyEffect._meta.db_table in sql:
            raise OperationalError("gone away")
        return execute(sql, *args)

    with connection.execute_wrapper(gone):
        answer = ask(caller)
    assert (answer.status_code, code_of(answer)) == (503, "idempotency_store_unavailable")
