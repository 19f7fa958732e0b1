"""A database without the table of records."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from django_idempotency.models import IdempotencyRecord

TABLE = IdempotencyRecord._meta.db_table


@contextmanager
def no_table() -> Iterator[None]:
    """The database works, and cannot keep records."""
    rename("TABLE", TABLE, "elsewhere")
    try:
        yield
    finally:
        rename("TABLE", "elsewhere", TABLE)


def rename(kind: str, old: str, new: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER {kind} {old} RENAME TO {new}")
