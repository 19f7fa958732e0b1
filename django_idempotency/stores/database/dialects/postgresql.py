"""PostgreSQL: claims in one statement, ``SKIP LOCKED``, transactions that have numbers."""

import math
import re
from collections.abc import Collection, Sequence
from datetime import timedelta, tzinfo
from functools import lru_cache, partial
from typing import Any
from zoneinfo import ZoneInfo

from django.db import DataError

from ....compat.django import cursor_of
from ....models import IdempotencyRecord
from ....protocol.record import Claim, Snapshot, State
from ..rows import snapshot
from .base import DIALECTS, NOW, SOON, Dialect, rows_of
from .endings import ROLLBACK, Endings
from .sql import COMPARED, COMPLETE, OF_ATTEMPT, WITHDRAW
from .values import Batch, Keepalive, TransactionStatus

pipeline: Any
try:
    from ....compat import psycopg as pipeline
except ImportError:  # psycopg2
    pipeline = None

_LOST = "django_idempotency: the record belongs to another attempt, or is gone"
"""What the server logs."""

_DEALLOCATES = re.compile(r"\b(?:DEALLOCATE|DISCARD)\b", re.IGNORECASE)

# Where they are set, for this transaction: behind a pooler the next one has another session.
_LIFTED = ", ".join(
    f"CASE WHEN current_setting('{name}', TRUE) <> '0' THEN set_config('{name}', '0', TRUE) END"
    for name in ("idle_in_transaction_session_timeout", "transaction_timeout")
)

_MICROSECOND = timedelta(microseconds=1)

_ABORTED = 3
_STATUS = {
    1: TransactionStatus.OPEN,
    2: TransactionStatus.OPEN,
    _ABORTED: TransactionStatus.ABORTED,
}
_ENDED = TransactionStatus.ENDED
"""By the numbers of libpq's ``PQtransactionStatus``: active, in a transaction, in a failed one."""


def _checked(sql: str) -> str:
    """A view may have left another transaction than the one that locked the record. An attempt that
    has lost its record must not commit: where COMMIT follows in the same message, the cast fails.
    """
    return (
        f"WITH stored AS ({sql} "
        "AND pg_current_xact_id() = COALESCE(%s::xid8, pg_current_xact_id()) RETURNING 1) "
        f"SELECT CAST(CASE WHEN COUNT(*) = 1 THEN '1' WHEN %s THEN '{_LOST}' ELSE '0' END AS int) "
        "FROM stored"
    )


class Postgresql(Dialect):
    """PostgreSQL 14 and newer, through psycopg 3 or psycopg2."""

    name = "postgresql"
    has_asynchronous_commit = True
    reads_what_it_locks = True
    has_partial_index = True
    collation = "C"
    exact_type = 'varchar COLLATE "C"'

    clock = "STATEMENT_TIMESTAMP() + %s::interval"

    @staticmethod
    @lru_cache(maxsize=64)
    def time(offset: timedelta = NOW) -> str:
        return f"{offset // _MICROSECOND} microseconds"

    def time_zone(self, connection: Any) -> tzinfo:
        return ZoneInfo(connection.timezone_name)

    if pipeline is not None:
        # One that sends BEGIN and COMMIT in the same round trip, where the connection can do that.
        cursor: Any = staticmethod(partial(cursor_of, pipeline.round_trip))

    def first_row(
        self, connection: Any, sql: str, values: Sequence[Any], commits: bool = False
    ) -> Any:
        cursor = self.cursor(connection, commits)
        cursor.execute(self.sql(sql), values)
        # The row is here: Django's wrapper could only add calls to taking it, and to closing.
        return cursor.cursor.fetchone()

    # The commit of a claim need not wait for the disk: the log is written in order, so if the
    # commit that stores the response is durable, so is the claim before it; and if a crash of the
    # server loses the claim, nothing else was committed under it. The setting ends with the
    # transaction, so it is left alone inside a longer one (a test case's). Effects on other systems
    # would not be undone by that crash: before those come, a later commit waits.
    claim_sql = tuple(
        "WITH known AS (SELECT {seen} FROM {table} WHERE {match}), claimed AS ("
        "INSERT INTO {table} ({inserted}) SELECT {values} WHERE NOT EXISTS (SELECT 1 FROM known) "
        f"ON CONFLICT ({{key}}, {{scope}}) DO NOTHING RETURNING {{id}}{commit}) "
        "SELECT claimed.{id}, known.* FROM (SELECT 1) AS one "
        "LEFT JOIN known ON TRUE LEFT JOIN claimed ON TRUE"
        for commit in (", set_config('synchronous_commit', 'off', TRUE)", "")
    )
    """Not waiting for the disk, and waiting."""

    def claim(self, connection: Any, claim: Claim, waits_for_disk: bool) -> Snapshot | None:
        """In one statement; a replay inserts nothing and takes no transaction id."""
        time, key, scope = self.time, claim.key, claim.scope
        values = (time(), time(-claim.tombstone), key, scope, *self.claim_values(claim))
        record_id, *known = self.first_row(connection, self.claim_sql[waits_for_disk], values)
        if record_id is not None:
            record = (record_id, State.CLAIMED, 1, claim.fingerprint, False, None)
            return Snapshot(*record, fresh=True, scope=scope, key=key)
        return None if known[0] is None else snapshot((*known, False), scope, key)

    # Around the lock, so that a request that does not get it takes no transaction id.
    lock_sql = tuple(
        f"SELECT locked.*, pg_current_xact_id()::text FROM ({lock}) AS locked"
        for lock in Dialect.lock_sql
    )
    idle_lock_sql = lock_sql[False].replace("::text FROM", f"::text, {_LIFTED} FROM", 1)

    complete_sql = (_checked(COMPLETE), _checked(COMPLETE))
    withdraw_sql = _checked(WITHDRAW)

    def write_last(
        self, connection: Any, record: Snapshot, sql: str, values: Sequence[Any], commits: bool
    ) -> bool:
        values = (*values, record.transaction, commits)
        try:
            return bool(self.first_row(connection, sql, values, commits) == (1,))
        except DataError as error:
            if _LOST not in str(error):
                raise
            return False

    def fuses_commit(self, connection: Any) -> bool:
        return pipeline is not None and bool(pipeline.session_of(connection, connection.connection))

    lock_attempt_sql = f"SELECT ({{clock}})::text{OF_ATTEMPT} FOR UPDATE"

    # https://www.postgresql.org/docs/current/sql-commands.html
    endings = Endings(
        rf"COMMIT|END|ABORT|BEGIN|START\s+TRANSACTION|PREPARE\s+TRANSACTION|{ROLLBACK}"
    )

    def notice(self, session: Any, sql: Any) -> None:
        if pipeline is not None and _DEALLOCATES.search(str(sql)):
            pipeline.notice_deallocation(session, str(sql)[:100])

    def transaction_status(self, session: Any) -> TransactionStatus:
        # psycopg 3, where ``info`` would take five times as long, and psycopg2
        known = getattr(session, "pgconn", None) or getattr(session, "info", None)
        status = getattr(known, "transaction_status", None)
        return TransactionStatus.OPEN if status is None else _STATUS.get(status, _ENDED)

    contention = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock timeout
    old_snapshot = frozenset({"40001"})
    refused_in_transaction = frozenset({"25001"})
    not_migrated = frozenset({"42P01", "42703"})

    def code_of(self, error: BaseException) -> Any:
        cause = error.__cause__
        # psycopg 3 and psycopg2
        return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)

    lock_timeout_sql = (
        "SELECT current_setting('lock_timeout')",
        "SELECT set_config('lock_timeout', %s, TRUE)",
    )
    errors_end_transactions = True

    def timeout_value(self, wait: timedelta) -> str:
        return f"{math.ceil(wait.total_seconds() * 1000)}ms"

    def lift_server_timeouts(self, connection: Any) -> None:
        """``idle_in_transaction_session_timeout`` and (PostgreSQL 17) ``transaction_timeout`` would
        end a session that has locked a record while a view calls another system:
        https://www.postgresql.org/docs/current/runtime-config-client.html
        """
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {_LIFTED}")

    # The commit of a message waits until the log is on disk as far as the message, and with it
    # everything that was committed before. A message needs no privilege and leaves nothing behind:
    # https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
    flush_sql = (
        "SELECT CASE WHEN current_setting('synchronous_commit') = 'off' "
        "THEN set_config('synchronous_commit', 'on', TRUE) END, "
        "pg_logical_emit_message(TRUE, 'django_idempotency', '')"
    )

    first = "-infinity"

    def purge(self, connection: Any, older_than: timedelta, size: int, start: Any) -> Batch | None:
        """Lock, remove and put off in one statement."""
        sql = self.sql(
            "WITH due AS MATERIALIZED ("
            "SELECT {id}, {purge_at}, {expires_at} <= {clock} AS expired FROM {table} "
            "WHERE {purge_at} <= {clock} AND {purge_at} >= %s "
            "AND ({expires_at} <= {clock} OR {expires_at} > {clock}) "
            "ORDER BY {purge_at}, {id} LIMIT %s FOR UPDATE SKIP LOCKED), "
            "gone AS (DELETE FROM {table} USING due "
            "WHERE {table}.{id} = due.{id} AND due.expired), "
            "forgotten AS (DELETE FROM {steps} USING due "
            "WHERE {steps}.{record_id} = due.{id} AND due.expired), "
            "put_off AS (UPDATE {table} SET {purge_at} = {expires_at} FROM due "
            "WHERE {table}.{id} = due.{id} AND NOT due.expired) "
            "SELECT COUNT(*), COUNT(*) FILTER (WHERE expired), MAX({purge_at}) FROM due"
        )
        now, soon = self.time(-older_than), self.time(SOON - older_than)
        ((found, removed, last),) = rows_of(connection, sql, (now, now, start, now, soon, size))
        return Batch(removed, last) if found else None

    def locked_ids(self, connection: Any, ids: Collection[int]) -> frozenset[int] | None:
        """Ask, and lock nothing. A row carries the number of the transaction that locked it, and
        while that runs, it holds a lock on its own number."""
        if not ids:
            return frozenset()
        sql = self.sql(
            "SELECT {id} FROM {table} WHERE {id} = ANY(%s) AND xmax IN "
            "(SELECT transactionid FROM pg_locks WHERE transactionid IS NOT NULL AND granted)"
        )
        return frozenset(pk for (pk,) in rows_of(connection, sql, [list(ids)]))

    # A response makes a row longer. While its page has room for it, no index is written (HOT).
    storage_sql = "ALTER TABLE {table} SET (fillfactor = 90)"

    # -1 before the table was analyzed for the first time.
    sha256 = "encode(sha256(convert_to(%(expressions)s, 'UTF8')), 'hex')"
    estimate = "SELECT reltuples FROM pg_class WHERE oid = CAST('{table}' AS regclass)"

    def inexact_columns(self, connection: Any) -> list[str]:
        """PostgreSQL compares bytes, unless the collation is nondeterministic. Other types than
        these ignore spaces at the end (character) or case (citext)."""
        rows = rows_of(
            connection,
            """
    SELECT a.attname, format_type(a.atttypid, NULL), COALESCE(c.collisdeterministic, TRUE)
    FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = to_regclass(%s) AND a.attname IN (%s, %s, %s)
""",
            [self.quoted(IdempotencyRecord._meta.db_table), *COMPARED],
        )
        return [
            f"{name} ({kind})"
            for name, kind, is_exact in rows
            if kind not in {"character varying", "text"} or not is_exact
        ]

    # The server's keepalive probes find a vanished host, and start after two hours on most systems
    # (PostgreSQL documentation, "Connections and Authentication", tcp_keepalives_idle; a client can
    # set it for its session). libpq's own keepalives_idle and tcp_user_timeout find a vanished
    # server, which is no help here.
    keepalive = Keepalive(
        option="options",
        enough=re.compile(r"\b(tcp_keepalives_idle|idle_in_transaction_session_timeout)\b"),
        example="-c tcp_keepalives_idle=60 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
    )

    def idle_timeout(self, connection: Any) -> int:
        rows = rows_of(
            connection,
            "SELECT name, setting FROM pg_settings WHERE name IN ('tcp_keepalives_idle', "
            "'tcp_keepalives_interval', 'tcp_keepalives_count', 'tcp_user_timeout', "
            "'idle_in_transaction_session_timeout')",
        )
        values = {name: int(value) for name, value in rows}
        idle = values["tcp_keepalives_idle"]
        unanswered = values["tcp_keepalives_interval"] * values["tcp_keepalives_count"]
        probing = values["tcp_user_timeout"] // 1000 or unanswered
        limits = (idle and idle + probing, values["idle_in_transaction_session_timeout"] // 1000)
        return min((limit for limit in limits if limit), default=0)


DIALECTS[Postgresql.name] = Postgresql()
