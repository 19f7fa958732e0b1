"""Let time pass for records that are in a cache alone: for tests, which cannot move its clock."""

from datetime import timedelta
from time import time
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import default_key_func

from ...extras import require
from ...protocol.envelope import prefix_of
from ..cache import scripts
from ..cache.local import is_local, local_cache
from ..cache.store import KIND


def let_time_pass(cache: str, by: timedelta) -> None:
    """Let every record of a cache expire so much earlier. Leases stay as they are.

    No test may run requests at the same time.

    :param cache: alias of the cache
    """
    backend = caches[cache]
    start = default_key_func(prefix_of(KIND), backend.key_prefix, backend.version)
    if is_local(cache):
        _in_memory(cache, start, by)
    else:
        _in_redis(cache, start, by)


def _in_memory(cache: str, start: str, by: timedelta) -> None:
    memory = local_cache(cache)
    for full in [each for each in memory._cache if each.startswith(start)]:
        name = prefix_of(KIND) + full.removeprefix(start)
        known: dict[str, Any] | None = memory.get(name)
        if known is not None:
            known["expires"] -= by.total_seconds()
            end = max(known["lease"], known["expires"]) + known["tombstone"]
            memory.set(name, known, end - time())


def _in_redis(cache: str, start: str, by: timedelta) -> None:
    require("django_redis", "redis", 'The store "cache"')
    from django_redis import get_redis_connection

    client = get_redis_connection(cache, write=True)
    literally = "".join(f"\\{char}" if char in "*?[]\\" else char for char in start)
    for key in list(client.scan_iter(f"{literally}*")):
        client.eval(scripts.AGE, 1, key, by // timedelta(milliseconds=1))
