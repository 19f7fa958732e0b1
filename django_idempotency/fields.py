"""A text column that compares exactly, on every database."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class ExactCharField(models.CharField):  # type: ignore[type-arg]
    """Text whose equality is equality of characters: no case folding, no padding.

    MySQL and MariaDB collations fold case and most of them ignore trailing spaces, so the
    column is binary there. PostgreSQL gets the ``C`` collation; SQLite compares bytes already.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        if connection.vendor == "mysql":
            return f"varbinary({self.max_length})"
        return super().db_type(connection)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "postgresql":
            parameters["collation"] = "C"
        return parameters

    def from_db_value(self, value: Any, *args: object) -> Any:
        return value.decode() if isinstance(value, bytes) else value
