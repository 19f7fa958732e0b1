"""Deleted records are forgotten by the cache, too."""

from typing import Any

from django.db.models.signals import pre_delete

from .conf.settings import configuration
from .models import IdempotencyRecord
from .stores.cache.cached_database import forget


def forget_in_cache(instance: Any, using: str, **kwargs: Any) -> None:
    """An operator deletes a record.

    :raises Outage: if the cache does not answer; the record stays, or the cache would replay it
    """
    settings = configuration()
    if settings.cache is not None:
        forget(settings.cache, settings.secret, using, instance.scope, instance.key)


def connect() -> None:
    """Listen for deletions made with the ORM. The purge sends none: what it removes is expired."""
    pre_delete.connect(
        forget_in_cache, sender=IdempotencyRecord, dispatch_uid="django_idempotency.invalidation"
    )
