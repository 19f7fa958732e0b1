"""What happens to a transaction behind our back."""

from typing import Any, cast

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..stores.contention import ends_transaction


class Watch:
    """Watches the statements of an attempt, as an execute wrapper.

    A view may catch a database error and answer as if nothing had happened, although Django or
    the database has undone its writes. Such an answer must not be stored as a success.

    :param has_request_block: Django's ``ATOMIC_REQUESTS`` block is a savepoint in this transaction
    """

    def __init__(self, connection: BaseDatabaseWrapper, has_request_block: bool) -> None:
        self._connection = cast(Any, connection)
        self._depth = len(self._connection.savepoint_ids) if has_request_block else -1
        self._earlier = self._connection.rollback_exc
        self._rolled_back = False
        self._ended_by: OperationalError | None = None

    def __call__(self, execute: Any, sql: Any, *rest: Any) -> Any:
        try:
            result = execute(sql, *rest)
        except OperationalError as error:
            if ends_transaction(error):
                self._ended_by = error
            raise
        if isinstance(sql, str) and sql.startswith("ROLLBACK TO SAVEPOINT"):
            # Leaving Django's block, its savepoint is off the list already.
            self._rolled_back |= len(self._connection.savepoint_ids) == self._depth
        return result

    @property
    def is_undone(self) -> bool:
        """Whether the view's writes are gone or will be."""
        connection = self._connection
        return self._rolled_back or connection.needs_rollback or self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether the transaction, and the lock with it, has ended."""
        connection = self._connection
        closed = connection.closed_in_transaction or connection.connection is None
        return closed or self._ended_by is not None

    @property
    def is_accident(self) -> bool:
        """Whether that was an error rather than the view's wish (``set_rollback``)."""
        return self.is_lost or self._connection.rollback_exc is not self._earlier
