"""Round trips to Redis over a connection of redis-py's pool, without a pipeline around them.

A pipeline costs as much processor time as the round trip, and a replay consists of little else. Of
redis-py this uses what its pipelines use, too: ``get_connection()`` and ``release()`` of the pool,
and ``pack_commands()``, ``send_packed_command()``, ``read_response()`` and ``retry`` of the
connection. Health checks, reconnects, timeouts and retries are those of the project's settings.

``tests/compat/test_redis.py`` fails on a redis-py without them.
"""

import inspect
from collections.abc import Sequence
from functools import cache
from types import FunctionType
from typing import Any

from redis import client as redis_client
from redis.client import Pipeline, Redis
from redis.exceptions import ResponseError

try:
    from redis.observability import providers
except ImportError:  # before redis-py 7.2
    providers = None  # type: ignore[assignment]

Command = tuple[Any, ...]


def ask(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Run commands in one round trip.

    :param client: of redis-py
    :return: the replies; an error that is the reply to one command is in its place
    :raises RedisError: if the server does not answer
    """
    # Another client than redis-py's own may find its connections in another way, as a cluster's.
    if type(client) is not Redis or is_watched() or not _gives_any(type(client.connection_pool)):
        return _pipelined(client, commands)
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        replies: list[Any] = connection.retry.call_with_retry(
            lambda: _exchange(connection, commands),
            lambda error: connection.disconnect(),  # type: ignore[no-untyped-call]
        )
    except BaseException:
        # An interruption between two replies: the next one to use it would read the others.
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        pool.release(connection)
    return replies


def _exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands))
    return [_reply(connection) for _ in commands]


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:  # the replies to the other commands are still to be read
        return error


def _pipelined(client: Any, commands: Sequence[Command]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return list(pipeline.execute(raise_on_error=False))


def is_watched() -> bool:
    """Whether somebody is told of each pipeline: packages for tracing replace its method; redis-py
    has metrics of its own. They are to see our round trips, too."""
    execute = Pipeline.execute
    if type(execute) is not FunctionType or execute.__globals__ is not vars(redis_client):
        return True
    if providers is None:
        return False
    return providers.get_observability_instance().get_provider_manager() is not None


@cache
def _gives_any(pool: Any) -> bool:
    """Whether a class of pools gives a connection without being told the command, as redis-py's do
    from 5.3 on."""
    try:
        inspect.signature(pool.get_connection).bind(None)
    except TypeError:
        return False
    return True
