"""Django's local-memory cache, under names that do not depend on the thread."""

from copy import copy
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import default_key_func
from django.core.cache.backends.locmem import LocMemCache


def is_local(alias: str) -> bool:
    """Whether a cache is in the memory of this process."""
    return isinstance(caches[alias], LocMemCache)


def local_cache(alias: str) -> Any:
    """Return a cache on the memory of ``alias`` that leaves its ``KEY_FUNCTION`` alone.

    Why: see :meth:`.redis.Redis._key`.
    """
    cache: Any = copy(caches[alias])
    cache.key_func = default_key_func
    return cache
