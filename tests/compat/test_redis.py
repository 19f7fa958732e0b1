"""What ``compat/redis.py`` takes for granted about redis-py, and whom it asks before it goes past
its pipelines."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
from django_redis import get_redis_connection
from redis import Redis
from redis.client import Pipeline
from redis.connection import BlockingConnectionPool, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.sentinel import SentinelConnectionPool

from django_idempotency.compat import redis as compat
from tests.support.counting import CountingConnection
from tests.support.redis_server import RedisServer
from tests.support.redis_server import caches as caches_of

pytestmark = pytest.mark.once

COMMANDS = [("SET", "name", b"\x00value"), ("GET", "name"), ("GET", "nothing"), ("LPOP", "name")]


class OtherClient(Redis):
    """A project's own."""


class OlderPool(ConnectionPool):
    """As before redis-py 5.3."""

    def get_connection(self, command_name: str, *keys: Any, **options: Any) -> Any:  # type: ignore[override]
        return super().get_connection()


@pytest.fixture
def pipelines(monkeypatch: Any) -> list[Any]:
    """Pipelines that were used."""
    used: list[Any] = []
    pipelined = compat._pipelined

    def noted(client: Any, commands: Any) -> list[Any]:
        used.append(client)
        return pipelined(client, commands)

    monkeypatch.setattr(compat, "_pipelined", noted)
    return used


def check(replies: list[Any]) -> None:
    _, value, nothing, error = replies
    assert (value, nothing) == (b"\x00value", None)
    assert type(error) is ResponseError
    assert "WRONGTYPE" in str(error)


@pytest.mark.parametrize("pool", [ConnectionPool, BlockingConnectionPool, SentinelConnectionPool])
def test_pools_of_this_version_give_a_connection_without_more(pool: type) -> None:
    assert compat._gives_any(pool)


def test_commands_travel_together_and_without_a_pipeline(
    redis: RedisServer, pipelines: list[Any]
) -> None:
    """Each has its reply, and an error is the reply to one of them."""
    client, sent = get_redis_connection("redis"), len(CountingConnection.sent)
    check(compat.ask(client, COMMANDS))
    assert len(CountingConnection.sent) == sent + 1
    check(compat.ask(client, COMMANDS))
    assert not pipelines
    assert len(client.connection_pool._available_connections) == 1


def test_pools_that_want_to_know_the_command_are_told_apart() -> None:
    assert not compat._gives_any(OlderPool)


def test_other_clients_find_their_connections_themselves(
    redis: RedisServer, settings: Any, pipelines: list[Any]
) -> None:
    settings.CACHES = caches_of(redis.url, REDIS_CLIENT_CLASS=f"{__name__}.OtherClient")
    client = get_redis_connection("redis")
    check(compat.ask(client, COMMANDS))
    assert pipelines == [client]


class Wrapper:
    """As wrapt makes them: it pretends to be what it wraps."""

    def __init__(self, wrapped: Callable[..., Any]) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else Wrapper(self.wrapped.__get__(instance))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.wrapped(*args, **kwargs)


@pytest.mark.parametrize("is_wrapper", [False, True])
def test_who_traces_pipelines_sees_ours(
    redis: RedisServer, pipelines: list[Any], monkeypatch: Any, is_wrapper: bool
) -> None:
    """I15: packages for tracing replace the method, or wrap it."""
    execute: Any = Pipeline.execute

    def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
        return execute(self, *args, **kwargs)

    assert not compat.is_watched()
    monkeypatch.setattr(Pipeline, "execute", Wrapper(execute) if is_wrapper else traced)
    assert compat.is_watched()
    check(compat.ask(get_redis_connection("redis"), COMMANDS))
    assert len(pipelines) == 1


@pytest.mark.skipif(
    importlib.util.find_spec("redis.observability") is None, reason="redis-py before 7.2"
)
def test_metrics_of_redis_py_count_ours(redis: RedisServer, monkeypatch: Any) -> None:
    from redis.observability import get_observability_instance

    assert not compat.is_watched()
    monkeypatch.setattr(get_observability_instance(), "_provider_manager", object())
    assert compat.is_watched()


def test_a_connection_that_the_server_closed_is_replaced(
    redis: RedisServer, pipelines: list[Any]
) -> None:
    client = get_redis_connection("redis")
    check(compat.ask(client, COMMANDS))
    redis.ask("CLIENT", "KILL", "TYPE", "normal")
    check(compat.ask(client, COMMANDS))


@pytest.mark.parametrize("end", [RedisConnectionError, KeyboardInterrupt])
def test_one_that_ends_between_two_replies_is_not_used_again(
    redis: RedisServer, monkeypatch: Any, end: type[BaseException]
) -> None:
    """I17: or a lookup would find another key's copy."""
    client = get_redis_connection("redis")
    check(compat.ask(client, COMMANDS))
    [connection] = client.connection_pool._available_connections
    read = connection.read_response

    def broken(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        read(*args, **kwargs)
        raise end

    monkeypatch.setattr(connection, "read_response", broken)
    with pytest.raises(end):
        compat.ask(client, COMMANDS)
    # Its pool would notice replies that have arrived, not those that are still on their way.
    assert connection._sock is None


def test_retries_are_those_of_the_settings(redis: RedisServer, settings: Any) -> None:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    settings.CACHES = caches_of(
        f"{redis.url}?client_name=retries",
        CONNECTION_POOL_KWARGS={"retry": Retry(NoBackoff(), 1)},
    )
    client = get_redis_connection("redis")
    check(compat.ask(client, COMMANDS))
    [connection] = client.connection_pool._available_connections
    send = connection.send_packed_command
    failures: list[Any] = []

    def once(*args: Any, **kwargs: Any) -> None:
        if not failures:
            failures.append(args)
            raise RedisConnectionError("lost")
        send(*args, **kwargs)

    connection.send_packed_command = once
    check(compat.ask(client, COMMANDS))
    assert failures
    client.connection_pool.disconnect()
