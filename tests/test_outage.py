"""What requests with a key get while their store is out of reach."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from django_idempotency.signals import Event, failed_open
from django_idempotency.stores.breaker import breaker_of
from tests.conftest import Caller
from tests.doors import few_doors
from tests.shop.models import Order

TABLE = IdempotencyRecord._meta.db_table


@pytest.fixture(autouse=True)
def new_breakers() -> Iterator[None]:
    breaker_of.cache_clear()
    yield
    breaker_of.cache_clear()


@contextmanager
def no_table() -> Iterator[None]:
    """The database works, and cannot keep records."""
    rename("TABLE", TABLE, "elsewhere")
    try:
        yield
    finally:
        rename("TABLE", "elsewhere", TABLE)


def rename(kind: str, old: str, new: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER {kind} {old} RENAME TO {new}")


@pytest.fixture
def events() -> Iterator[list[Event]]:
    seen: list[Event] = []

    def receiver(event: Event, **kwargs: Any) -> None:
        seen.append(event)

    failed_open.connect(receiver)
    yield seen
    failed_open.disconnect(receiver)


class TestDatabase:
    @few_doors
    def test_closed_is_the_default(self, door: str, caller: Caller, events: list[Event]) -> None:
        with no_table():
            refused = caller.post(door)
        assert (refused.status_code, refused["Retry-After"]) == (503, "1")
        problem = json.loads(refused.content)
        assert problem["code"] == "idempotency_store_unavailable"
        assert problem["retryable"] is True
        assert not Order.objects.exists()
        assert events == []
        assert caller.post(door).status_code == 201

    @few_doors
    def test_open_runs_unprotected(
        self, door: str, caller: Caller, settings: Any, events: list[Event]
    ) -> None:
        """And says so: in the response, in the log and by a signal."""
        settings.IDEMPOTENCY = {"OUTAGE": "open", "STATUS_HEADER": "Idempotency-Status"}
        with no_table():
            responses = [caller.post(door) for _ in range(2)]
        for response in responses:
            assert response.status_code == 201
            assert response["Idempotency-Unprotected"] == "true"
            assert response["Idempotency-Status"] == "unprotected"
        assert Order.objects.count() == 2
        assert [event.reason for event in events] == ["idempotency_store_unavailable"] * 2
        protected = caller.post(door)
        assert "Idempotency-Unprotected" not in protected

    def test_an_outage_is_one_line_in_the_log(self, caller: Caller, caplog: Any) -> None:
        with no_table():
            for _ in range(3):
                caller.post("/decorated-rest/")
        caller.post("/decorated-rest/")
        found = [record.message for record in caplog.records if "answer" in record.message]
        assert len(found) == 2
        assert found[0].startswith('Database "default" does not answer (')
        assert found[1] == 'Database "default" answers again'

    def test_without_a_key_nothing_is_said(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"OUTAGE": "open"}
        with no_table():
            response = caller.post("/decorated-rest/", key=None)
        assert "Idempotency-Unprotected" not in response
