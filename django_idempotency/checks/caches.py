"""Checks of the cache that stores use."""

import math
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheBackendError
from django.core.cache.backends.locmem import LocMemCache

from ..conf.policy import StoreKind
from ..conf.settings import Configuration
from ..contract.endpoints import policies_of_endpoints
from .configuration import Databases, Messages, check
from .messages import message

_LONGEST = 5
"""Seconds that a request may wait for a hanging Redis before we warn."""


@check()
def check_cache(valid: Configuration, databases: Databases) -> Messages:
    """What needs no connection."""
    return _faults(valid)


@check(deploy=True)
def check_eviction(valid: Configuration, databases: Databases) -> Messages:
    """What Redis has to be asked, if it alone has the records."""
    if StoreKind.CACHE not in stores_in_use(valid) or any(_faults(valid)):
        return
    alias = str(valid.cache)
    if not is_redis(caches[alias]):
        return
    try:
        policy = eviction_policy(alias)
    except Exception as error:  # of any kind: the other checks go on
        yield message("W012", alias=alias, error=error)
    else:
        if policy not in {"", "noeviction"}:
            yield message("E014", alias=alias, policy=policy)


def _faults(valid: Configuration) -> Messages:
    alias = valid.cache
    if alias is not None and alias not in settings.CACHES:
        problem = f'IDEMPOTENCY["CACHE"] is "{alias}", which is not in CACHES'
        yield message("E010", problem=problem, known=_aliases())
        return
    if stores_in_use(valid) <= {StoreKind.DB}:
        return
    if alias is None:
        problem = (
            'The stores "cached_db" and "cache" need a cache, and IDEMPOTENCY["CACHE"] is not set'
        )
        yield message("E010", problem=problem, known=_aliases())
        return
    try:
        backend = caches[alias]
    except InvalidCacheBackendError as error:
        yield message("E011", alias=alias, reason=error)
        return
    if isinstance(backend, LocMemCache):
        if not settings.DEBUG:
            yield message("W010", alias=alias)
    elif is_redis(backend):
        yield from _redis_faults(alias)
    else:
        yield message("E011", alias=alias, reason=f"it is {type(backend).__name__}")


def _redis_faults(alias: str) -> Messages:
    options = settings.CACHES[alias].get("OPTIONS", {})
    everywhere = getattr(settings, "DJANGO_REDIS_IGNORE_EXCEPTIONS", False)
    if options.get("IGNORE_EXCEPTIONS", everywhere):
        yield message("E012", alias=alias)
    given = _pool_of(alias).connection_kwargs
    missing = [
        name.upper() for name in ("socket_connect_timeout", "socket_timeout") if not given.get(name)
    ]
    if missing:
        yield message("E013", alias=alias, missing=" and ".join(missing))
    elif (seconds := longest_wait(alias)) > _LONGEST:
        yield message("W011", alias=alias, seconds=seconds)


def _aliases() -> str:
    return ", ".join(f'"{alias}"' for alias in settings.CACHES)


def eviction_policy(alias: str) -> str:
    """Return what Redis does when its memory is full; empty if it does not say."""
    from django_redis import get_redis_connection

    return str(get_redis_connection(alias).info("memory").get("maxmemory_policy", ""))


def stores_in_use(valid: Configuration) -> set[StoreKind]:
    """Return the stores of all policies: the setting's, those by path, those of endpoints."""
    of_endpoints = {policy.store for _, policy in policies_of_endpoints()}
    return {valid.policy.store, *(each.store for each in valid.policies.values()), *of_endpoints}


def is_redis(backend: Any) -> bool:
    """Whether a cache is made by django-redis, which need not be installed."""
    return any(each.__module__ == "django_redis.cache" for each in type(backend).__mro__)


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
