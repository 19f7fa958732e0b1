"""Check that the server compares keys exactly.

The migrations see to that. A table that was made by hand, or copied with another collation, may
take two keys for one: their callers would get each other's answers.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from ..models import IdempotencyRecord
from .configuration import TAG
from .databases import connection_of_records

_COMPARED = ("key", "scope", "fingerprint")

# PostgreSQL compares bytes, unless the collation is nondeterministic. Other types than these
# ignore spaces at the end (character) or case (citext).
_POSTGRESQL = """
    SELECT a.attname, format_type(a.atttypid, NULL), COALESCE(c.collisdeterministic, TRUE)
    FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = to_regclass(%s) AND a.attname IN (%s, %s, %s)
"""
# MySQL's text has collations that fold case and ignore spaces at the end; binary columns do not.
_MYSQL = """
    SELECT column_name, data_type, data_type = 'varbinary' FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = %s AND column_name IN (%s, %s, %s)
"""


@register(TAG, Tags.database)
def check_columns(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """E042."""
    connection = connection_of_records()
    if connection is None or connection.alias not in (databases or ()):
        return []
    ask = _QUESTIONS.get(connection.vendor)
    folded = [] if ask is None else list(ask(connection))
    return [_inexact(connection, folded)] if folded else []


def _postgresql(connection: Any) -> Iterator[str]:
    table = connection.ops.quote_name(IdempotencyRecord._meta.db_table)
    for name, kind, is_exact in _rows(connection, _POSTGRESQL, table):
        if kind not in ("character varying", "text") or not is_exact:
            yield f"{name} ({kind})"


def _mysql(connection: Any) -> Iterator[str]:
    for name, kind, is_exact in _rows(connection, _MYSQL, IdempotencyRecord._meta.db_table):
        if not is_exact:
            yield f"{name} ({kind})"


def _rows(connection: Any, question: str, table: str) -> list[tuple[str, str, bool]]:
    with connection.cursor() as cursor:
        cursor.execute(question, [table, *_COMPARED])
        rows: list[tuple[str, str, bool]] = cursor.fetchall()
        return rows


_QUESTIONS: dict[str, Callable[[Any], Iterator[str]]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
}


def _inexact(connection: Any, columns: list[str]) -> CheckMessage:
    table = connection.ops.quote_name(IdempotencyRecord._meta.db_table)
    kind = "varbinary" if connection.vendor == "mysql" else 'varchar COLLATE "C"'
    return Error(
        f'Columns of the table {table} in database "{connection.alias}" do not compare exactly: '
        f"{', '.join(sorted(columns))}. Different keys could be taken for one.",
        hint=f"Make them {kind} again, as the migrations do.",
        id="django_idempotency.E042",
    )
