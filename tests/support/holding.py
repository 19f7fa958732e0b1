"""Operations in non-atomic mode, as objects, and the end of their database sessions."""

from datetime import timedelta
from typing import Any

from django.db import connection, connections

from django_idempotency.operations.non_atomic import NonAtomicOperation, still_unknown
from django_idempotency.operations.row_lock import RowLock
from django_idempotency.operations.sessions import session_of
from django_idempotency.protocol.record import Claim, StoredResponse
from django_idempotency.stores.database.step_log import StepLog
from django_idempotency.stores.database.store import DatabaseStore

CREATED = StoredResponse(201, (("X-Id", "1"),), b"made")


def a_claim(key: str = "k") -> Claim:
    return Claim("scope", key, "1:a", "POST", "/", timedelta(hours=1), secret=b"secret")


def an_operation(
    resolve: Any = still_unknown, key: str = "k", limit: int = 5
) -> tuple[NonAtomicOperation, RowLock]:
    store = DatabaseStore("default", outcome_open=True)
    step_log = StepLog("default")
    hold = RowLock(store, step_log, session_of("default", limit))
    return NonAtomicOperation(store, a_claim(key), hold, resolve, step_log=step_log), hold


def interrupt(operation: Any) -> None:
    """End an attempt as an exception does that becomes no response."""
    error = RuntimeError()
    operation.fail(error)
    operation.abandon(error)


def kill(hold: RowLock) -> None:
    """End the session of a hold, as an operator or a broken network does."""
    held: Any = hold._session
    with held.entered():
        terminate(connections["default"])


def terminate(doomed: Any) -> None:
    """End a session, and return when the server has undone it and let go of its locks."""
    ask = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
    end = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}
    there = {
        "postgresql": "SELECT 1 FROM pg_stat_activity WHERE pid = %s",
        "mysql": "SELECT 1 FROM information_schema.PROCESSLIST WHERE id = %s",
    }
    with doomed.cursor() as cursor:
        cursor.execute(ask[connection.vendor])
        (session,) = cursor.fetchone()
    fresh = connections.create_connection("default")
    with fresh.cursor() as cursor:
        cursor.execute(end[connection.vendor], [session])
        cursor.execute(there[connection.vendor], [session])
        while cursor.fetchall():
            cursor.execute(there[connection.vendor], [session])
    fresh.close()
