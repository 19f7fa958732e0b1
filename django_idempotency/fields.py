"""What is the database's in the tables: types of columns, an index, room in the pages."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.ddl_references import Statement
from django.db.migrations.operations.base import Operation


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


class OpenIndex(models.Index):
    """Holds records whose outcome is open, where the database has partial indexes; nothing
    elsewhere.

    Not ``Index(condition=...)``: on MySQL and MariaDB, which have no partial indexes, Django would
    make an index of all records, that no query uses and every first request pays for. SQLite does
    not use one for a value that comes as a parameter.
    """

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        if not has_open_index(schema_editor.connection):
            return _NOTHING
        is_open = models.Q(outcome_open=True)
        index = models.Index(fields=self.fields, name=self.name, condition=is_open)
        return index.create_sql(model, schema_editor, using, **kwargs)

    def remove_sql(self, model: Any, schema_editor: Any, **kwargs: Any) -> Any:
        if not has_open_index(schema_editor.connection):
            return _NOTHING
        return super().remove_sql(model, schema_editor, **kwargs)


def has_open_index(connection: Any) -> bool:
    """Whether records whose outcome is open are found without reading others."""
    return bool(_dialect_of(connection).has_partial_index)


_NOTHING = Statement("SELECT 1")


class SetStorage(Operation):
    """Tells PostgreSQL to leave room in the pages of the table of records."""

    def state_forwards(self, app_label: str, state: Any) -> None: ...

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        connection = schema_editor.connection
        record = to_state.apps.get_model(app_label, "IdempotencyRecord")
        sql = _dialect_of(connection).storage_sql
        if sql and self.allow_migrate_model(connection.alias, record):
            schema_editor.execute(_dialect_of(connection).sql(sql))

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None: ...

    def describe(self) -> str:
        return "Set how the table of records is stored"
