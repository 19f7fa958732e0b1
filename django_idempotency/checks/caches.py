"""Checks of the cache that stores use."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheBackendError
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Error, Warning, register

from ..conf.policy import Store
from ..conf.settings import Configuration
from .configuration import TAG, valid_configuration
from .views import options_of_views

_LONGEST = 5
"""Seconds that a request may wait for a hanging Redis before we warn."""


@register(TAG)
def check_cache(**kwargs: Any) -> list[CheckMessage]:
    """E010 to E013, W010, W011: what needs no connection."""
    valid = valid_configuration()
    if valid is None:
        return []
    if valid.cache is not None and valid.cache not in settings.CACHES:
        return [_no_alias(valid.cache)]
    if stores_in_use(valid) <= {Store.DB}:
        return []
    if valid.cache is None:
        return [_no_alias(None)]
    try:
        backend = caches[valid.cache]
    except InvalidCacheBackendError as error:
        return [_unusable(valid.cache, str(error))]
    if isinstance(backend, LocMemCache):
        return [] if settings.DEBUG else [_local(valid.cache)]
    if not is_redis(backend):
        return [_unusable(valid.cache, f"it is {type(backend).__name__}")]
    return [message for check in _REDIS_CHECKS for message in check(valid.cache)]


@register(TAG, deploy=True)
def check_eviction(**kwargs: Any) -> list[CheckMessage]:
    """E014, W012: what Redis has to be asked, if records are there alone."""
    valid = valid_configuration()
    if valid is None or Store.CACHE not in stores_in_use(valid) or check_cache():
        return []
    alias = str(valid.cache)
    if not is_redis(caches[alias]):
        return []
    try:
        policy = eviction_policy(alias)
    except Exception as error:  # whatever it is, checks go on
        return [_silent(alias, error)]
    return [] if policy in {"", "noeviction"} else [_evicting(alias, policy)]


def eviction_policy(alias: str) -> str:
    """Return what Redis does when its memory is full; empty if it does not say."""
    from django_redis import get_redis_connection

    return str(get_redis_connection(alias).info("memory").get("maxmemory_policy", ""))


def stores_in_use(configuration: Configuration) -> set[Store]:
    """Return the stores that the setting, its policies by path, and decorators name."""
    named = {options["store"] for options in options_of_views() if "store" in options}
    by_path = {policy.store for policy in configuration.policies.values()}
    return {configuration.policy.store, *by_path, *(Store(str(name)) for name in named)}


def is_redis(backend: Any) -> bool:
    """Whether a cache is made by django-redis, which need not be installed."""
    return any(each.__module__ == "django_redis.cache" for each in type(backend).__mro__)


def _ignores_errors(alias: str) -> Iterator[CheckMessage]:
    given = settings.CACHES[alias].get("OPTIONS", {})
    everywhere = getattr(settings, "DJANGO_REDIS_IGNORE_EXCEPTIONS", False)
    if given.get("IGNORE_EXCEPTIONS", everywhere):
        yield _ignoring(alias)


def _has_no_timeouts(alias: str) -> Iterator[CheckMessage]:
    given = _pool_of(alias).connection_kwargs
    names = [name for name in ("socket_connect_timeout", "socket_timeout") if not given.get(name)]
    if names:
        yield _unbounded(alias, names)
    elif (seconds := longest_wait(alias)) > _LONGEST:
        yield _slow(alias, seconds)


_REDIS_CHECKS: tuple[Callable[[str], Iterator[CheckMessage]], ...] = (
    _ignores_errors,
    _has_no_timeouts,
)


def longest_wait(alias: str) -> float:
    """Return how many seconds a request may wait for one answer of a hanging Redis."""
    pool = _pool_of(alias)
    given = pool.connection_kwargs
    once = given["socket_connect_timeout"] + given["socket_timeout"]
    # A pool that waits for a free connection, and retries of the client.
    waits = getattr(pool, "timeout", 0)
    retry = given.get("retry")
    retries = int(bool(given.get("retry_on_timeout"))) if retry is None else retry.get_retries()
    if waits is None or retries < 0:
        return math.inf
    return float(once * (1 + retries) + waits)


def _pool_of(alias: str) -> Any:
    from django_redis import get_redis_connection

    return get_redis_connection(alias).connection_pool


def _no_alias(given: str | None) -> CheckMessage:
    known = ", ".join(f'"{alias}"' for alias in settings.CACHES)
    return Error(
        'The stores "cached_db" and "cache" need a cache, and IDEMPOTENCY["CACHE"] is not set.'
        if given is None
        else f'IDEMPOTENCY["CACHE"] is "{given}", which is not in CACHES.',
        hint=f'Set IDEMPOTENCY["CACHE"] to an alias in CACHES, which has {known}.',
        id="django_idempotency.E010",
    )


def _unusable(alias: str, reason: str) -> CheckMessage:
    return Error(
        f'The cache "{alias}" cannot keep records: {reason}.',
        hint='Use "django_redis.cache.RedisCache" (python -m pip install '
        "'django-idempotency[redis]'); for development "
        '"django.core.cache.backends.locmem.LocMemCache" does, too.',
        id="django_idempotency.E011",
    )


def _ignoring(alias: str) -> CheckMessage:
    return Error(
        f'The cache "{alias}" ignores exceptions: whatever reads records through it takes an '
        "outage for an empty store.",
        hint=f'Remove IGNORE_EXCEPTIONS from the OPTIONS of CACHES["{alias}"], and '
        'DJANGO_REDIS_IGNORE_EXCEPTIONS; or set IDEMPOTENCY["CACHE"] to an alias of its own with '
        '"IGNORE_EXCEPTIONS": False.',
        id="django_idempotency.E012",
    )


def _unbounded(alias: str, names: list[str]) -> CheckMessage:
    missing = " and ".join(name.upper() for name in names)
    return Error(
        f'The cache "{alias}" has no {missing}: a hanging Redis would hang requests.',
        hint="Set SOCKET_TIMEOUT and SOCKET_CONNECT_TIMEOUT in the OPTIONS of "
        f'CACHES["{alias}"], for example to 0.5 seconds. Aliases with one LOCATION share the '
        "connections, and with them the timeouts, of the alias that is used first.",
        id="django_idempotency.E013",
    )


def _evicting(alias: str, policy: str) -> CheckMessage:
    return Error(
        f'The Redis of cache "{alias}" has the eviction policy {policy}: when its memory is full, '
        "it drops claims and responses, and their operations run again.",
        hint="Set maxmemory-policy to noeviction, or use a Redis of its own for records: a full "
        "memory then is an outage, which policy decides about.",
        id="django_idempotency.E014",
    )


def _silent(alias: str, error: Exception) -> CheckMessage:
    return Warning(
        f'The Redis of cache "{alias}" could not be asked for its eviction policy: {error}.',
        hint="Run the check where Redis can be reached, and let the user of the connection INFO.",
        id="django_idempotency.W012",
    )


def _local(alias: str) -> CheckMessage:
    return Warning(
        f'The cache "{alias}" is in the memory of each process: other processes do not see its '
        "records.",
        hint='Use "django_redis.cache.RedisCache" in production.',
        id="django_idempotency.W010",
    )


def _slow(alias: str, seconds: float) -> CheckMessage:
    return Warning(
        f'When Redis hangs, a request waits up to {seconds:g} seconds for the cache "{alias}": '
        "timeouts, times retries of the client, and the pool's own waiting.",
        hint=f'Make SOCKET_TIMEOUT and SOCKET_CONNECT_TIMEOUT of CACHES["{alias}"] shorter, and '
        "leave retry, retry_on_timeout and BlockingConnectionPool out: after a failure Redis is "
        "left alone for a second anyway.",
        id="django_idempotency.W011",
    )
