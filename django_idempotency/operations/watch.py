"""What becomes of the transaction that a view or a step writes in.

Whoever ends or undoes it, the answer must not be stored as if nothing had happened (I2): Django,
the database server, a lost session, the view's own SQL. So the question is always the same, whether
the transaction is still ours; symptoms are not listed.
"""

from contextlib import suppress
from types import TracebackType
from typing import Any, cast
from weakref import ref

from django.db import DatabaseError, connections

from ..compat.django import (
    AttemptBlock,
    has_lost,
    savepoints,
    stop_watching,
    takes_no_statements,
    watch_statements,
)
from ..stores.database.dialects import TransactionStatus, dialect_of
from .errors import EndsTransaction

SAVEPOINT = "idempotency_attempt"
"""Still there at the end, if the server has not ended the transaction in between. MySQL's drivers
and servers say so in no cheaper way."""

INSTEAD = (
    "Remove it, or use @idempotent(atomic=False) for a view that owns its transactions: in atomic "
    "mode a view's writes and its stored response are one commit."
)


class _Wrapper:
    """Connections keep this one; an attempt that is forgotten without an end watches no more."""

    def __init__(self, watch: "Watch") -> None:
        self._watch = ref(watch)

    def __call__(self, execute: Any, *statement: Any) -> Any:
        watch = self._watch()
        return execute(*statement) if watch is None else watch(execute, *statement)


class Watch:
    """Watches a transaction from :meth:`start` to :meth:`stop`.

    :param block: ours, which is entered
    :param has_request_block: Django's ``ATOMIC_REQUESTS`` block is a savepoint in this transaction
    :param remedy: what to do instead of ending the transaction
    """

    def __init__(
        self, block: AttemptBlock, has_request_block: bool = False, remedy: str = INSTEAD
    ) -> None:
        self._block = block
        self._alias = str(block.using)
        self._connection = cast(Any, connections[self._alias])
        self._dialect = dialect_of(self._connection)
        self._session = self._connection.connection
        self._depth = len(savepoints(self._connection)) if has_request_block else -1
        self._remedy = remedy
        self._has_savepoint = False
        self._wrapper = _Wrapper(self)
        self._is_ended = False
        self._is_wished = False
        self._rolled_back: bool | None = None  # by accident?
        self._refused: EndsTransaction | None = None

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        watch_statements(self._connection, self._wrapper, self._wish)
        if not self._dialect.knows_transaction_status:
            self._control("SAVEPOINT")
            self._has_savepoint = True

    def stop(self) -> None:
        """Watch no more, and let the database undo what a session holds that Django has lost sight
        of. Harmless if that was said before."""
        connection = self._connection
        stop_watching(connection, self._wrapper)
        if self.is_replaced:
            # The new session may be half set up, because its first statements were refused.
            connection.close()
            with suppress(Exception):  # it may be closed
                self._session.close()

    def ask(self) -> None:
        """Ask the server whether the transaction is still ours, if only the server knows."""
        if self._has_savepoint and not self.is_undone:
            self._has_savepoint = False
            try:
                self._control("RELEASE SAVEPOINT")
            except DatabaseError:
                self._is_ended = True

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if self._is_closed or self._status is TransactionStatus.ENDED:
            # In autocommit, or in a transaction that nobody ends, it would be half of the writes.
            raise EndsTransaction(f"{self.loss} Nothing more is sent to the database.")
        if self._dialect.ends_transaction(self._connection, sql):
            self._refused = EndsTransaction(
                f"django_idempotency: {str(sql)[:200]!r} would end the transaction of the "
                f"idempotency key, and was not sent to the database. {self._remedy}"
            )
            raise self._refused
        try:
            result = execute(sql, params, many, context)
        except DatabaseError:
            if self._leaves_request_block(sql, "RELEASE SAVEPOINT"):
                # Its savepoint has gone with our transaction. We say so when the view has ended.
                self._is_ended = True
                return None
            raise
        if self._leaves_request_block(sql, "ROLLBACK TO SAVEPOINT"):
            self._rolled_back = not self._is_wished
        if isinstance(sql, str) and sql.startswith("ROLLBACK TO"):
            # What was undone for a wish, or by accident, is mended now.
            self._is_wished = False
        return result

    @property
    def is_lost(self) -> bool:
        """Whether the transaction, and the lock with it, has ended, as far as we know here."""
        ended = self._is_ended or self._status is TransactionStatus.ENDED
        return ended or self._is_closed or self.is_replaced

    @property
    def is_undone(self) -> bool:
        """Whether the writes are gone, or will be."""
        undone = self._rolled_back is not None or takes_no_statements(self._connection)
        return undone or self.is_lost or self._status is TransactionStatus.ABORTED

    @property
    def is_accident(self) -> bool:
        """Whether anything is wrong that nobody wished (``set_rollback(True)``): a success must
        not be stored."""
        if self._refused is not None or self._block.has_refused or self.is_lost:
            return True
        if self._rolled_back is not None:
            return self._rolled_back
        return self.is_undone and not self._is_wished

    @property
    def is_aborted(self) -> bool:
        """Whether the server refuses everything but a rollback."""
        return self._status is TransactionStatus.ABORTED

    def undone_from_outside(self) -> str:
        """Note that Django's block of ``ATOMIC_REQUESTS``, which shares our transaction, undoes it.
        It has taken back its flag by now.

        :return: the reason, if that was not somebody's wish
        """
        self._rolled_back = not self._is_wished
        return self.reason if self.is_accident else ""

    @property
    def is_replaced(self) -> bool:
        """Whether the alias has another connection by now, or that another session."""
        connection = self._connection
        same = connections[self._alias] is connection and connection.connection is self._session
        return not same

    @property
    def reason(self) -> str:
        """What went wrong, if :attr:`is_accident`."""
        if self._refused is not None:
            return f"An error was caught that must not be: {self._refused}"
        if self._block.has_refused:
            return f"A refused atomic(durable=True) was caught. {self._remedy}"
        if self.is_lost:
            return self.loss
        return (
            "An error inside of atomic() had undone its writes. Let the error out, or catch it "
            "outside of an atomic() block of its own."
        )

    @property
    def loss(self) -> str:
        """How it was lost, if :attr:`is_lost`."""
        if self._is_closed or self.is_replaced:
            return (
                f"The connection to database {self._alias!r} was closed or replaced, and with it "
                "ended the transaction of the idempotency key: a lost session, connection.close(), "
                "or close_old_connections(), which closes every connection in a transaction."
            )
        return (
            f"The transaction of the idempotency key on database {self._alias!r} has ended: rolled "
            "back by the server (a deadlock, a lock that was not granted, a conflict), or ended by "
            "SQL that was not seen (a stored procedure, the driver)."
        )

    @property
    def _is_closed(self) -> bool:
        return has_lost(self._connection, self._session)

    @property
    def _status(self) -> TransactionStatus:
        return self._dialect.transaction_status(self._session)

    def _leaves_request_block(self, sql: object, statement: str) -> bool:
        # By then its savepoint is off Django's list.
        is_it = len(savepoints(self._connection)) == self._depth
        return is_it and isinstance(sql, str) and sql.startswith(statement)

    def _wish(self, rollback: bool) -> None:
        self._is_wished = rollback

    def _control(self, verb: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"{verb} {SAVEPOINT}")
