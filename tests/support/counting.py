"""Statements as the database server counts them, and round trips to it and to Redis."""

import re
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, cast

from django.db import connection, connections
from redis.connection import Connection

from django_idempotency.stores.database import connections as own_connections
from tests.support.wire import Wire

CONTROL = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET|START)\b", re.IGNORECASE)
_MYSQL_CONTROL = ("begin", "commit", "rollback", "savepoint", "release_savepoint", "set_option")


class Count:
    """How many statements came, and how many of them only control transactions."""

    statements = 0
    control = 0

    def add(self, sql: str) -> None:
        # A compound statement of MariaDB begins with BEGIN, too, but does not control anything.
        if CONTROL.match(sql) and not sql.startswith("BEGIN NOT ATOMIC"):
            self.control += 1
        else:
            self.statements += 1


@contextmanager
def counted() -> Iterator[Count]:
    """Count what arrives on this connection, and on the guard's own ones that rest in a pool."""
    counters = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}
    count = Count()
    with ExitStack() as stack:
        for each in (connection, *connections_at_rest()):
            counter: AbstractContextManager[None] = counters[connection.vendor](each, count)
            stack.enter_context(counter)
        yield count


def connections_at_rest() -> list[Any]:
    return [each for pool in own_connections._pools.values() for each in pool._idle]


class CountingConnection(Connection):
    """Counts what is sent to Redis, greetings aside: each thing sent is a round trip."""

    sent: list[str] = []
    """Names of the threads that sent something."""

    opened = 0
    """How many connections were opened, or tried."""

    def _connect(self) -> Any:
        CountingConnection.opened += 1
        return super()._connect()

    def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
        # A connection says hello before it is asked.
        if self._sock is not None and not self._is_greeting():
            self.sent.append(threading.current_thread().name)
        return super().send_packed_command(command, check_health)

    @staticmethod
    def _is_greeting() -> bool:
        names = {frame.name for frame in traceback.extract_stack(limit=8)}
        return not names.isdisjoint({"on_connect", "on_connect_check_health"})


COUNTING = {"CONNECTION_POOL_KWARGS": {"connection_class": CountingConnection}}
"""Options of a cache whose round trips are counted."""


@contextmanager
def trips() -> Iterator[list[str]]:
    """Count round trips to Redis that a request waits for, in whichever thread it runs."""
    start = len(CountingConnection.sent)
    found: list[str] = []
    yield found
    sent = CountingConnection.sent[start:]
    found += [name for name in sent if not name.startswith("idempotency-")]


@contextmanager
def wire_to_database(using: str = "default", delay: float = 0.0) -> Iterator[Wire]:
    """Put a wire between this process and a database, also for claims on connections of their own.

    Connections are made anew inside, and again after it. Other threads must have none.
    """
    settings = connections.settings[using]
    with Wire((settings["HOST"], int(settings["PORT"])), delay) as wire:
        changed = {"HOST": "127.0.0.1", "PORT": str(wire.port)}
        if settings["ENGINE"].endswith("postgresql"):
            plain = {"sslmode": "disable", "gssencmode": "disable"}
            changed["OPTIONS"] = {**settings["OPTIONS"], **plain}
        before = {name: settings[name] for name in changed}
        _disconnect(using)
        settings.update(changed)
        try:
            yield wire
        finally:
            _disconnect(using)
            settings.update(before)


def _disconnect(using: str) -> None:
    connections[using].close()
    for pool in own_connections._pools.values():
        for each in pool._idle:
            each.close()
        pool._idle.clear()


@contextmanager
def _postgresql(connection: Any, count: Count) -> Iterator[None]:
    """The server logs every statement, and sends its log lines to us."""

    def notice(diagnostic: Any) -> None:
        found = re.match(
            r"(?:statement|execute [^:]*): (.*)", diagnostic.message_primary, re.DOTALL
        )
        if found is not None:
            count.add(found[1])

    _execute(connection, "SET client_min_messages = 'log'; SET log_statement = 'all'")
    connection.connection.add_notice_handler(notice)
    try:
        yield
    finally:
        connection.connection.remove_notice_handler(notice)
        _execute(connection, "RESET client_min_messages; RESET log_statement")


@contextmanager
def _mysql(connection: Any, count: Count) -> Iterator[None]:
    def status() -> dict[str, int]:
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS")
            return {name.lower(): value for name, value in cursor.fetchall()}

    before = status()
    yield
    after = status()

    def grown(name: str) -> int:
        return int(after[name]) - int(before[name])

    control = sum(grown(f"com_{name}") for name in _MYSQL_CONTROL)
    count.control += control
    # The last SHOW STATUS counts itself.
    count.statements += grown("questions") - 1 - control


@contextmanager
def _sqlite(connection: Any, count: Count) -> Iterator[None]:
    """There is no server: what is handed to the library."""

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        count.add(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        yield


def _execute(connection: Any, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def claim_lock_and_store() -> int:
    """MySQL and SQLite cannot read and insert in one statement, so their claim takes two."""
    if connection.vendor == "mysql":
        return 3 if cast(Any, connection).mysql_is_mariadb else 4
    return 3 if connection.vendor == "postgresql" else 4
