"""Our block and Django's block of ``ATOMIC_REQUESTS``, one inside the other: what either begins,
undoes or commits for both.

Like ``django`` beside it, this uses parts of Django beyond its documented interface, and
``tests/compat/test_request_block.py`` has a test per name.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import Error, transaction

from .django import is_inside, put_wrapper_first, remove_wrapper, start_over


class UnsentSavepoint:
    """A savepoint of Django's at the beginning of a transaction, which the database never sees.

    There is nothing to release, and rolling back to it is rolling the whole transaction back. No
    cursor is asked for that (``_savepoint_commit``, ``_savepoint_rollback``), because Django's log
    of queries would show it.

    :param undo: called instead of rolling back to it
    :param sid: Django's name for it
    """

    def __init__(self, connection: Any, undo: Callable[[], None], sid: str = "") -> None:
        self._connection = connection
        self._undo = undo
        self.sid = sid
        connection._savepoint_commit = self._release
        connection._savepoint_rollback = self._roll_back

    def close(self) -> None:
        """Answer for it no more."""
        replaced = vars(self._connection)
        if replaced.get("_savepoint_commit") == self._release:
            del replaced["_savepoint_commit"], replaced["_savepoint_rollback"]

    def _release(self, sid: str) -> None:
        if sid != self.sid:
            type(self._connection)._savepoint_commit(self._connection, sid)

    def _roll_back(self, sid: str) -> None:
        if sid == self.sid:
            self._undo()
        else:
            type(self._connection)._savepoint_rollback(self._connection, sid)


class FirstSavepoint(UnsentSavepoint):
    """The savepoint of a block of Django's that begins inside ours before anything else was sent.

    :param connection: in our block, which is the outermost one
    :param undo: called instead of rolling back to the savepoint
    :ivar is_open: Django may still roll back to it
    :ivar is_undone: Django has, and nothing was sent since
    """

    def __init__(self, connection: Any, undo: Callable[[], None]) -> None:
        super().__init__(connection, undo)
        self.is_open = self.is_undone = False
        connection._savepoint = self._create
        put_wrapper_first(connection, self._note_statement)

    def close(self) -> None:
        super().close()
        self.is_open = self.is_undone = False
        self._wait_no_more()

    def _create(self, sid: str) -> None:
        self.sid = sid
        self.is_open = True
        self._wait_no_more()

    def _note_statement(self, execute: Any, *statement: Any) -> Any:
        self._wait_no_more()
        self.is_undone = False
        if not self.is_open:
            self.close()
        return execute(*statement)

    def _wait_no_more(self) -> None:
        remove_wrapper(self._connection, self._note_statement)
        if vars(self._connection).get("_savepoint") == self._create:
            del self._connection._savepoint

    def _release(self, sid: str) -> None:
        super()._release(sid)
        self.is_open = self.is_open and sid != self.sid

    def _roll_back(self, sid: str) -> None:
        if sid != self.sid:
            super()._roll_back(sid)
            return
        # Django itself removes those of the savepoint: there may be others, registered before it.
        hooks = self._connection.run_on_commit
        self._undo()
        if not self._connection.closed_in_transaction:
            self._connection.run_on_commit = hooks
        self.is_undone = True
        put_wrapper_first(self._connection, self._note_statement)


class Foundation:
    """The guard's block beneath a block of Django that has already begun the transaction.

    The guard's block becomes the outermost one, and Django's behaves as if it had created a
    savepoint when it began. (``atomic_blocks``, ``savepoint_ids``)

    :param connection: in Django's block alone
    :param block: ours, not entered
    :param upper: Django's block, the only one that is open
    :param undo: called instead of rolling back to the savepoint
    """

    SAVEPOINT = "idempotency_request"

    def __init__(
        self,
        connection: Any,
        block: transaction.Atomic,
        upper: transaction.Atomic,
        undo: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._block = block
        self._upper = upper
        connection.atomic_blocks.insert(0, block)
        connection.savepoint_ids.insert(0, self.SAVEPOINT)
        self._savepoint = UnsentSavepoint(connection, undo, self.SAVEPOINT)

    @property
    def carries(self) -> bool:
        """Whether Django's block is still open."""
        return is_inside(self._connection, self._upper)

    def withdraw(self) -> None:
        """Let Django's block be the outermost one again: it ends the transaction."""
        if is_inside(self._connection, self._block):
            self._connection.atomic_blocks.remove(self._block)
            self._connection.savepoint_ids.remove(self.SAVEPOINT)
        self.close()

    def close(self) -> None:
        """Stop answering for the savepoint."""
        self._savepoint.close()


class LastStatement:
    """What is sent together with the COMMIT of a block of Django's, or before any other statement.

    Django's block commits when we are not on the stack any more, so ``_commit`` is replaced for
    this one commit. If the block is rolled back, or its connection closed, Django forgets the hooks
    of the transaction, and so it is known that this is to be forgotten, too.

    :param connection: in Django's block alone
    :param hook: one of the hooks that run after the commit
    :param send: called with whether COMMIT comes next; raises if nothing may be committed
    :param begin: begins another transaction, after nothing was committed beneath an open block
    """

    def __init__(
        self,
        connection: Any,
        hook: Callable[[], None],
        send: Callable[[bool], None],
        begin: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._hook = hook
        self._send = send
        self._begin = begin
        connection._commit = self._commit
        put_wrapper_first(connection, self._statement)

    def _is_due(self) -> bool:
        """Whether it is still to be sent; from now on it is not."""
        remove_wrapper(self._connection, self._statement)
        if vars(self._connection).get("_commit") == self._commit:
            del self._connection._commit
        return any(hook is self._hook for _, hook, _ in self._connection.run_on_commit)

    def _statement(self, execute: Any, *statement: Any) -> Any:
        """Another statement comes: it may end the transaction, or set a savepoint."""
        if self._is_due():
            try:
                self._send(False)
            except BaseException:
                start_over(self._connection, self._begin)
                raise
        return execute(*statement)

    def _commit(self) -> None:
        connection = self._connection
        if self._is_due():
            # The block is not left yet: hooks may still be added.
            connection.in_atomic_block = True
            try:
                self._send(True)
            except BaseException:
                connection.in_atomic_block = False
                # Django does this for errors of the database only.
                try:
                    connection.rollback()
                except Error:
                    with suppress(Error):  # the driver may not close what is closed
                        connection.close()
                raise
            connection.in_atomic_block = False
        connection._commit()
