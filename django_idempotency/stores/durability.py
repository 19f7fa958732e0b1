"""Making what is committed survive a crash of the database server."""

from .own_connections import own_connections

_CONNECTIONS = 100
"""At most so many in this process flush at once, each for a few milliseconds."""

# The commit of a message waits until the log is on disk as far as the message, and with it
# everything that was committed before. A message needs no privilege and leaves nothing behind:
# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
_FLUSH = (
    "SELECT CASE WHEN current_setting('synchronous_commit') = 'off' "
    "THEN set_config('synchronous_commit', 'on', TRUE) END, "
    "pg_logical_emit_message(TRUE, 'django_idempotency', '')"
)


def flush(using: str) -> None:
    """Wait until everything that PostgreSQL has committed is on disk.

    On a connection of our own: the view's is in the middle of a transaction.

    :raises Busy: if there is no connection left
    """
    pool = own_connections(using)
    connection = pool.lend(_CONNECTIONS)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_FLUSH)
    finally:
        pool.take_back(connection)
