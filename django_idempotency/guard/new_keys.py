"""Count the new keys of a caller, in a cache. Replays are not counted."""

import logging
from time import time

from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.core.cache.backends.base import BaseCache

from ..conf.settings import configuration
from ..stores.causes import cause_of

logger = logging.getLogger("django_idempotency")

HOUR = 3600
"""Seconds in which keys are counted: the hours of the clock."""


def is_exhausted(limit: int, scope: str) -> bool:
    """Whether a caller has used as many new keys within this hour as the policy grants.

    There is no limit while the cache does not answer: it bounds a table, and protects no data.

    :param scope: the caller's, as records have it
    """
    try:
        return int(_cache().get(_name(scope), 0)) >= limit
    except Exception as error:
        _complain(error)
        return False


def count(scope: str) -> str:
    """Count a new key. Requests at the same moment may each see the last one free.

    :return: where it was counted, for :func:`count_no_more`
    """
    name = _name(scope)
    try:
        cache = _cache()
        cache.add(name, 0, 2 * HOUR)
        cache.incr(name)
    except Exception as error:
        _complain(error)
    return name


def count_no_more(name: str) -> None:
    """A counted key has left no record."""
    try:
        if _cache().get(name):  # or the cache has lost it meanwhile
            _cache().decr(name)
    except Exception as error:
        _complain(error)


def next_hour() -> int:
    """Return the seconds until keys are counted from nothing again."""
    return HOUR - int(time()) % HOUR


def _cache() -> BaseCache:
    found: BaseCache = caches[configuration().cache or DEFAULT_CACHE_ALIAS]
    return found


def _name(scope: str) -> str:
    return f"django_idempotency:keys:{int(time()) // HOUR}:{scope}"


def _complain(error: Exception) -> None:
    logger.warning("New keys are not counted: the cache does not answer (%s)", cause_of(error))
