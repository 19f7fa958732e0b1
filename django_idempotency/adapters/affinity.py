"""Connection affinity: refuse writes of an async view outside of its transaction.

A sync view runs on the thread of its transaction. An async view can hand work to other threads,
which have other connections, leave tasks behind that outlive it, or open blocks in tasks that
overtake each other. The writes of such code could remain although the attempt is undone, or be
undone although it succeeds (I2). They are refused before they reach the database.

Tasks, and threads entered with ``sync_to_async`` or ``asyncio.to_thread``, inherit the context
they were started from, and with it the affinity. Work started without a context is not detected.
"""

import re
from contextvars import ContextVar
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.signals import connection_created
from django.http.response import HttpResponseBase

from ..compat.django import (
    count_blocks,
    leave_blocks,
    put_wrapper_first,
    savepoints,
    share_between_threads,
)
from ..compat.frameworks import ASYNC_USER, SYNC_USER, share_user
from ..guard.guard import Answer, Guard
from ..remember import do_not_remember

_NO_WRITE = frozenset(
    {
        *("SELECT", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "PRAGMA", "VALUES", "TABLE", "FETCH"),
        *("SET", "RESET", "USE", "LISTEN"),
        *("BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"),
    }
)
"""Statements that change no data begin with these."""
_FIRST_WORD = re.compile(r"(?:\s|\(|/\*.*?\*/|--[^\n]*\n)*(\w*)", re.DOTALL)
_CHANGES = re.compile(r"\b(INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|MERGE\s+INTO)\b", re.I)
_SAVEPOINT = "SAVEPOINT "

ELSEWHERE = (
    "An async view under an idempotency key wrote to database {alias!r} from another thread than "
    "its request's. That connection is not part of the transaction that commits with the stored "
    "response. Call sync_to_async() with thread_sensitive=True (the default), use the ORM's async "
    "methods, or start the work in transaction.on_commit()."
)
TOO_LATE = (
    "A task that an async view under an idempotency key has left running wrote to database "
    "{alias!r} after the view's transaction had ended. Await the task in the view, or start the "
    "work in transaction.on_commit(), with a separate context."
)
OVERTAKEN = (
    "Tasks of an async view under an idempotency key work on database {alias!r} at the same time, "
    "and one of them has opened an atomic block: what the others write now would be undone with "
    "it. Keep each atomic block within one function called with sync_to_async(), or do not run "
    "the tasks concurrently."
)
LEFT_OPEN = (
    "An async view under an idempotency key ended inside of an atomic block on database {alias!r}, "
    "which one of its tasks has left open. Everything is rolled back."
)
THREAD_LOST = (
    "The thread of this request has ended before its async view: the server cancelled the "
    "application. Everything is rolled back."
)


class AffinityError(ImproperlyConfigured):
    """An async view has left the one connection whose transaction commits with its response."""


class ThreadLost(AffinityError):
    """Nothing can be done on that connection any more, but to close it."""


def writes(sql: object) -> bool:
    """Whether a statement may change data. A function that writes, called by a SELECT, is not seen.

    :param sql: text, or what a driver composes it of
    """
    text = sql if isinstance(sql, str) else str(sql)
    found = _FIRST_WORD.match(text)
    word = found[1].upper() if found else ""
    if word == "WITH":
        return _CHANGES.search(text) is not None
    return word not in _NO_WRITE


def _savepoint_of(sql: object) -> str | None:
    """Return the name of the savepoint that a statement of Django's sets."""
    if isinstance(sql, str) and sql.startswith(_SAVEPOINT):
        return sql.removeprefix(_SAVEPOINT).strip('"`')
    return None


class ConnectionAffinity:
    """Where the statements of one attempt belong.

    :param alias: of the database whose transaction it holds, on the connection of this thread
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._connection: Any = connections[alias]
        self._blocks = count_blocks(self._connection)
        self._savepoints = len(savepoints(self._connection))
        self._is_over = False
        _watch_statements(self._connection)
        _affinity.set(self)
        _opened.set(frozenset())

    def check(self, connection: Any, sql: object) -> None:
        """Refuse a write that would not share the attempt's fate.

        :raises AffinityError: and the statement does not reach the database
        """
        if connection.alias == self.alias and (writes(sql) or _savepoint_of(sql)):
            problem = self._problem(connection, sql)
            if problem is not None:
                raise AffinityError(problem.format(alias=self.alias))

    def opened(self, connection: Any, sql: object) -> None:
        """Remember in this context, which tasks inherit, that it has opened a block."""
        savepoint = _savepoint_of(sql) if connection is self._connection else None
        if savepoint is not None:
            still_open = _opened.get().intersection(self._open_savepoints())
            _opened.set(still_open | {savepoint})

    def release(self) -> None:
        """The view has ended, and this is its thread again, unless that is gone.

        :raises AffinityError: if the attempt's transaction is not as the view found it
        """
        self._is_over = True
        _affinity.set(None)
        if connections[self.alias] is not self._connection:
            self._give_up()
            raise ThreadLost(THREAD_LOST)
        if count_blocks(self._connection) > self._blocks:
            error = AffinityError(LEFT_OPEN.format(alias=self.alias))
            leave_blocks(self._connection, self._blocks, error)
            raise error

    def _problem(self, connection: Any, sql: object) -> str | None:
        if connection is self._connection and not self._is_over:
            overtaken = any(each not in _opened.get() for each in self._open_savepoints())
            return OVERTAKEN if overtaken else None
        if not writes(sql):
            return None
        return TOO_LATE if self._is_over else ELSEWHERE

    def _open_savepoints(self) -> list[str]:
        inner = savepoints(self._connection)[self._savepoints :]
        return [each for each in inner if each is not None]

    def _give_up(self) -> None:
        """No thread owns the connection any more. When it closes, the database rolls back."""
        share_between_threads(self._connection)
        self._connection.close()


_affinity: ContextVar[ConnectionAffinity | None] = ContextVar("idempotency_affinity", default=None)
_opened: ContextVar[frozenset[str]] = ContextVar("idempotency_savepoints", default=frozenset())


def _statement(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    """An execute wrapper; without an affinity it costs next to nothing."""
    affinity = _affinity.get()
    if affinity is None:
        return execute(sql, params, many, context)
    affinity.check(context["connection"], sql)
    result = execute(sql, params, many, context)
    affinity.opened(context["connection"], sql)
    return result


def _watch_statements(connection: Any, **kwargs: Any) -> None:
    put_wrapper_first(connection, _statement)


def watch_new_connections() -> None:
    """See the statements of every connection that this process opens from now on."""
    connection_created.connect(_watch_statements, dispatch_uid="idempotency_affinity")


class AsyncGuard(Guard):
    """A guard whose view runs in the event loop, or can be left by it."""

    _affinity: ConnectionAffinity | None = None

    def start(self, *args: Any, **kwargs: Any) -> Answer | None:
        share_user(self._request, ASYNC_USER, SYNC_USER)
        answer = super().start(*args, **kwargs)
        share_user(self._request, SYNC_USER, ASYNC_USER)
        if self.transaction_on is not None:
            self._affinity = ConnectionAffinity(self.transaction_on)
        return answer

    def fail(self, error: BaseException) -> None:
        try:
            self._release()
        except AffinityError as reason:
            error.add_note(str(reason))
            do_not_remember(error)  # it may be a refusal, but what was written is not known
        super().fail(error)

    def finish(self, response: HttpResponseBase) -> None:
        try:
            self._release()
        except AffinityError as error:
            self.abandon(error)
            raise
        super().finish(response)

    def _release(self) -> None:
        affinity, self._affinity = self._affinity, None
        if affinity is None:
            return
        try:
            affinity.release()
        except ThreadLost:
            self.forget()
            raise
