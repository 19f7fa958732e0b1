"""Writes what was counted: many rows in one statement."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from django.db import connections, models, transaction

from .figures import COLUMNS, LARGEST, Batch, Reuse, Row
from .models import IdempotencyStatistics, ReusedKeys

_PARAMETERS = 10_000
"""Parameters in one statement, where the database does not say how many it takes."""


def write(batch: Batch, using: str) -> None:
    """Add numbers to the tables: one statement for some hundred rows, and one for reused keys.

    :param using: alias of the database
    """
    hours = [(*row, *numbers) for row, numbers in batch.rows()]
    reuses = [(*reuse, times) for reuse, times in sorted(batch.reuses.items())]
    statements = [
        *_upserts(connections[using], IdempotencyStatistics, Row._fields, COLUMNS, hours),
        *_upserts(connections[using], ReusedKeys, Reuse._fields, ("times",), reuses),
    ]
    block = transaction.atomic(using) if statements[1:] else nullcontext()
    with block, connections[using].cursor() as cursor:
        for sql, parameters in statements:
            cursor.execute(sql, parameters)


def _upserts(
    connection: Any,
    model: type[models.Model],
    identity: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
) -> Iterator[tuple[str, list[Any]]]:
    """Yield statements that insert rows, or add to those that are there, and their parameters.

    Django's ``bulk_create()`` can replace values, but not add to them.

    :param identity: names of the columns that tell rows apart
    :param columns: names of those with numbers
    :param rows: each at most once, and in their order: in another one, processes would wait for
        each other in a circle
    """
    quoted = connection.ops.quote_name
    table = quoted(model._meta.db_table)
    if connection.features.supports_update_conflicts_with_target:
        target = ", ".join(map(quoted, identity))
        is_there, old, new = f"ON CONFLICT ({target}) DO UPDATE SET", f"{table}.%s", "excluded.%s"
    else:
        is_there, old, new = "ON DUPLICATE KEY UPDATE", "%s", "VALUES(%s)"
    changes = []
    for name in map(quoted, columns):
        known, more = old % name, new % name
        if name == quoted(LARGEST):  # each database has another function for that
            changes.append(f"{name} = CASE WHEN {known} < {more} THEN {more} ELSE {known} END")
        else:
            changes.append(f"{name} = {known} + {more}")
    names = ", ".join(map(quoted, (*identity, *columns)))
    width = len(identity) + len(columns)
    one = f"({', '.join(['%s'] * width)})"
    size = (connection.features.max_query_params or _PARAMETERS) // width
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        values = ", ".join([one] * len(part))
        sql = f"INSERT INTO {table} ({names}) VALUES {values} {is_there} {', '.join(changes)}"
        yield sql, [value for row in part for value in row]
