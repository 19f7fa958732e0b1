"""What the database knows about its clients: their sessions, and transactions they have open."""

from typing import Any

from django.db import connection
from django.db.transaction import atomic

_SESSIONS = {
    "postgresql": "SELECT pid, state FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    "mysql": "SELECT id, command FROM information_schema.processlist "
    "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}
_TRANSACTIONS = {
    "postgresql": "SELECT pid, state, query FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL "
    "AND backend_type = 'client backend'",
    "mysql": "SELECT trx.trx_mysql_thread_id, trx.trx_state, trx.trx_query "
    "FROM information_schema.innodb_trx trx JOIN information_schema.processlist session "
    "ON session.id = trx.trx_mysql_thread_id "
    "WHERE session.db = DATABASE() AND session.id <> CONNECTION_ID()",
}
_LOCK_WAITS = {
    "postgresql": "SELECT pid, query_start FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "SELECT id, query_id FROM information_schema.processlist "
    "WHERE db = DATABASE() AND info LIKE 'SELECT%FOR UPDATE%' AND id <> CONNECTION_ID()",
}


def sessions() -> list[Any]:
    """Sessions of others on this database; SQLite has none."""
    return _rows(_SESSIONS)


def open_transactions() -> list[Any]:
    """Transactions of others on this database. On SQLite, whether one of them holds the lock."""
    if connection.vendor != "sqlite":
        return _rows(_TRANSACTIONS)
    with atomic(), connection.cursor() as cursor:
        # Waits for the one writer there may be, and fails if it does not end.
        cursor.execute("DELETE FROM shop_order WHERE 0")
    return []


def lock_waits() -> list[Any]:
    """Sessions on this database that wait for a lock, each with what identifies its statement."""
    return _rows(_LOCK_WAITS)


def _rows(queries: dict[str, str]) -> list[Any]:
    if connection.vendor not in queries:
        return []
    with connection.cursor() as cursor:
        cursor.execute(queries[connection.vendor])
        return list(cursor.fetchall())


def terminate(session: str) -> None:
    sql = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}
    with connection.cursor() as cursor:
        cursor.execute(sql[connection.vendor], [int(session)])
