"""What requests with a key get while their store is out of reach."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import lease
from django_idempotency.signals import Event, failed_open
from django_idempotency.stores import breaker
from django_idempotency.stores.breaker import breaker_of
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.adapters import few_adapters
from tests.support.counting import counted
from tests.support.outage import no_table
from tests.support.redis_server import RedisServer

PATH = "/decorated-rest/"


@pytest.fixture(autouse=True)
def new_breakers() -> Iterator[None]:
    breaker_of.cache_clear()
    yield
    breaker_of.cache_clear()


@pytest.fixture
def events() -> Iterator[list[Event]]:
    seen: list[Event] = []

    def receiver(event: Event, **kwargs: Any) -> None:
        seen.append(event)

    failed_open.connect(receiver)
    yield seen
    failed_open.disconnect(receiver)


class TestRedis:
    """The store is Redis alone, and it is really stopped, or hangs."""

    @pytest.fixture(autouse=True)
    def _leased(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}

    @pytest.mark.parametrize("fail", ["stop", "pause"])
    def test_closed_is_the_default(
        self, fragile_redis: RedisServer, caller: Caller, fail: str, caplog: Any
    ) -> None:
        first = caller.post(PATH)
        getattr(fragile_redis, fail)()
        for _ in range(5):
            refused = caller.post(PATH)
            assert (refused.status_code, refused["Retry-After"]) == (503, "1")
            assert refused.json()["code"] == "idempotency_store_unavailable"
        assert (first.status_code, Order.objects.count()) == (201, 1)
        assert len([each for each in caplog.messages if "does not answer" in each]) == 1

    @pytest.mark.parametrize("fail", ["stop", "pause"])
    def test_open_runs_unprotected(
        self,
        fragile_redis: RedisServer,
        caller: Caller,
        settings: Any,
        events: list[Event],
        fail: str,
        caplog: Any,
    ) -> None:
        settings.IDEMPOTENCY |= {"OUTAGE": "open"}
        getattr(fragile_redis, fail)()
        for _ in range(2):
            response = caller.post(PATH)
            assert (response.status_code, response["Idempotency-Unprotected"]) == (201, "true")
        assert Order.objects.count() == 2
        assert [event.reason for event in events] == ["idempotency_store_unavailable"] * 2
        assert len([each for each in caplog.messages if "failed_open" in each]) == 2

    def test_it_protects_again_when_redis_is_back(
        self, fragile_redis: RedisServer, caller: Caller, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(breaker, "PAUSE", 0)
        fragile_redis.stop()
        assert caller.post(PATH).status_code == 503
        fragile_redis.start()
        first, retry = caller.post(PATH), caller.post(PATH)
        assert (first.status_code, retry.content) == (201, first.content)
        assert Order.objects.count() == 1

    def test_a_response_that_cannot_be_stored_is_no_success(
        self, fragile_redis: RedisServer, caller: Caller, after_write: Any, monkeypatch: Any
    ) -> None:
        """What the view did is done; whether it will be remembered, nobody knows."""
        monkeypatch.setattr(lease, "PERSISTENCE", 0.3)
        after_write(fragile_redis.stop)
        assert caller.post(PATH).status_code == 500
        assert Order.objects.count() == 1


class TestCacheStore:
    """Records in Redis alone, behind real views."""

    @pytest.fixture(autouse=True)
    def _leased(self, redis: RedisServer, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}

    @few_adapters
    def test_it_needs_no_database(self, adapter: str, caller: Caller) -> None:
        if connection.settings_dict["ATOMIC_REQUESTS"]:
            assert caller.post(adapter).status_code == 500
            return
        bare = self.statements(caller, adapter, None)
        assert self.statements(caller, adapter, "k") == bare
        assert self.statements(caller, adapter, "k") < bare
        assert caller.post(adapter, {"item": "other"}, key="k").status_code == 422
        assert not IdempotencyRecord.objects.exists()

    @staticmethod
    def statements(caller: Caller, adapter: str, key: str | None) -> int:
        with counted() as count:
            assert caller.post(adapter, key=key).status_code == 201
        return count.statements

    def test_the_purge_says_that_there_is_nothing_to_do(self, transactional_db: None) -> None:
        output = io.StringIO()
        call_command("purge_idempotency_records", stdout=output)
        assert output.getvalue().startswith('Records in cache "redis" expire by themselves')

    def test_without_a_cache_it_says_what_is_missing(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE": "cache"}
        assert caller.post(PATH).status_code == 500


class TestDatabase:
    @few_adapters
    def test_closed_is_the_default(self, adapter: str, caller: Caller, events: list[Event]) -> None:
        with no_table():
            refused = caller.post(adapter)
        assert (refused.status_code, refused["Retry-After"]) == (503, "1")
        problem = json.loads(refused.content)
        assert problem["code"] == "idempotency_store_unavailable"
        assert problem["retryable"] is True
        assert not Order.objects.exists()
        assert events == []
        assert caller.post(adapter).status_code == 201

    @few_adapters
    def test_open_runs_unprotected(
        self, adapter: str, caller: Caller, settings: Any, events: list[Event]
    ) -> None:
        """And says so: in the response, in the log and by a signal."""
        settings.IDEMPOTENCY = {"OUTAGE": "open", "STATUS_HEADER": "Idempotency-Status"}
        with no_table():
            responses = [caller.post(adapter) for _ in range(2)]
        for response in responses:
            assert response.status_code == 201
            assert response["Idempotency-Unprotected"] == "true"
            assert response["Idempotency-Status"] == "unprotected"
        assert Order.objects.count() == 2
        assert [event.reason for event in events] == ["idempotency_store_unavailable"] * 2
        protected = caller.post(adapter)
        assert "Idempotency-Unprotected" not in protected

    def test_an_outage_is_one_line_in_the_log(self, caller: Caller, caplog: Any) -> None:
        with no_table():
            for _ in range(3):
                caller.post("/decorated-rest/")
        caller.post("/decorated-rest/")
        found = [each.message for each in caplog.records if each.message.startswith("Database")]
        assert len(found) == 2
        assert found[0].startswith('Database "default": the table of the records is missing')
        assert found[1] == 'Database "default" answers again'

    def test_without_a_key_nothing_is_said(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"OUTAGE": "open"}
        with no_table():
            response = caller.post("/decorated-rest/", key=None)
        assert "Idempotency-Unprotected" not in response
