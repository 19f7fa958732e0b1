"""Table statistics: how large the table of records is, and where in it an age begins.

No statement reads the whole table.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.db import connections

from ...models import IdempotencyRecord
from ...protocol.record import State
from .dialects import dialect_of

COUNTED = 10_000
"""Maximum number of records to count; a larger table is estimated by the database."""

WIDTH = 100_000
"""Maximum number of rows that one unindexed query scans."""

PROBES = 128
"""Maximum number of places that one statement reads."""

_COUNT = "SELECT COUNT(*) FROM (SELECT {id} FROM {table} ORDER BY {id} DESC LIMIT %s) AS counted"
# Each end asked for alone, MySQL and MariaDB look only there.
_END = "SELECT %s({id}) FROM {table}"
_PROBE = "(SELECT {created_at} < {clock} FROM {table} WHERE {id} >= %s ORDER BY {id} LIMIT 1)"


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """Size of the table.

    :ivar first: primary key of the first record; 0 if there is none
    :ivar last: primary key of the last record
    :ivar count: number of records; ``None`` if there are many and the database has no estimate
    :ivar is_exact: counted, not estimated
    """

    first: int
    last: int
    count: int | None
    is_exact: bool


def table_statistics(using: str) -> TableStatistics:
    """Return statistics of the record table, by one statement."""
    connection = connections[using]
    dialect = dialect_of(connection)
    sql = f"SELECT ({_END % 'MIN'}), ({_END % 'MAX'}), ({_COUNT}), ({dialect.estimate})"
    with connection.cursor() as cursor:
        cursor.execute(dialect.sql(sql), [COUNTED + 1])
        first, last, counted, estimated = cursor.fetchone()
    if counted <= COUNTED:
        return TableStatistics(first or 0, last or 0, counted, True)
    # No estimate, or one that the count has disproved: the server has not analyzed the table.
    count = int(estimated) if estimated and estimated > COUNTED else None
    return TableStatistics(first, last, count, False)


def claimed_limit(using: str) -> int:
    """Return how many claimed records are looked at at a time: fewer where finding out which of
    them are in flight means to lock them."""
    return 200 if dialect_of(connections[using]).locks_ranges else 1000


def newest_claimed(using: str, after: int, limit: int) -> list[int]:
    """Return the primary keys of the newest claimed records.

    :param after: primary key before the first one that is looked at
    """
    claimed = IdempotencyRecord.rows(using).filter(state=State.CLAIMED, pk__gt=after)
    return list(claimed.order_by("-pk").values_list("pk", flat=True)[:limit])


def since(using: str, whole: TableStatistics, age: timedelta, precision: int) -> tuple[int, int]:
    """Return two primary keys, between which the first record created within ``age`` is.

    No index has the times of creation, but primary keys grow with time: so a search by primary
    key, at many places in one statement, narrows it down. Records of the same moment may have their
    keys in another order, so the caller compares times, too.

    :param precision: how far the two keys may lie apart
    :return: records before the first key are older; those from the second on are not
    """
    low, high = whole.first, whole.last + 1
    while True:
        step = max(1, (high - low) // PROBES)
        places = list(range(low + step, high, step))
        older = sum(_are_older(using, age, places)) if places else 0
        low, high = [low, *places, high][older : older + 2]
        if high - low <= max(1, precision):
            return low, high


def _are_older(using: str, age: timedelta, places: list[int]) -> list[bool]:
    connection = connections[using]
    dialect = dialect_of(connection)
    probe = dialect.sql(_PROBE)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join([probe] * len(places))}",
            [value for place in places for value in (dialect.time(-age), place)],
        )
        return [bool(answer) for answer in cursor.fetchone()]
