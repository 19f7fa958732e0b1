"""What an attempt sends to lock and to complete its record, as text.

Compiled by the ORM anew for each request, these two took nearly half of a guarded request's
processor time; as text they take a tenth of that.
"""

from datetime import timedelta

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from ..protocol.record import Snapshot, State, StoredResponse
from .clock import store_time
from .rows import COLUMNS, columns, snapshot


class RecordStatements:
    """Locks and completes records on one connection.

    :param connection: Django's connection, which quotes and adapts
    :param model: the record
    """

    def __init__(self, connection: BaseDatabaseWrapper, model: type[models.Model]) -> None:
        self._connection = connection
        quote = connection.ops.quote_name
        fields = model._meta.concrete_fields
        self._names = {field.name: quote(str(field.column)) for field in fields}
        self._table = quote(model._meta.db_table)

    def lock(self, record_id: int, is_patient: bool) -> Snapshot | None:
        """Lock a record until the transaction ends; ``None`` if it is locked or gone."""
        # SKIP LOCKED rather than NOWAIT: an error would end the transaction and fill the log.
        # By primary key: InnoDB then leaves the unique index free for the claims of rivals.
        # SQLite knows no such clause; there the transaction itself is the lock.
        connection, names = self._connection, self._names
        selected = ", ".join(names[name] for name in COLUMNS)
        moment, parameters = store_time(connection)
        for_update = ""
        if connection.features.has_select_for_update:
            for_update = connection.ops.for_update_sql(skip_locked=not is_patient)
        sql = (
            f"SELECT {selected}, {names['expires_at']} <= {moment}, 0, 0 FROM {self._table} "
            f"WHERE {names['id']} = %s {for_update}"
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, (*parameters, record_id))
            row = cursor.fetchone()
        return None if row is None else snapshot(row)

    def complete(self, record: Snapshot, response: StoredResponse, retention: timedelta) -> bool:
        """Store the response of a claimed record; ``False`` if it is not this attempt's now."""
        connection, names = self._connection, self._names
        values = columns(response)
        # MySQL would take the bytes for text of the connection's character set.
        binary = connection.vendor == "mysql" and values["response_body"] is not None
        given = [
            f"{names[name]} = {'_binary ' if binary and name == 'response_body' else ''}%s"
            for name in values
        ]
        completed, completed_parameters = store_time(connection)
        expires, expires_parameters = store_time(connection, retention)
        sql = (
            f"UPDATE {self._table} SET {names['state']} = %s, {names['completed_at']} = "
            f"{completed}, {names['expires_at']} = {expires}, {', '.join(given)} "
            f"WHERE {names['id']} = %s AND {names['attempt']} = %s AND {names['state']} = %s"
        )
        parameters = (
            str(State.COMPLETED),
            *completed_parameters,
            *expires_parameters,
            *values.values(),
            *(record.id, record.attempt, str(State.CLAIMED)),
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            updated: int = cursor.rowcount
        return updated == 1
