"""The floor: claim, lock and store as bare statements through the driver, in as few round trips as
there can be, without anything of ours around them.

The claim travels alone, BEGIN with the lock, and COMMIT with the store. PostgreSQL gets them
through libpq's pipeline, prepared by name; MariaDB as several statements in one message.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import connection, connections, transaction

from django_idempotency.protocol.record import Claim, StoredResponse
from django_idempotency.stores.database.store import DatabaseStore

BODY = b'{"id": 1, "item": "a small server"}'
RETENTION = timedelta(hours=24)


class Key(str):
    """A parameter that is another one for each record; so are the next two."""


class RecordId(int): ...


class TransactionId(str): ...


HOLES = (Key, RecordId, TransactionId)


@dataclass(frozen=True)
class Statement:
    """A text, and its parameters with holes."""

    text: str
    parameters: tuple[Any, ...]

    def filled(self, **values: Any) -> list[Any]:
        return [
            values[type(each).__name__] if isinstance(each, HOLES) else each
            for each in self.parameters
        ]


@dataclass(frozen=True)
class Statements:
    """What the store of this package sends for one first request."""

    claim: Statement
    lock: Statement
    complete: Statement

    @classmethod
    def of_the_store(cls) -> "Statements":
        """Let the store send them once, and keep them; not in a transaction of the caller's, where
        the claim would be another."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(cls._of_this_thread).result()

    @classmethod
    def _of_this_thread(cls) -> "Statements":
        sent: list[Statement] = []

        def keep(execute: Any, text: str, params: Any, *rest: Any) -> Any:
            if params:
                sent.append(Statement(_alone(text), tuple(params)))
            return execute(text, params, *rest)

        store = DatabaseStore(connection.alias)
        claim = Claim("s", Key(uuid.uuid4()), "1:a", "POST", "/", RETENTION)
        with connection.execute_wrapper(keep):
            record = store.claim(claim)
            assert record is not None
            with transaction.atomic():
                locked = store.lock(RecordId(record.id))
                assert locked is not None
                named = locked._replace(
                    id=RecordId(locked.id),
                    key=Key(claim.key),
                    scope=claim.scope,
                    transaction=locked.transaction and TransactionId(locked.transaction),
                )
                store.complete(named, StoredResponse(201, (), BODY), RETENTION)
        connection.close()
        return cls(*sent)


def _alone(text: str) -> str:
    """Return a statement without what travels with it."""
    return re.sub(r"^(BEGIN|START TRANSACTION); | *; COMMIT$", "", text)


class PostgresqlSession:
    """Sends the statements on one connection of psycopg, through libpq's pipeline."""

    def __init__(self, native: Any, statements: Statements) -> None:
        self._pgconn = native.pgconn
        self._statements = statements
        for name in ("claim", "lock", "complete"):
            self.prepare(name, getattr(statements, name).text)
        claim = self._pgconn.describe_prepared(b"bench_claim")
        names = [claim.fname(at) for at in range(claim.nfields)]
        self._id_at = names.index(b"id")  # of the record that was not known before
        self._transaction_at = self._pgconn.describe_prepared(b"bench_lock").nfields - 1

    def prepare(self, name: str, text: str) -> None:
        count = iter(range(1, 1000))
        numbered = re.sub("%s", lambda _: f"${next(count)}", text).replace("%%", "%")
        result = self._pgconn.prepare(f"bench_{name}".encode(), numbered.encode())
        assert not result.error_message, result.error_message

    def claim(self, key: str) -> str:
        """Return the record's number."""
        (result,) = self.together([self.named("claim", self._statements.claim.filled(Key=key))])
        return str(result.get_value(0, self._id_at).decode())

    def lock(self, record: str, begins: bool) -> str:
        """Return the number of the transaction."""
        messages = [self.plain(b"BEGIN")] if begins else []
        messages.append(self.named("lock", self._statements.lock.filled(RecordId=record)))
        result = self.together(messages)[-1]
        return str(result.get_value(0, self._transaction_at).decode())

    def complete(self, key: str, record: str, transaction_id: str) -> None:
        """Store and commit."""
        values = self._statements.complete.filled(
            Key=key, RecordId=record, TransactionId=transaction_id
        )
        stored, _ = self.together([self.named("complete", values), self.plain(b"COMMIT")])
        assert stored.command_tuples == 1
        assert not stored.nfields or stored.get_value(0, 0) == b"1"  # how many rows it has changed

    def plain(self, text: bytes) -> Callable[[], None]:
        return lambda: self._pgconn.send_query_params(text, None)

    def named(self, name: str, values: list[Any]) -> Callable[[], None]:
        data = [
            each if each is None or isinstance(each, bytes) else str(each).encode()
            for each in values
        ]
        formats = [int(isinstance(each, bytes)) for each in values]
        return lambda: self._pgconn.send_query_prepared(f"bench_{name}".encode(), data, formats)

    def together(self, messages: list[Callable[[], None]]) -> list[Any]:
        """Send them in one round trip; return their results."""
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        for send in messages:
            send()
        pgconn.pipeline_sync()
        results = []
        for _ in messages:
            results.append(pgconn.get_result())
            assert pgconn.get_result() is None
        pgconn.get_result()  # of the synchronization
        pgconn.exit_pipeline_mode()
        errors = [each.error_message for each in results if each.error_message]
        assert not errors, errors
        return results


class MysqlSession:
    """Sends the statements on one connection of mysqlclient, several in one message."""

    def __init__(self, native: Any, statements: Statements) -> None:
        self._native = native
        self._statements = statements

    def claim(self, key: str) -> str:
        claim = self._statements.claim
        return str(self._send("", claim.text, claim.filled(Key=key))[0][0])

    def lock(self, record: str, begins: bool) -> str:
        lock = self._statements.lock
        before = "START TRANSACTION; " if begins else ""
        assert self._send(before, lock.text, lock.filled(RecordId=record))
        return ""

    def complete(self, key: str, record: str, transaction_id: str) -> None:
        complete = self._statements.complete
        values = complete.filled(Key=key, RecordId=record, TransactionId=transaction_id)
        self._send("", f"{complete.text}; COMMIT", values)

    def _send(self, before: str, text: str, values: list[Any]) -> list[Any]:
        """Return the rows of the last statement that has any."""
        rows: list[Any] = []
        with self._native.cursor() as cursor:
            cursor.execute(before + text, values)
            while True:
                rows = list(cursor.fetchall()) or rows
                if not cursor.nextset():
                    return rows


SESSIONS = {"postgresql": PostgresqlSession, "mysql": MysqlSession}


class Floor:
    """The statements around a view, as a guard would send them.

    Without ``ATOMIC_REQUESTS`` the view runs in a transaction of which Django knows nothing. With
    it, Django has begun one: the claim takes another connection, and the store travels with
    Django's COMMIT.
    """

    def __init__(self) -> None:
        self._statements = Statements.of_the_store()
        connection.ensure_connection()
        self._session = self._new_session(connection)
        self._other = self._session
        if connection.settings_dict["ATOMIC_REQUESTS"]:
            other = connections.create_connection(connection.alias)
            other.ensure_connection()
            self._other = self._new_session(other)

    def _new_session(self, each: Any) -> Any:
        return SESSIONS[each.vendor](each.connection, self._statements)

    @contextmanager
    def around(self) -> Iterator[None]:
        """Claim, begin, lock; store and commit at the end."""
        key = str(uuid.uuid4())
        record = self._other.claim(key)
        begins = not connection.in_atomic_block or _has_sent_nothing()
        transaction_id = self._session.lock(record, begins)
        yield
        if connection.in_atomic_block:
            _in_place_of_commit(lambda: self._session.complete(key, record, transaction_id))
        else:
            self._session.complete(key, record, transaction_id)


def _has_sent_nothing() -> bool:
    """Whether psycopg has not begun yet what Django believes to be in."""
    if connection.vendor != "postgresql":
        return False
    return int(connection.connection.pgconn.transaction_status) == 0


def _in_place_of_commit(complete: Callable[[], None]) -> None:
    """Send the store and COMMIT when Django commits next."""

    there = vars(connections[connection.alias])

    def commit() -> None:
        del there["_commit"]
        complete()

    there["_commit"] = commit


@cache
def floor() -> Floor:
    """Of this process."""
    return Floor()
