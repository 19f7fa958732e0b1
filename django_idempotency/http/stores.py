"""Which store a policy asks for."""

from django.core.exceptions import ImproperlyConfigured
from django.db import router

from ..conf import configuration
from ..models import IdempotencyRecord
from ..policy import Policy, Store
from ..stores.cache import CacheStore
from ..stores.cached_db import CachedDatabaseStore
from ..stores.db import DatabaseStore
from ..stores.places import place_of


def store_of(policy: Policy, using: str, is_durable: bool = False) -> DatabaseStore:
    """Return the store of one request.

    :param using: alias of the database
    :param is_durable: claims wait for the disk
    """
    if policy.store is Store.CACHED_DB:
        return CachedDatabaseStore(
            using, is_durable, cache=cache_alias(policy), secret=configuration().secret
        )
    return DatabaseStore(using, is_durable)


def cache_store_of(policy: Policy) -> CacheStore:
    """Return the store of one request whose records are in a cache alone."""
    # Not where the database is: a failover must not make records forgotten that are elsewhere.
    place = place_of(records_alias(policy))
    return CacheStore(
        cache_alias(policy), configuration().secret, policy.lease, (place.using, place.schema)
    )


def records_alias(policy: Policy) -> str:
    """Return the alias of the database where records lie; a router may choose by request."""
    return policy.using or router.db_for_write(IdempotencyRecord)


def cache_alias(policy: Policy) -> str:
    """Return the alias of the cache.

    :raises ImproperlyConfigured: if there is none
    """
    alias = configuration().cache
    if alias is None:
        raise ImproperlyConfigured(
            f'The store "{policy.store}" needs a cache. Set IDEMPOTENCY["CACHE"] to its alias.'
        )
    return alias
