"""Timeouts of the server that would end a transaction which only waits for its view."""

from django.db.backends.base.base import BaseDatabaseWrapper

_POSTGRESQL = (
    "SELECT set_config(name, '0', TRUE) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout') "
    "AND setting <> '0'"
)


def never_ends(connection: BaseDatabaseWrapper) -> None:
    """Let the present transaction stay idle for as long as it takes.

    ``idle_in_transaction_session_timeout`` and (PostgreSQL 17) ``transaction_timeout`` would end a
    session that holds a record while a view calls another system:
    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_POSTGRESQL)
