"""Check that somebody purges: expired records are of no use, and stay until they are removed."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import DatabaseError

from ..contract.tombstones import longest_tombstone
from ..models import IdempotencyRecord
from ..stores.database.dialects import StoreTime
from .configuration import TAG, valid_configuration
from .databases import VENDORS, connection_of_records

_PATIENCE = timedelta(days=7)
"""Who purges at least once a week is not warned."""


@register(TAG, Tags.database, deploy=True)
def check_purge(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W042: a record has been expired for longer than any purge would leave it."""
    connection, valid = connection_of_records(), valid_configuration()
    if connection is None or valid is None or connection.vendor not in VENDORS:
        return []
    if connection.alias not in (databases or ()):
        return []
    latest = _PATIENCE + longest_tombstone()
    records = IdempotencyRecord._base_manager.using(connection.alias)
    try:
        left = records.filter(expires_at__lte=StoreTime(-latest)).exists()
    except DatabaseError:  # Before the first migration there is no table.
        return []
    return [_never_purged(connection, latest)] if left else []


def _never_purged(connection: Any, latest: timedelta) -> CheckMessage:
    return Warning(
        f'Database "{connection.alias}" has idempotency records that expired more than '
        f"{latest.days} days ago and were not purged.",
        hint="Run manage.py purge_idempotency_records, every hour or every day.",
        id="django_idempotency.W042",
    )
