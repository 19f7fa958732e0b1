"""MySQL and MariaDB, with InnoDB: a claim in one statement on MariaDB, in two on MySQL; transaction
control travels with the lock and the store."""

import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction

from ....compat.django import (
    enter_without_sending,
    remove_wrapper,
    skip_commit,
    switch_autocommit_off,
)
from ....compat.mysqlclient import is_in_autocommit, sends_several
from ....models import IdempotencyRecord
from ....protocol.record import Claim, Snapshot
from ..rows import snapshot
from .base import DIALECTS, NOW, Dialect, rows_of
from .endings import ROLLBACK, Endings
from .sql import COMPARED, COMPLETE, START
from .values import Keepalive, ServerFault, TransactionStatus

_MICROSECOND = timedelta(microseconds=1)

# The records with these ids (a JSON array), each looked up alone. For a list of keys InnoDB reads
# ranges, waits in a DELETE for rows it does not want, and locks living records on the way. Without
# the hint it would read a small table as a whole.
_EACH = (
    "FROM JSON_TABLE(%s, '$[*]' COLUMNS (id BIGINT PATH '$')) AS wanted "
    "STRAIGHT_JOIN {table} AS r FORCE INDEX (PRIMARY) ON r.{id} = wanted.id"
)

_MARK = "idempotency_lock"
"""A savepoint in the transaction that has locked a record. It is gone if that has ended, whoever
ended it: neither the servers nor their drivers tell one transaction from another."""

# Several statements travel as one text. A compound statement would cost the server half as much
# again, and MySQL has none outside of procedures.
_SET_MARK = f"SAVEPOINT {_MARK}; "
_ASK_FOR_MARK = f"RELEASE SAVEPOINT {_MARK}; "

# Proxies that route by the text know by its first words that a transaction begins; a text that
# begins with SET some take for no more than that. With autocommit off, nothing commits by itself
# that is sent after the server has rolled back.
_BEGIN = "START TRANSACTION; SET autocommit = 0; "
# To switch autocommit on is to commit, and a store that matches no row switches nothing on.
_COMMIT = "; SET autocommit = (ROW_COUNT() = 1)"


class Mysql(Dialect):
    """MySQL 8.0.11 and newer, MariaDB 10.6 and newer."""

    name = "mysql"
    knows_transaction_status = False
    locks_ranges = True
    exact_type = "varbinary"
    quote = "`"

    clock = "UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND"

    def time(self, offset: timedelta = NOW) -> int:
        return offset // _MICROSECOND

    insert_sql = "INSERT IGNORE INTO {table} ({inserted}) VALUES ({values})"

    compound_sql = (
        "BEGIN NOT ATOMIC DECLARE known, created INT DEFAULT 0; "
        "SELECT COUNT(*) INTO known FROM {table} WHERE {match}; IF known = 0 THEN "
        "INSERT IGNORE INTO {table} ({inserted}) VALUES ({values}); "
        "SET created = ROW_COUNT(); END IF; "
        "SELECT {seen}, created AS fresh FROM {table} WHERE {match}; END"
    )

    def claim(self, connection: Any, claim: Claim, waits_for_disk: bool) -> Snapshot | None:
        """On MariaDB in one compound statement. The insert does not wait: attempts lock the row by
        its primary key, not through the unique index. The look before it is no condition of
        ``IF``: InnoDB reads those with a shared lock, and would wait for a purge to commit."""
        if not connection.mysql_is_mariadb:
            return super().claim(connection, claim, waits_for_disk)
        match = (claim.key, claim.scope)
        seen = (self.time(), self.time(-claim.tombstone))
        with connection.cursor() as cursor:
            parameters = (*match, *self.claim_values(claim), *seen, *match)
            cursor.execute(self.sql(self.compound_sql), parameters)
            row = cursor.fetchone()
            # A compound statement ends with a second, empty result that must be read.
            while cursor.nextset():
                pass
        return None if row is None else snapshot(row, claim.scope, claim.key)

    # The server would take the bytes for text of the connection's character set.
    complete_sql = (
        COMPLETE.replace("{response_body} = %s", "{response_body} = _binary %s"),
        COMPLETE,
    )

    def write(self, connection: Any, sql: str, values: Sequence[Any], commits: bool) -> bool:
        session = connection.connection
        if not (commits and connection.in_atomic_block and sends_several(session)):
            return super().write(connection, sql, values, commits)
        with connection.cursor() as cursor:
            cursor.execute(f"{self.sql(sql)}; SET autocommit = 1", values)
            written = bool(cursor.rowcount == 1)
            while cursor.nextset():
                pass
        skip_commit(connection, lambda: is_in_autocommit(connection.connection))
        return written

    start_sql = START

    def start(self, connection: Any, record_id: int, attempt: int, payload: Sequence[str]) -> bool:
        """``INSERT IGNORE`` would also cut what is too long."""
        try:
            return super().start(connection, record_id, attempt, payload)
        except IntegrityError:
            return False

    def enter(self, block: transaction.Atomic, connection: Any, locks_next: bool = False) -> None:
        """Begin with the lock if that comes next, as psycopg begins with the first statement.
        Should another one come first, that begins."""
        if locks_next and not connection.in_atomic_block and sends_several(connection.connection):
            enter_without_sending(connection, block, _begin_first)
        else:
            block.__enter__()

    def lock(
        self, connection: Any, record_id: int, waits: bool, stays_idle: bool = False
    ) -> Snapshot | None:
        """Unless it waits, mark the transaction in the same round trip."""
        is_alone = waits or not connection.in_atomic_block
        if is_alone or not sends_several(connection.connection):
            return super().lock(connection, record_id, waits)
        sql = self.sql(_SET_MARK + self.lock_sql[False])
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, (self.time(), record_id))
                row = cursor.fetchone()
                while cursor.nextset():
                    row = cursor.fetchone()
        finally:
            remove_wrapper(connection, _begin_first)
        # Nothing is sent, unless a proxy has not let the driver know that it is off.
        switch_autocommit_off(connection)
        return self.locked(row, _MARK)

    def write_last(
        self, connection: Any, record: Snapshot, sql: str, values: Sequence[Any], commits: bool
    ) -> bool:
        """Ask for the mark, write, and commit, in one round trip.

        :raises django.db.OperationalError: see :meth:`found_it_ended`
        """
        if not record.transaction or not connection.in_atomic_block:
            return super().write_last(connection, record, sql, values, commits)
        with connection.cursor() as cursor:
            cursor.execute(self.sql(_ASK_FOR_MARK + sql + _COMMIT * commits), values)
            cursor.nextset()
            written = bool(cursor.rowcount == 1)
            while cursor.nextset():
                pass
        if written and commits:
            # Unless a proxy has not let the driver know: then Django commits as usual.
            skip_commit(connection, lambda: is_in_autocommit(connection.connection))
        return written

    def fuses_commit(self, connection: Any) -> bool:
        return sends_several(connection.connection)

    def found_it_ended(self, error: BaseException) -> bool:
        return self.code_of(error) == _NO_SAVEPOINT and _MARK in str(error)

    def transaction_status(self, session: Any) -> TransactionStatus:
        """In autocommit there is none, and what is sent would be committed at once."""
        return TransactionStatus.ENDED if is_in_autocommit(session) else TransactionStatus.OPEN

    # https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
    endings = Endings(
        rf"COMMIT|BEGIN(?!\s+NOT\s+ATOMIC)|START|XA|{ROLLBACK}|ALTER"
        r"|CREATE(?!\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b)|DROP(?!\s+(?:TEMPORARY|PREPARE)\b)"
        r"|RENAME|TRUNCATE|GRANT|REVOKE|LOCK\s+TABLES?|UNLOCK\s+TABLES?|INSTALL|UNINSTALL|CHANGE"
        r"|FLUSH|RESET|CACHE\s+INDEX|LOAD\s+INDEX|SET\s+PASSWORD"
        r"|(?:ANALYZE|CHECK|OPTIMIZE|REPAIR)\s+(?:\w+\s+)?TABLE"
        r"|SET\b[^;]*\bAUTOCOMMIT\s*:?=\s*(?!0|OFF|FALSE)"
    )

    # Lock wait timeout, deadlock, record changed, NOWAIT refused.
    contention = frozenset({1205, 1213, 1020, 3572})
    old_snapshot = frozenset({1020})
    refused_in_transaction = frozenset({1568})
    not_migrated = frozenset({1146, 1054})

    def code_of(self, error: BaseException) -> Any:
        return error.args[0] if error.args and isinstance(error.args[0], int) else None

    lock_timeout_sql = (
        "SELECT @@SESSION.innodb_lock_wait_timeout",
        "SET SESSION innodb_lock_wait_timeout = %s",
    )

    @contextmanager
    def lock_timeout(self, connection: Any, wait: timedelta) -> Iterator[None]:
        _begin_now(connection)
        with super().lock_timeout(connection, wait):
            yield

    def timeout_value(self, wait: timedelta) -> int:
        """InnoDB counts whole seconds."""
        return math.ceil(wait.total_seconds())

    def remove_free(self, connection: Any, older_than: timedelta, ids: list[int]) -> list[int]:
        """Lock row by row. A locking read of a range would lock the first living record behind it,
        too, and its duplicates would be told that it is in flight."""
        lock = "SELECT r.{id} " + _EACH + " WHERE r.{expires_at} <= {clock} FOR UPDATE SKIP LOCKED"
        found = rows_of(connection, self.sql(lock), (json.dumps(ids), self.time(-older_than)))
        free = [pk for (pk,) in found]
        with connection.cursor() as cursor:
            cursor.execute(self.sql("DELETE r " + _EACH), (json.dumps(free),))
        return free

    def put_off(self, connection: Any, ids: list[int]) -> None:
        if not ids:
            return
        lock = self.sql("SELECT r.{id} " + _EACH + " FOR UPDATE SKIP LOCKED")
        free = [pk for (pk,) in rows_of(connection, lock, (json.dumps(ids),))]
        update = "UPDATE " + _EACH.removeprefix("FROM ") + " SET r.{purge_at} = r.{expires_at}"
        with connection.cursor() as cursor:
            cursor.execute(self.sql(update), (json.dumps(free),))

    def locked_ids(self, connection: Any, ids: Collection[int]) -> frozenset[int] | None:
        """The server does not say, so the records that are free are locked for a moment, as a retry
        would lock them. Inside a transaction those locks would stay until its end."""
        if connection.in_atomic_block:
            return None
        if not ids:
            return frozenset()
        sql = self.sql("SELECT r.{id} " + _EACH + " FOR UPDATE SKIP LOCKED")
        with transaction.atomic(using=connection.alias):
            free = rows_of(connection, sql, [json.dumps(list(ids))])
            transaction.set_rollback(True, using=connection.alias)
        return frozenset(ids) - frozenset(pk for (pk,) in free)

    sha256 = "SHA2(%(expressions)s, 256)"
    estimate = (
        "SELECT table_rows FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND CONCAT('`', table_name, '`') = '{table}'"
    )

    def column_type(self, max_length: int | None) -> str | None:
        return f"varbinary({max_length})"

    def server_faults(self, connection: Any) -> Iterator[tuple[ServerFault, str]]:
        if not connection.features.has_select_for_update_skip_locked:
            version = ".".join(str(part) for part in connection.get_database_version())
            yield ServerFault.NO_SKIP_LOCKED, version
            return
        sql = (
            "SELECT engine FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = %s"
        )
        for (engine,) in rows_of(connection, sql, [IdempotencyRecord._meta.db_table]):
            if engine != "InnoDB":
                yield ServerFault.WRONG_ENGINE, engine

    def inexact_columns(self, connection: Any) -> list[str]:
        """Text has collations that fold case and ignore spaces at the end; binary columns do
        not."""
        rows = rows_of(
            connection,
            """
    SELECT column_name, data_type, data_type = 'varbinary' FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = %s AND column_name IN (%s, %s, %s)
""",
            [IdempotencyRecord._meta.db_table, *COMPARED],
        )
        return [f"{name} ({kind})" for name, kind, is_exact in rows if not is_exact]

    # There is no keepalive variable for a session. wait_timeout ends idle connections, also within
    # a transaction; MariaDB's idle_transaction_timeout ends only the latter. Its
    # idle_write_transaction_timeout does not count: holding a row lock is not yet a write.
    keepalive = Keepalive(
        option="init_command",
        enough=re.compile(r"\b(wait_timeout|idle_transaction_timeout)\b"),
        example="SET SESSION wait_timeout=300",
    )

    def idle_timeout(self, connection: Any) -> int:
        rows = rows_of(
            connection,
            "SHOW SESSION VARIABLES WHERE variable_name IN ('tcp_keepalive_time', "
            "'tcp_keepalive_interval', 'tcp_keepalive_probes', 'wait_timeout', "
            "'idle_transaction_timeout')",
        )
        values = {name: int(value) for name, value in rows}
        idle = values.get("tcp_keepalive_time", 0)
        # Linux sends 9 probes, one in 75 seconds, unless told otherwise.
        interval = values.get("tcp_keepalive_interval") or 75
        probing = interval * (values.get("tcp_keepalive_probes") or 9)
        limits = (
            idle and idle + probing,
            values["wait_timeout"],
            values.get("idle_transaction_timeout", 0),
        )
        return min((limit for limit in limits if limit), default=0)


_NO_SAVEPOINT = 1305


def _begin_first(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    """An execute wrapper, which begins with the first statement after :meth:`Mysql.enter`."""
    connection = context["connection"]
    remove_wrapper(connection, _begin_first)
    if connection.in_atomic_block and is_in_autocommit(connection.connection):
        if isinstance(sql, str) and sql.startswith(_SET_MARK):
            sql = _BEGIN + sql
        else:
            switch_autocommit_off(connection)
    return execute(sql, params, many, context)


def _begin_now(connection: Any) -> None:
    remove_wrapper(connection, _begin_first)
    if connection.in_atomic_block:
        switch_autocommit_off(connection)


DIALECTS[Mysql.name] = Mysql()
