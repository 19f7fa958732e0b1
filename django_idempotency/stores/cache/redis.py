"""Redis, as django-redis connects to it: the primary, asked in single round trips."""

import logging
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from django.core.cache import caches
from django.core.cache.backends.base import default_key_func
from django.core.exceptions import ImproperlyConfigured
from django_redis import get_redis_connection
from redis.exceptions import RedisError, ResponseError

from ..base import Outage, Unusable
from ..breaker import breaker_of

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

    def read(self, script: str, name: str, *others: str) -> list[Any]:
        """Run a script that reads one key, and read others after it: one round trip in all.

        Each command has one key: the keys of a script would have to be in one slot of a cluster.

        :return: what the script returned, and the values of the others
        :raises Outage: if there is no answer, or an error
        :raises Unusable: if what is under a name is not ours
        """

        def send(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            pipeline.eval(script, 1, self._key(name))
            for other in others:
                pipeline.get(self._key(other))
            return pipeline.execute()

        try:
            return list(self._ask(send))
        except Unusable as error:
            logger.error("%s. Delete the key there, which is not ours", error)
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

    def set(self, names: Iterable[str], value: bytes, lifetime: timedelta) -> None:
        """Set a value under each name, whatever was there.

        :raises Outage: if there is no answer, or an error
        """

        def send(client: Any) -> None:
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.set(self._key(name), value, px=lifetime)
            pipeline.execute()

        self._ask(send)

    def set_forever(self, name: str, value: bytes, if_absent: bool = False) -> bytes:
        """Set a value that does not expire, and return what is there now.

        :param if_absent: leave alone what is there
        :raises Outage: if there is no answer, or an error
        """

        def send(client: Any) -> bytes:
            pipeline = client.pipeline(transaction=False)
            pipeline.set(self._key(name), value, nx=if_absent)
            pipeline.get(self._key(name))
            return bytes(pipeline.execute()[-1] or b"")

        return self._ask(send)

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
        """Django's own function of prefix, version and name, whatever ``KEY_FUNCTION`` says.

        Such a function may ask the thread for its tenant. The threads that write copies and renew
        leases have none, and neither has the shell in which an operator deletes a record; and
        names tell the places of records apart by themselves.
        """
        cache = caches[self._alias]
        return default_key_func(name, cache.key_prefix, cache.version)


def _is_about_one_key(error: Exception) -> bool:
    # Its subclasses are errors of the whole server.
    if type(error) is not ResponseError or _WHOLE_SERVER.search(str(error)):
        return False
    return _ONE_KEY.search(str(error)) is not None
