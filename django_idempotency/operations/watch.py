"""Detect that the transaction of a view, a function or a step was rolled back, ended or lost (I2).

Django can do that, the database server, a broken session, or SQL of the view. So the question is
always the same, whether the transaction is still ours; symptoms are not listed.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from weakref import ReferenceType, ref

from django.db import DatabaseError, connections

from ..compat.django import AttemptBlock, has_lost, savepoints, stop_watching, watch_statements
from ..stores.database.dialects import Dialect, TransactionStatus
from .errors import EndsTransaction

SAVEPOINT = "idempotency_attempt"
"""It still exists at the end, unless the server has ended the transaction in between. MySQL's
drivers and servers say so in no other way."""

INSTEAD = (
    "Remove it, or use @idempotent(atomic=False), or run_once(..., atomic=False), for what owns "
    "its transactions: in atomic mode the writes of a view, or function, and its stored response, "
    "or result, are one commit."
)
REPLACED = (
    "The connection to database {!r} was closed or replaced, and with it ended the transaction of "
    "the idempotency key: a lost session, connection.close(), or close_old_connections(), which "
    "closes every connection in a transaction."
)
ENDED = (
    "The transaction of the idempotency key on database {!r} has ended: rolled back by the server "
    "(a deadlock, a lock that was not granted, a conflict), or ended by SQL that was not seen (a "
    "stored procedure, the driver)."
)
ROLLED_BACK = (
    "An error inside of atomic() had undone its writes. Let the error propagate, or catch it "
    "outside of a separate atomic() block."
)

_ORDINARY = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
"""How nearly every statement begins, and none that controls a transaction."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What has become of a transaction.

    :ivar is_usable: it is open, is ours, and takes statements
    :ivar is_undone: its writes are gone, or will be
    :ivar loss: how it ended without us; empty if it has not, as far as is known
    :ivar unintended: why a success must not be stored although the view asked for no rollback by
        ``set_rollback(True)``; empty if it may be
    """

    is_usable: bool = True
    is_undone: bool = False
    loss: str = ""
    unintended: str = ""


UNHARMED = Inspection()
CLOSED = Inspection(is_usable=False)


class Watch:
    """Watches a transaction from now to :meth:`close`.

    :param block: ours, which is entered
    :param dialect: of its database
    :param has_request_block: Django's ``ATOMIC_REQUESTS`` block is a savepoint in this transaction
    :param remedy: what to do instead of ending the transaction
    :param savepoint: was set with the lock, where the dialect needs one; by default it is set here
    """

    def __init__(
        self,
        block: AttemptBlock,
        dialect: Dialect,
        has_request_block: bool = False,
        remedy: str = INSTEAD,
        savepoint: str | None = None,
    ) -> None:
        self._block = block
        self._connection = connection = cast(Any, connections[str(block.using)])
        self._session = connection.connection
        self._dialect = dialect
        self._depth = len(savepoints(connection)) if has_request_block else -1
        self._remedy = remedy
        self._is_ended = False
        self._has_requested_rollback = False
        self._has_rolled_back: bool | None = None
        """Django's block was rolled back to its beginning: whether by request."""
        self._refused: EndsTransaction | None = None
        self._wrapper = partial(_statement, ref(self))
        watch_statements(connection, self._wrapper, self._note_request)
        self._savepoint_name = savepoint or SAVEPOINT
        self._has_savepoint = not self._dialect.knows_transaction_status
        if self._has_savepoint and not savepoint:
            self._control("SAVEPOINT")

    def close(self) -> None:
        """Watch no more, and let the database undo what a session holds that Django has lost sight
        of. Harmless if closed."""
        connection = self._connection
        stop_watching(connection, self._wrapper)
        is_other = connections[connection.alias] is not connection
        if is_other or connection.connection is not self._session:
            # The new session may be half set up, because its first statements were refused.
            connection.close()
            with suppress(Exception):  # it may be closed
                self._session.close()

    def inspect(self, asks_server: bool = False) -> Inspection:
        """Return what has become of the transaction.

        :param asks_server: where only the server knows whether it is still ours. Once
        """
        if asks_server and self._has_savepoint:
            self._ask()
        connection = self._connection
        status = self._dialect.transaction_status(self._session)
        is_broken = connection.in_atomic_block and connection.get_rollback()
        is_replaced = (
            connections[connection.alias] is not connection
            or connection.connection is not self._session
            or (is_broken and has_lost(connection, self._session))
        )
        is_lost = is_replaced or self._is_ended or status is TransactionStatus.ENDED
        is_aborted = status is TransactionStatus.ABORTED
        is_undone = is_lost or is_aborted or is_broken or self._has_rolled_back is not None
        if not is_undone and self._refused is None and not self._block.has_refused:
            return UNHARMED
        loss = (REPLACED if is_replaced else ENDED).format(connection.alias) if is_lost else ""
        is_usable = not (is_lost or is_aborted or is_broken)
        return Inspection(is_usable, is_undone, loss, self._unintended(is_undone, loss))

    def note_undone_by_django(self) -> str:
        """Django's block of ``ATOMIC_REQUESTS``, which shares our transaction, undoes it, and has
        taken back its mark for that by now.

        :return: the reason, unless the view asked for it
        """
        self._has_rolled_back = self._has_requested_rollback
        return self.inspect().unintended

    def statement(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Send a statement, unless the transaction has ended or it would end it.

        :raises EndsTransaction: and nothing is sent
        """
        status = self._dialect.transaction_status(self._session)
        if has_lost(self._connection, self._session) or status is TransactionStatus.ENDED:
            # In autocommit, or in a transaction that has no end, it would be half of the writes.
            raise EndsTransaction(f"{self.inspect().loss} Nothing more is sent to the database.")
        if self._dialect.ends_transaction(self._connection, sql):
            self._refused = EndsTransaction(
                f"django_idempotency: {str(sql)[:200]!r} would end the transaction of the "
                f"idempotency key, and was not sent to the database. {self._remedy}"
            )
            raise self._refused
        self._dialect.notice(self._session, sql)
        try:
            result = execute(sql, params, many, context)
        except DatabaseError:
            if self._leaves_request_block(sql, "RELEASE SAVEPOINT"):
                # Its savepoint has gone with our transaction. We say so when the view has ended.
                self._is_ended = True
                return None
            raise
        if self._leaves_request_block(sql, "ROLLBACK TO SAVEPOINT"):
            self._has_rolled_back = self._has_requested_rollback
        if isinstance(sql, str) and sql.startswith("ROLLBACK TO"):
            # A rollback of an inner block is over, requested or not.
            self._has_requested_rollback = False
        return result

    def _unintended(self, is_undone: bool, loss: str) -> str:
        if self._refused is not None:
            return f"An error was caught that must not be: {self._refused}"
        if self._block.has_refused:
            return f"A refused atomic(durable=True) was caught. {self._remedy}"
        if loss:
            return loss
        by_request = self._has_rolled_back
        if by_request is None:
            by_request = not is_undone or self._has_requested_rollback
        return "" if by_request else ROLLED_BACK

    def _ask(self) -> None:
        if not self.inspect().is_undone:
            self._has_savepoint = False
            try:
                self._control("RELEASE SAVEPOINT")
            except DatabaseError:
                self._is_ended = True

    def _leaves_request_block(self, sql: object, statement: str) -> bool:
        # By then its savepoint is off Django's list.
        is_it = len(savepoints(self._connection)) == self._depth
        return is_it and isinstance(sql, str) and sql.startswith(statement)

    def _note_request(self, rollback: bool) -> None:
        self._has_requested_rollback = rollback

    def _control(self, verb: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"{verb} {self._savepoint_name}")


def _statement(
    watch_of: ReferenceType[Watch], execute: Any, sql: Any, params: Any, many: bool, context: Any
) -> Any:
    """An execute wrapper. Connections keep it; an attempt that is forgotten without an end watches
    no more. What nearly every statement needs is asked here, in one call."""
    watch = watch_of()
    if watch is None:
        return execute(sql, params, many, context)
    connection, session = watch._connection, watch._session
    if (
        isinstance(sql, str)
        and (sql[:6] in _ORDINARY or sql[:5] == "WITH ")
        and ";" not in sql
        and connection.connection is session
        and connection.in_atomic_block
        and not connection.get_rollback()  # which Django sets when it closes a connection, too
        and watch._dialect.transaction_status(session) is not TransactionStatus.ENDED
    ):
        return execute(sql, params, many, context)
    return watch.statement(execute, sql, params, many, context)
