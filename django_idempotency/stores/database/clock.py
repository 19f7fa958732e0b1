"""The store's clock: the one that decides about expiry."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Func

NOW = timedelta(0)


def store_time(
    connection: BaseDatabaseWrapper, offset: timedelta = NOW
) -> tuple[str, tuple[Any, ...]]:
    """Return an SQL expression for the present plus ``offset``, and its parameters.

    Where columns have no time zone it is UTC, whatever ``USE_TZ`` and ``TIME_ZONE`` say: an hour
    that daylight saving repeats or skips must not change a retention.
    """
    microseconds = offset // timedelta(microseconds=1)
    if connection.vendor == "postgresql":
        return "STATEMENT_TIMESTAMP() + %s::interval", (f"{microseconds} microseconds",)
    if connection.vendor == "mysql":
        return "UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND", (microseconds,)
    # SQLite runs on this host: its clock is ours.
    return "%s", (str(datetime.now(UTC).replace(tzinfo=None) + offset),)


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
