"""The store's clock: the one that decides about expiry."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Func
from django.utils import timezone

NOW = timedelta(0)


def store_time(
    connection: BaseDatabaseWrapper, offset: timedelta = NOW
) -> tuple[str, tuple[Any, ...]]:
    """Return an SQL expression for the present plus ``offset``, and its parameters.

    On MySQL, Django stores UTC unless ``USE_TZ`` is off or the connection has a time zone,
    while ``CURRENT_TIMESTAMP`` is in the server's zone; so it starts from UTC there.
    """
    if connection.vendor == "postgresql":
        return "STATEMENT_TIMESTAMP() + make_interval(secs => %s)", (offset.total_seconds(),)
    if connection.vendor == "mysql":
        zone = connection.timezone or ZoneInfo(settings.TIME_ZONE)
        shift = datetime.now(UTC).astimezone(zone).utcoffset() or NOW
        microseconds = (offset + shift) // timedelta(microseconds=1)
        return "UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND", (microseconds,)
    # SQLite runs on this host: its clock is ours.
    moment = timezone.now() + offset
    return "%s", (connection.ops.adapt_datetimefield_value(moment),)


class StoreTime(Func):
    """The same for queries made by the ORM."""

    output_field = DateTimeField()

    def __init__(self, offset: timedelta = NOW) -> None:
        super().__init__()
        self._offset = offset

    def as_sql(  # type: ignore[override]
        self, compiler: Any, connection: BaseDatabaseWrapper, **kwargs: Any
    ) -> Any:
        sql, parameters = store_time(connection, self._offset)
        return f"({sql})", parameters
