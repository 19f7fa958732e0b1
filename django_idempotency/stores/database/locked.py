"""Who holds the row locks of several records. Nothing here waits for anybody."""

import json
from collections.abc import Collection
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ...models import IdempotencyRecord, IdempotencyStep

EACH = (
    "FROM JSON_TABLE(%s, '$[*]' COLUMNS (id BIGINT PATH '$')) AS wanted "
    "STRAIGHT_JOIN {table} AS r FORCE INDEX (PRIMARY) ON r.{id} = wanted.id"
)
"""For MySQL and MariaDB: the records with these ids (a JSON array), each looked up alone.

For a list of keys InnoDB reads ranges, waits in a DELETE for rows it does not want, and locks
living records on the way. Without the hint it would read a small table as a whole.
"""
# A row carries the number of the transaction that locked it, and while that runs, it holds a
# lock on its own number.
_HELD = (
    "SELECT {id} FROM {table} WHERE {id} = ANY(%s) AND xmax IN "
    "(SELECT transactionid FROM pg_locks WHERE transactionid IS NOT NULL AND granted)"
)
_FREE = "SELECT r.{id} " + EACH + " FOR UPDATE SKIP LOCKED"


def locked_records(using: str, ids: Collection[int]) -> frozenset[int] | None:
    """Return which of these records are locked, and so in flight (or were removed just now).

    PostgreSQL is asked, and nothing is locked for it. MySQL and MariaDB do not say; there the
    records that are free are locked for a moment, as a retry would lock them.

    :return: ``None`` where nobody can say: on SQLite, which locks all or nothing, and on MySQL
        inside a transaction, which would keep what it locks until its end
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        return frozenset(_ids(connection, _HELD, list(ids)) if ids else ())
    if connection.vendor != "mysql" or connection.in_atomic_block:
        return None
    if not ids:
        return frozenset()
    with transaction.atomic(using=using):
        free = _ids(connection, _FREE, json.dumps(list(ids)))
        transaction.set_rollback(True, using=using)
    return frozenset(ids) - frozenset(free)


def named(connection: BaseDatabaseWrapper, sql: str) -> str:
    """Put the quoted names of the tables and their columns into a statement."""
    quote, meta = connection.ops.quote_name, IdempotencyRecord._meta
    columns = {field.name: quote(str(field.column)) for field in meta.concrete_fields}
    return sql.format(
        table=quote(meta.db_table),
        steps=quote(IdempotencyStep._meta.db_table),
        record_id=quote("record_id"),
        **columns,
    )


def _ids(connection: BaseDatabaseWrapper, sql: str, ids: Any) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(named(connection, sql), [ids])
        return [pk for (pk,) in cursor.fetchall()]
