"""The store's clock in queries of the ORM, and what errors mean on any of the databases."""

from datetime import timedelta
from typing import Any

from django.db import Error
from django.db.models import DateTimeField, Func

from .base import DIALECTS, NOW, dialect_of


def is_refused_in_transactions(error: Error) -> bool:
    """Whether a statement must be the first one of a transaction, or outside of one. The error may
    come from any of the databases."""
    return any(
        dialect.code_of(error) in dialect.refused_in_transaction for dialect in DIALECTS.values()
    )


class StoreTime(Func):
    """The store's clock, which decides about expiry, for queries made by the ORM.

    :param offset: added to the present
    """

    output_field = DateTimeField()

    def __init__(self, offset: timedelta = NOW) -> None:
        super().__init__()
        self._offset = offset

    def as_sql(self, compiler: Any, connection: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        dialect = dialect_of(connection)
        return f"({dialect.clock})", (dialect.time(self._offset),)
