"""Remove the cached copies of deleted and re-encrypted records."""

from typing import Any

from .conf.settings import configuration
from .models import IdempotencyRecord
from .stores.cache.cached_database import forget

__all__ = ["forget_copies"]


def forget_copies(using: str, scope: str, key: str) -> None:
    """Remove the copies of a record, if the settings name a cache.

    :param using: alias of the database of the record
    :raises Outage: if the cache does not answer; do not change the record then, or the cache would
        still replay it
    """
    settings = configuration()
    if settings.cache is not None:
        forget(settings.cache, settings.secret, using, scope, key)


def forget_deleted(instance: IdempotencyRecord, using: str, **kwargs: Any) -> None:
    """Receive deletions made with the ORM. The purge sends none: it removes expired records."""
    forget_copies(using, instance.scope, instance.key)
