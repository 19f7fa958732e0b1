"""Redis, as django-redis connects to it: the primary, asked in single round trips."""

import logging
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django_redis import get_redis_connection
from redis.exceptions import RedisError, ResponseError

from .base import Outage, Unusable
from .breaker import breaker_of

logger = logging.getLogger("django_idempotency")

Answer = TypeVar("Answer")

_ONE_KEY = re.compile(r"\bWRONGTYPE\b|\buser_script:")
"""Errors that say something about the one key that a script was run on: another type, or a content
that the script cannot read (https://redis.io/docs/latest/develop/programmability/eval-intro/)."""

_WHOLE_SERVER = re.compile(r"\b(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|LOADING)\b")
"""Errors of the server; before Redis 7 they come as errors of the script that met them."""


class Redis:
    """One cache alias. Values are bytes that no serializer has touched.

    :param alias: in ``CACHES``, with ``django_redis.cache.RedisCache`` as its backend
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._breaker = breaker_of(f'Redis (cache "{alias}")')

    def run(self, script: str, name: str, *arguments: Any, at_once: bool = False) -> Any:
        """Run a script on one key, atomically: always one round trip.

        The text is sent each time: EVALSHA would need a second trip after each restart.

        :param at_once: ask also while the server is known not to answer: what is to be said is lost
            otherwise
        :raises Outage: if there is no answer, or an error
        :raises Unusable: if what is under the name is not ours; other names are not concerned
        """
        key = self._key(name)
        try:
            return self._ask(lambda client: client.eval(script, 1, key, *arguments), at_once)
        except Unusable as error:
            logger.error("%s. Delete the key %s there, which is not ours", error, key)
            raise

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

    def _ask(self, question: Callable[[Any], Answer], at_once: bool = False) -> Answer:
        ticket = self._breaker.ticket if at_once else self._breaker.enter()
        try:
            answer = question(self._client())
        except (RedisError, OSError) as error:
            text = f'Redis (cache "{self._alias}"): {error}'
            if _is_about_one_key(error):
                self._breaker.answered(ticket)
                raise Unusable(text) from error
            self._breaker.failed(error)
            raise Outage(text) from error
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


def _is_about_one_key(error: Exception) -> bool:
    # Its subclasses are errors of the whole server.
    if type(error) is not ResponseError or _WHOLE_SERVER.search(str(error)):
        return False
    return _ONE_KEY.search(str(error)) is not None
