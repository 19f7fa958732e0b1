"""Statements as text, made once per kind of database and process."""

from collections.abc import Iterable
from typing import TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from ...models import IdempotencyRecord
from .clock import store_time


class Sql:
    """What statements about records are made of.

    :param connection: Django's connection, which quotes; it is not kept
    :ivar names: quoted columns by the names of their fields
    :ivar table: quoted
    :ivar moment: the store's clock, plus what its parameter says
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        quote = connection.ops.quote_name
        fields = IdempotencyRecord._meta.concrete_fields
        self.names = {field.name: quote(str(field.column)) for field in fields}
        self.table = quote(IdempotencyRecord._meta.db_table)
        self.moment, _ = store_time(connection)

    def list(self, fields: Iterable[str]) -> str:
        return ", ".join(self.names[name] for name in fields)


T = TypeVar("T", bound=Sql)

_made: dict[tuple[type[Sql], str], Sql] = {}


def sql_of(connection: BaseDatabaseWrapper, kind: type[T]) -> T:
    """Return the texts of this kind for the connection's database."""
    found = _made.get((kind, connection.vendor))
    if found is None:
        found = _made[kind, connection.vendor] = kind(connection)
    return found  # type: ignore[return-value]
