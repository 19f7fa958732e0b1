"""Redis, as django-redis connects to it: the primary, asked in single round trips."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django_redis import get_redis_connection
from redis.exceptions import RedisError

from .base import Outage
from .breaker import breaker_of

Answer = TypeVar("Answer")


class Redis:
    """One cache alias. Values are bytes that no serializer has touched.

    :param alias: in ``CACHES``, with ``django_redis.cache.RedisCache`` as its backend
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._breaker = breaker_of(f'Redis (cache "{alias}")')

    def run(self, script: str, name: str, *arguments: Any) -> Any:
        """Run a script on one key, atomically: always one round trip.

        The text is sent each time: EVALSHA would need a second trip after each restart.

        :raises Outage: if there is no answer, or an error
        """
        return self._ask(lambda client: client.eval(script, 1, self._key(name), *arguments))

    def add(self, entries: Iterable[tuple[str, bytes, int]]) -> None:
        """Set what is absent, all in one round trip.

        :param entries: name, value, and when it expires (milliseconds of Redis's clock)
        :raises Outage: if there is no answer, or an error
        """

        def send(client: Any) -> None:
            pipeline = client.pipeline(transaction=False)
            for name, value, expires in entries:
                pipeline.set(self._key(name), value, pxat=expires, nx=True)
            pipeline.execute()

        self._ask(send)

    def set(self, name: str, value: bytes, lifetime: timedelta) -> None:
        """Set a value, whatever was there.

        :raises Outage: if there is no answer, or an error
        """
        self._ask(lambda client: client.set(self._key(name), value, px=lifetime))

    def _ask(self, question: Callable[[Any], Answer]) -> Answer:
        ticket = self._breaker.enter()
        try:
            answer = question(self._client())
        except (RedisError, OSError) as error:
            self._breaker.failed(error)
            raise Outage(f'Redis (cache "{self._alias}"): {error}') from error
        self._breaker.answered(ticket)
        return answer

    def _client(self) -> Any:
        # To write: a replica might not know yet what was decided.
        try:
            return get_redis_connection(self._alias, write=True)
        except NotImplementedError as error:
            raise ImproperlyConfigured(
                f'The cache "{self._alias}" is not made by django-redis. Set its BACKEND to '
                '"django_redis.cache.RedisCache".'
            ) from error

    def _key(self, name: str) -> str:
        return str(caches[self._alias].make_key(name))
