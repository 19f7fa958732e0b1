"""Redis, as django-redis connects to it: the primary, and one round trip per call."""

import logging
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import default_key_func
from django.core.exceptions import ImproperlyConfigured
from django_redis import get_redis_connection
from redis.exceptions import RedisError, ResponseError

from ...compat.redis import Command, ask
from ...protocol.envelope import prefix_of
from ...protocol.record import Claim, State
from ..base import Gone, Outage, Unusable
from ..breaker import breaker_of
from ..causes import cause_of
from . import scripts
from .backends import (
    DELETED,
    DELETED_FOR,
    EPOCH,
    RECORD,
    CacheRecord,
    Entry,
    HeldRecord,
    Lookup,
    new_epoch,
)

logger = logging.getLogger("django_idempotency")

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
        """Run a script on one key, atomically.

        Each call sends the text: EVALSHA would need a second round trip after each restart.

        :param at_once: ask even while the circuit breaker is open, because the message would
            otherwise be lost
        :raises Outage: if Redis does not answer, or answers with an error
        :raises Unusable: if another program has written the key; other keys are not concerned
        """
        [reply] = self.send([("EVAL", script, 1, self.key(name), *arguments)], at_once)
        return reply

    def send(self, commands: Sequence[Command], at_once: bool = False) -> list[Any]:
        """Run several commands in one round trip.

        Each command has one key: the keys of a script would have to be in one slot of a cluster.

        :raises Outage: if Redis does not answer, or answers with an error
        :raises Unusable: if another program has written one of the keys
        """
        ticket = self._breaker.ticket if at_once else self._breaker.enter()
        try:
            replies = ask(self.client(), commands)
        except (RedisError, OSError) as error:
            raise self._outage(error) from error
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, ResponseError):
                if not _is_about_one_key(reply):
                    raise self._outage(reply) from reply
                self._breaker.answered(ticket)
                raise self._unusable(reply, _key_of(command)) from reply
        self._breaker.answered(ticket)
        return replies

    def key(self, name: str) -> str:
        """Return the key of a name by Django's own function, never by ``KEY_FUNCTION``.

        A ``KEY_FUNCTION`` may depend on the tenant of the thread. The threads that write copies and
        renew leases have none, nor has the shell in which an operator deletes a record. Names
        already contain the location of their record.
        """
        cache = caches[self._alias]
        return default_key_func(name, cache.key_prefix, cache.version)

    def client(self) -> Any:
        # To write: a replica might not know yet what was decided.
        try:
            return get_redis_connection(self._alias, write=True)
        except NotImplementedError as error:
            raise ImproperlyConfigured(
                f'The cache "{self._alias}" is not made by django-redis. Set its BACKEND to '
                '"django_redis.cache.RedisCache".'
            ) from error

    def _outage(self, error: Exception) -> Outage:
        return self._breaker.failed(cause_of(error))

    def _unusable(self, error: Exception, key: str) -> Unusable:
        text = f'Redis (cache "{self._alias}"): {cause_of(error)}'
        logger.error("%s. Another program has written %s: delete it", text, key)
        return Unusable(text)


def _key_of(command: Command) -> str:
    return str(command[3] if command[0] == "EVAL" else command[1])


def _is_about_one_key(error: Exception) -> bool:
    # Its subclasses are errors of the whole server.
    if type(error) is not ResponseError or _WHOLE_SERVER.search(str(error)):
        return False
    return _ONE_KEY.search(str(error)) is not None


class RedisBackend:
    """Keeps records in Redis, by scripts.

    :param alias: of a cache made by django-redis
    """

    def __init__(self, alias: str) -> None:
        self._redis = Redis(alias)

    def claim(self, name: str, record_id: int, claim: Claim, lease: timedelta) -> CacheRecord:
        times = (_milliseconds(each) for each in (lease, claim.retention, claim.tombstone))
        about = (claim.fingerprint, claim.method, claim.path)
        return _record(self._redis.run(scripts.CLAIM, name, record_id, *times, *about))

    def look(self, name: str) -> CacheRecord | None:
        found = self._redis.run(scripts.LOOK, name)
        return _record(found) if found else None

    def take(self, name: str, record_id: int, lease: timedelta) -> CacheRecord | None:
        found = self._redis.run(scripts.TAKE, name, record_id, _milliseconds(lease))
        if found is None:
            raise Gone
        return _record(found) if found else None

    def start(self, held: HeldRecord, lease: timedelta) -> int | None:
        return int(self._redis.run(scripts.START, *held, _milliseconds(lease))) or None

    def renew(self, held: HeldRecord, lease: timedelta) -> bool:
        return bool(self._redis.run(scripts.RENEW, *held, _milliseconds(lease)))

    def complete(self, held: HeldRecord, response: bytes, retention: timedelta) -> bool:
        done = (response, _milliseconds(retention))
        return bool(self._redis.run(scripts.COMPLETE, *held, *done, at_once=True))

    def withdraw(self, held: HeldRecord) -> bool:
        return bool(self._redis.run(scripts.WITHDRAW, *held, at_once=True))

    def release(self, held: HeldRecord, is_open: bool | None) -> bool:
        end = "" if is_open is None else int(is_open)
        return bool(self._redis.run(scripts.RELEASE, *held, end, at_once=True))

    def let_time_pass(self, by: timedelta) -> None:
        client = self._redis.client()
        start = re.sub(r"([*?\[\]\\])", r"\\\1", self._redis.key(prefix_of(RECORD)))
        for key in list(client.scan_iter(f"{start}*")):
            client.eval(scripts.AGE, 1, key, _milliseconds(by))


def _record(found: list[Any]) -> CacheRecord:
    """Build a record from the reply of a script."""
    record_id, state, attempt, fingerprint, response, holder, is_open, expires, *flags = found
    is_held, is_expired = map(bool, flags)
    return CacheRecord(
        int(record_id),
        State(state.decode()),
        int(attempt),
        fingerprint.decode(),
        response,
        int(holder),
        is_open == b"1",
        int(expires) / 1000,
        is_held,
        is_expired,
    )


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


TIME_KEPT = 1.0
"""Seconds for which a lookup need not ask for the time again. Copies end that much earlier."""

_times: dict[str, tuple[int, float]] = {}
"""For each cache, a time that its server has told, and our own before it was asked."""


class RedisReplayCache:
    """Keeps copies in Redis, where all processes share them.

    :param alias: of a cache made by django-redis
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._redis = Redis(alias)

    def get(self, name: str) -> Lookup:
        prefix = self._redis.key("")
        epoch_key = prefix + EPOCH
        asked, (now, known_at) = monotonic(), _times.get(self._alias, (0, 0.0))
        commands: list[Command] = [("GET", prefix + name), ("GET", epoch_key)]
        if not now or asked - known_at > TIME_KEPT:
            # First: an entry that is added later, for as long as a record has left, must not
            # outlive the record, however long the way took. An earlier time is as good.
            now, value, epoch = self._redis.send([("EVAL", scripts.NOW, 1, epoch_key), *commands])
            _times[self._alias] = (now, asked)
        else:
            value, epoch = self._redis.send(commands)
        if epoch is None:
            epoch = self._set_epoch(if_absent=True)
        return Lookup(name, value, now, epoch.decode("ascii", "replace"))

    def add(self, entries: Iterable[Entry]) -> None:
        prefix, commands = self._redis.key(""), []
        for name, value, expires in entries:
            commands.append(("SET", prefix + name, value, "PXAT", expires, "NX"))
        self._redis.send(commands)

    def mark_deleted(self, names: Iterable[str]) -> None:
        end = ("PX", _milliseconds(DELETED_FOR))
        self._redis.send([("SET", self._redis.key(name), DELETED, *end) for name in names])

    def begin_epoch(self) -> None:
        self._set_epoch()

    def _set_epoch(self, if_absent: bool = False) -> bytes:
        """Return the epoch of now: of two processes that find none, one sets it."""
        key = self._redis.key(EPOCH)
        condition = ("NX",) if if_absent else ()
        _, epoch = self._redis.send([("SET", key, new_epoch(), *condition), ("GET", key)])
        return epoch or b""
