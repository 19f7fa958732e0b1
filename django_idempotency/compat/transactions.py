"""Everything that we ask of Django's transactions beyond its documented interface, in one place.

``Atomic`` and its fields on connections are the same in Django 5.2, 6.0 and 6.1. A test per name
tells when that changes.
"""

import sys
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakMethod

from django.db import Error, connections, transaction

SAVEPOINT = "idempotency_request"
"""Name of a savepoint that the database never sees: :class:`Foundation` answers for it."""


def own_blocks(connection: Any) -> list[Any]:
    """Return the ``atomic()`` blocks we are in; a test case's do not count, as everything in a test
    happens inside them."""
    return [block for block in connection.atomic_blocks if not block._from_testcase]


def is_inside(connection: Any, block: transaction.Atomic) -> bool:
    return any(each is block for each in connection.atomic_blocks)


def first_on_commit(connection: Any, function: Callable[[], None]) -> None:
    """Call a function right after the commit, before all hooks: one that raises stops the others.

    For outermost blocks. Inside a test case, which never commits, nothing is called.
    """
    if len(connection.atomic_blocks) == 1:
        connection.run_on_commit.insert(0, (set(), function, False))


class AttemptBlock(transaction.Atomic):
    """Our block around a view or a step. It knows that a durable block in it was refused.

    ``atomic(durable=True)`` asks whether the innermost block belongs to a test case, and raises if
    not. Nobody else in Django asks, so it is answered and noted here.
    """

    has_refused = False

    def __init__(self, using: str) -> None:
        super().__init__(using, savepoint=True, durable=False)

    def _asked(self) -> bool:
        if sys._getframe(1).f_globals is vars(transaction):
            self.has_refused = True
        return False

    _from_testcase = property(_asked, lambda self, value: None)


def tell_wishes(connection: Any, listener: Callable[[bool], None] | None) -> None:
    """Call a function whenever somebody uses ``transaction.set_rollback()`` on a connection.

    Django itself sets the flag without that method, so a call is a wish and no accident.

    :param listener: a method, which gets what was asked for; ``None`` ends it
    """
    if listener is None:
        vars(connection).pop("set_rollback", None)
        return

    listener_of = WeakMethod(listener)  # who is forgotten is not told

    def set_rollback(rollback: bool) -> None:
        type(connection).set_rollback(connection, rollback)
        known = listener_of()
        if known is not None:
            known(rollback)

    connection.set_rollback = set_rollback


def set_hooks_aside(connection: Any) -> Callable[[], None]:
    """Take the ``on_commit`` hooks away; return what puts them back."""
    hooks, connection.run_on_commit = connection.run_on_commit, []

    def restore() -> None:
        connection.run_on_commit = hooks + connection.run_on_commit

    return restore


def start_over(connection: Any, mode: str = "") -> None:
    """Undo the whole transaction and begin another one, beneath the blocks that stay open.

    :param mode: of SQLite's ``BEGIN``; other databases begin with the next statement
    """
    connection.run_on_commit = []
    try:
        connection._rollback()
    except Error:
        # The session is lost. Django's blocks find that out when they end.
        connection.close()
        return
    connection.needs_rollback = False
    _begin(connection, mode)


def commit_beneath(connection: Any) -> None:
    """Commit beneath the blocks that stay open. Hooks wait until those have ended, too."""
    connection._commit()
    _begin(connection, "")


def _begin(connection: Any, mode: str) -> None:
    if connection.vendor == "sqlite" and connection.connection is not None:
        with connection.wrap_database_errors:
            connection.connection.execute(f"BEGIN {mode}")


class Foundation:
    """A block of ours beneath one of Django's that has begun the transaction already.

    Afterwards ours is the outermost block, and Django's stands on it as if it had made a savepoint
    when it began. None was made, so there is nothing to release. Rolling back to it means to undo
    the whole transaction, as Django's block would have.

    :param block: ours, not entered
    :param upper: Django's block, the only one that is open
    :param undo: called instead of rolling back to the savepoint
    """

    def __init__(
        self, block: transaction.Atomic, upper: transaction.Atomic, undo: Callable[[], None]
    ) -> None:
        self._connection = connection = cast(Any, connections[str(block.using)])
        self._block = block
        self._upper = upper
        self._undo = undo
        self._rolls_back = connection.ops.savepoint_rollback_sql(SAVEPOINT)
        self._releases = connection.ops.savepoint_commit_sql(SAVEPOINT)
        connection.atomic_blocks.insert(0, block)
        connection.savepoint_ids.insert(0, SAVEPOINT)
        connection.execute_wrappers.append(self._statement)

    @property
    def carries(self) -> bool:
        """Whether Django's block is still open."""
        return is_inside(self._connection, self._upper)

    def withdraw(self) -> None:
        """Let Django's block be the outermost one again: it ends the transaction."""
        if is_inside(self._connection, self._block):
            self._connection.atomic_blocks.remove(self._block)
            self._connection.savepoint_ids.remove(SAVEPOINT)
        self.close()

    def close(self) -> None:
        """Stop answering for the savepoint."""
        wrappers = self._connection.execute_wrappers
        wrappers[:] = [each for each in wrappers if each != self._statement]

    def _statement(self, execute: Any, sql: Any, *rest: Any) -> Any:
        if sql == self._rolls_back:
            return self._undo()
        return None if sql == self._releases else execute(sql, *rest)


_BASELINE = "_idempotency_changes"


def watch_changes(connection: Any, **kwargs: Any) -> None:
    """Receiver of ``connection_created``: remember on SQLite what had been changed when a
    transaction began. SQLite itself does not say whether one has written."""
    if connection.vendor == "sqlite" and _note_begin not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, _note_begin)


def has_written(connection: Any) -> bool:
    """Whether the transaction on SQLite has changed rows, and so holds the write lock."""
    return bool(connection.connection.total_changes != vars(connection).get(_BASELINE))


def _note_begin(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    if isinstance(sql, str) and sql.startswith("BEGIN"):
        connection = cast(Any, context["connection"])
        setattr(connection, _BASELINE, connection.connection.total_changes)
    return execute(sql, params, many, context)
