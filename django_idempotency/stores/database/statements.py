"""What an attempt sends to lock and to complete its record, as text.

Compiled by the ORM anew for each request, these two took nearly half of a guarded request's
processor time (decision 0060).
"""

from datetime import timedelta

from django.db.backends.base.base import BaseDatabaseWrapper

from ...protocol.record import Snapshot, State, StoredResponse
from .clock import store_time
from .cursors import cursor_of
from .rows import COLUMNS, RESPONSE_COLUMNS, response_values, snapshot
from .sql import Sql, sql_of

_SAME_TRANSACTION = " AND pg_current_xact_id() = COALESCE(%s::xid8, pg_current_xact_id())"


class RecordStatements(Sql):
    """Locks and completes records."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        locks = connection.features.has_select_for_update
        self._names_transaction = connection.vendor == "postgresql"
        self._locks = [
            self._lock(connection.ops.for_update_sql(skip_locked=not is_patient) if locks else "")
            for is_patient in (False, True)
        ]
        self._completes = self._completion("%s")
        # MySQL would take the bytes for text of the connection's character set.
        binary = "_binary %s" if connection.vendor == "mysql" else "%s"
        self._completes_with_body = self._completion(binary)

    def _lock(self, for_update: str) -> str:
        names = self.names
        lock = (
            f"SELECT {self.list(COLUMNS)}, {names['expires_at']} <= {self.moment}, 0, 0, "
            f"{names['scope']}, {names['key']} "
            f"FROM {self.table} WHERE {names['id']} = %s {for_update}"
        )
        if not self._names_transaction:
            return lock.strip()
        # Around the lock, so that a request that does not get it takes no transaction id.
        return f"SELECT locked.*, pg_current_xact_id()::text FROM ({lock}) AS locked"

    def _completion(self, body: str) -> str:
        names = self.names
        given = ", ".join(
            f"{names[name]} = {body if name == 'response_body' else '%s'}"
            for name in RESPONSE_COLUMNS
        )
        return (
            f"UPDATE {self.table} SET {names['state']} = %s, "
            f"{names['completed_at']} = {self.moment}, {names['expires_at']} = {self.moment}, "
            f"{given} "
            f"WHERE {names['id']} = %s AND {names['attempt']} = %s AND {names['state']} = %s "
            f"AND {names['key']} = %s AND {names['scope']} = %s"
        ) + (_SAME_TRANSACTION if self._names_transaction else "")

    def lock(
        self, connection: BaseDatabaseWrapper, record_id: int, is_patient: bool
    ) -> Snapshot | None:
        """Lock a record until the transaction ends; ``None`` if it is locked or gone."""
        # SKIP LOCKED rather than NOWAIT: an error would end the transaction and fill the log.
        # By primary key: InnoDB then leaves the unique index free for the claims of rivals.
        # SQLite knows no such clause; there the transaction itself is the lock.
        _, moment = store_time(connection)
        with cursor_of(connection) as cursor:
            cursor.execute(self._locks[is_patient], (*moment, record_id))
            row = cursor.fetchone()
        if row is None:
            return None
        transaction = row[-1] if self._names_transaction else None
        *values, scope, key = row[:-1] if self._names_transaction else row
        return snapshot(values, scope, key, transaction)

    def complete(
        self,
        connection: BaseDatabaseWrapper,
        record: Snapshot,
        response: StoredResponse,
        retention: timedelta,
    ) -> bool:
        """Store the response of a claimed record; ``False`` if it is not this attempt's now.

        A view may have left another schema's table in the place of ours, or (PostgreSQL) another
        transaction than the one that locked the record: so scope, key and transaction are named.
        """
        _, completed = store_time(connection)
        _, expires = store_time(connection, retention)
        parameters = (
            str(State.COMPLETED),
            *completed,
            *expires,
            *response_values(response),
            *(record.id, record.attempt, str(State.CLAIMED), record.key, record.scope),
            *([record.transaction] if self._names_transaction else []),
        )
        with cursor_of(connection) as cursor:
            cursor.execute(
                self._completes if response.omitted else self._completes_with_body, parameters
            )
            updated: int = cursor.rowcount
        return updated == 1


def record_statements(connection: BaseDatabaseWrapper) -> RecordStatements:
    """Return the statements in the connection's dialect."""
    return sql_of(connection, RecordStatements)
