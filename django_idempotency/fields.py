"""Columns and an index whose types are the database's."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.ddl_references import Statement

from .protocol.record import State


def _dialect_of(connection: Any) -> Any:
    from .stores.database.dialects import dialect_of  # which names the columns of the models

    return dialect_of(connection)


class ExactCharField(models.CharField):  # type: ignore[type-arg]
    """Text whose equality is equality of characters: no case folding, no padding.

    MySQL and MariaDB collations fold case, and most of them ignore trailing spaces, so the
    column is binary there. PostgreSQL gets the ``C`` collation; SQLite compares bytes already.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        exact: str | None = _dialect_of(connection).column_type(self.max_length)
        return exact or super().db_type(connection)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        collation = _dialect_of(connection).collation
        return parameters | {"collation": collation} if collation else parameters

    def from_db_value(self, value: Any, *args: object) -> Any:
        return value.decode() if isinstance(value, bytes) else value


class ClaimedIndex(models.Index):
    """Holds claimed records only, where the database has partial indexes; nothing elsewhere.

    Not ``Index(condition=...)``: on MySQL and MariaDB, which have no partial indexes, Django would
    make an index of all records, that no query uses and every first request pays for. SQLite does
    not use one for a value that comes as a parameter.
    """

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        if not has_claimed_index(schema_editor.connection):
            return _NOTHING
        claimed = models.Q(state=State.CLAIMED.value)
        index = models.Index(fields=self.fields, name=self.name, condition=claimed)
        return index.create_sql(model, schema_editor, using, **kwargs)

    def remove_sql(self, model: Any, schema_editor: Any, **kwargs: Any) -> Any:
        if not has_claimed_index(schema_editor.connection):
            return _NOTHING
        return super().remove_sql(model, schema_editor, **kwargs)


def has_claimed_index(connection: Any) -> bool:
    """Whether claimed records are found without reading others."""
    return bool(_dialect_of(connection).has_partial_index)


_NOTHING = Statement("SELECT 1")
