"""What logs and receivers learn of an error of a server: enough to find it, and no secret."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DataError, IntegrityError, OperationalError, ProgrammingError, connections

from django_idempotency.protocol.keys import short_digest
from django_idempotency.signals import Event, connect
from django_idempotency.stores.breaker import breaker_of
from django_idempotency.stores.causes import LONGEST, cause_of
from tests.conftest import Caller
from tests.support.adapters import few_adapters
from tests.support.outage import no_table
from tests.support.redis_server import RedisServer


@pytest.fixture(autouse=True)
def new_breakers() -> Iterator[None]:
    breaker_of.cache_clear()
    yield
    breaker_of.cache_clear()


@pytest.mark.once
@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            OperationalError(
                'connection failed: connection to server at "10.0.0.7", port 5432 failed: '
                "Connection refused\n\tIs the server running on that host?"
            ),
            'connection to server at "10.0.0.7", port 5432 failed: Connection refused',
        ),
        (OperationalError(2002, "Can't connect to 'db'"), "Can't connect to 'db' (2002)"),
        (ProgrammingError('relation "x" does not exist'), 'relation "x" does not exist'),
        (
            OperationalError("invalid dsn: host=db password=hunter2 port=1"),
            "invalid dsn: host=db password=... port=1",
        ),
        (
            OSError("cannot connect to redis://ada:hunter2@cache:6379/0"),
            "cannot connect to redis://...@cache:6379/0",
        ),
        (IntegrityError('DETAIL: Key (key)=(k-1) exists in "x"'), "IntegrityError"),
        (DataError("invalid input syntax: k-1"), "DataError"),
        (OperationalError(""), "OperationalError"),
        (OperationalError("x" * 1000), "x" * LONGEST),
    ],
)
def test_one_line_without_secrets(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause


@pytest.mark.parametrize("number", [1, 2])
@few_adapters
def test_a_missing_table_says_what_to_do(
    adapter: str, caller: Caller, caplog: Any, number: int
) -> None:
    """Each line does, also while the circuit breaker is open."""
    caplog.set_level("INFO", "django_idempotency")
    with no_table():
        for _ in range(number):
            caller.post(adapter, key="whole-key")
    lines = [each.getMessage() for each in caplog.records if hasattr(each, "cause")]
    assert len(lines) == number
    line = lines[-1]
    assert line.startswith(f"Key {short_digest('whole-key')}, scope ")
    assert "refused (503)" in line
    assert line.endswith(": run manage.py migrate")


@pytest.mark.once
def test_a_server_that_is_gone_is_named(
    caller: Caller, settings: Any, fragile_redis: RedisServer
) -> None:
    """The second request is not even asked: it knows the cause of the first."""
    settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}
    heard: list[Event] = []

    def hear(event: Event, **kwargs: Any) -> None:
        heard.append(event)

    connect(hear)
    fragile_redis.stop()
    for _ in range(2):
        assert caller.post("/decorated-rest/").status_code == 503
    assert [each.reason for each in heard] == ["idempotency_store_unavailable"] * 2
    for each in heard:
        assert each.cause.startswith('Redis (cache "redis"): ')
        assert "refused" in each.cause.lower() or "no such file" in each.cause.lower()


@pytest.mark.once
def test_clients_do_not_learn_it(caller: Caller) -> None:
    with no_table():
        response = caller.post("/decorated-rest/")
    assert response.status_code == 503
    assert "migrate" not in response.content.decode()
    assert connections["default"].alias not in response.json()["detail"]
