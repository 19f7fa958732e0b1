"""The transaction an attempt runs in, and its place among Django's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..compat.django import (
    AttemptBlock,
    commit_beneath,
    first_on_commit,
    is_in_test_case,
    is_inside,
    own_blocks,
    savepoints,
    set_hooks_aside,
    start_over,
)
from ..compat.request_block import FirstSavepoint, Foundation, LastStatement
from ..stores.base import Busy
from ..stores.database.connections import claim_connection
from ..stores.database.dialects import Dialect
from .watch import CLOSED, ENDED, Inspection, Watch


class RequestBlock(Enum):
    """Where Django's block of ``ATOMIC_REQUESTS`` is when the guard begins."""

    NONE = auto()
    """There is none, so any open block is not Django's."""
    AROUND = auto()
    """Django has begun it, and called the view inside."""
    LATER = auto()
    """Django will begin it inside our transaction."""


class AttemptTransaction:
    """The outermost transaction of a guarded request, although it starts inside the view.

    With ``ATOMIC_REQUESTS`` Django has begun its own block before the guard runs. What happened in
    there (a tenant that is set for the transaction, a token that is spent) belongs to the view's
    work, so the attempt runs in that very transaction: our block is put beneath Django's. Claims,
    which rivals must see, are made on another connection (decision 0064).

    Where that cannot be (in a test case's transaction), and on SQLite where nothing has been
    written yet, Django's block is left instead, and entered again inside ours, as a savepoint.

    :param dialect: of that connection's database
    :param undone: called when Django's block undoes the transaction that it shares with us
    :ivar joins_request_block: the attempt runs in the transaction that Django has begun
    :ivar claims_in_request_block: records are claimed in that transaction: SQLite has one writer,
        and this is it, so rivals wait for its end, and a crash leaves no record
    :ivar claims_on_other_connection: records are claimed on another connection
    :ivar leaves_request_block: Django's block is to be left, see :meth:`outside_request_block`
    :ivar block: ours, while the transaction is open
    :ivar is_committed: the last :meth:`commit` has taken place, even if its hooks failed
    :ivar is_handed_over: Django's block decides about the last :meth:`commit`
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        dialect: Dialect,
        expected: RequestBlock = RequestBlock.NONE,
        undone: Callable[[], None] = lambda: None,
    ) -> None:
        self._dialect = dialect
        self.using = connection.alias
        self._request_block = None
        self.joins_request_block = False
        if connection.in_atomic_block:
            self._request_block = _request_block(connection, expected)
            # Another connection would not see what a test case has written.
            self.joins_request_block = (
                self._request_block is not None
                and not is_in_test_case(connection)
                and (self._dialect.has_row_locks or self._dialect.has_written(connection))
            )
        self.claims_on_other_connection = self.joins_request_block and self._dialect.has_row_locks
        self.claims_in_request_block = self.joins_request_block and not self._dialect.has_row_locks
        self.leaves_request_block = self._request_block is not None and not self.joins_request_block
        self._has_request_block = expected is RequestBlock.LATER or self.leaves_request_block
        self._undone = undone
        self._foundation: Foundation | None = None
        # One writer would lose its place: others write between a rollback and the next lock.
        self._may_save_savepoint = expected is RequestBlock.LATER and self._dialect.has_row_locks
        self._first_savepoint: FirstSavepoint | None = None
        self._is_outermost = False
        self.block: AttemptBlock | None = None
        self._watch: Watch | None = None
        self._unintended = ""
        self.is_handed_over = False
        self.is_committed = False

    def inspect(self, asks_server: bool = False) -> Inspection:
        """Return what has become of the transaction since :meth:`watch`.

        :param asks_server: the view has ended, and Django's block is left
        """
        found = CLOSED if self._watch is None else self._watch.inspect(asks_server)
        return replace(found, unintended=self._unintended) if self._unintended else found

    @contextmanager
    def separate_commit(self, waits: bool = False) -> Iterator["AttemptTransaction"]:
        """Claim and bump fencing tokens here, in separate commits.

        :param waits: for a rival, as the policy allows
        :raises Busy: if no connection is free
        """
        if not self.claims_on_other_connection:
            yield self
            return
        with claim_connection(self.using, waits):
            yield AttemptTransaction(connections[self.using], self._dialect)

    @contextmanager
    def outside_request_block(self, failure: BaseException | None = None) -> Iterator[None]:
        """Leave Django's block, if we are in it, and enter it again at the end.

        :param failure: what it is left with
        """
        connection, block = connections[self.using], self._request_block
        if block is None or not is_inside(connection, block):
            yield
            return
        # Hooks that wait for the view's end must not run before the view.
        restore = None if self.block is not None else set_hooks_aside(connection)
        try:
            self._leave(block, failure)
            yield
        finally:
            block.__enter__()
            if restore is not None:
                restore()

    def _leave(self, block: transaction.Atomic, failure: BaseException | None) -> None:
        try:
            block.__exit__(type(failure) if failure else None, failure, None)
        except BaseException:
            # The connection is gone, or a deferred constraint failed.
            self.rollback()
            raise

    def begin(self) -> None:
        """Begin, or join what Django has begun; on SQLite wait for the write lock. A record must be
        locked next.

        :raises Busy: if that takes longer than the busy timeout
        """
        connection, block = (
            connections[self.using],
            AttemptBlock(self.using, savepoint=True, durable=False),
        )
        if self.joins_request_block and is_inside(connection, self._request_block):
            assert self._request_block is not None  # noqa: S101
            self._foundation = Foundation(connection, block, self._request_block, self._undone)
            self._is_outermost = True
        else:
            self._is_outermost = not connection.in_atomic_block
            try:
                self._dialect.enter(block, connection, locks_next=True)
            except OperationalError as error:
                if self._dialect.is_contention(error):
                    raise Busy(self._dialect.has_busy_timeout) from error
                raise
        self.block = block

    def savepoint(self) -> AbstractContextManager[Any]:
        """Return a savepoint where a failed statement would end what others have begun."""
        joins = self._foundation is not None
        return transaction.atomic(using=self.using) if joins else nullcontext()

    def watch(self, savepoint: str | None = None) -> None:
        """The view runs next: see what becomes of the transaction.

        :param savepoint: see :class:`Watch`
        """
        assert self.block is not None  # noqa: S101
        has_request_block = self._has_request_block
        self._watch = Watch(self.block, self._dialect, has_request_block, savepoint=savepoint)
        if self._may_save_savepoint:
            connection = connections[self.using]
            if not savepoints(connection):
                self._may_save_savepoint = False
                self._first_savepoint = FirstSavepoint(connection, self._undone)

    def stop_watching(self) -> None:
        """The view has ended: what follows is ours."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def undo(self) -> None:
        """Undo everything, and begin again at once, without any lock on a record.

        :raises Busy: on SQLite, if others write for longer than the busy timeout
        """
        first = self._first_savepoint
        if self._foundation is None and not (first is not None and first.is_open):
            self.rollback()
            self.begin()
            return
        if self._watch is not None:
            self._unintended = self._unintended or self._watch.note_undone_by_django()
            self.stop_watching()
        self._has_request_block = False  # or it has no savepoint any more
        connection = connections[self.using]
        try:
            start_over(connection, partial(self._dialect.begin, connection, immediate=True))
        except OperationalError as error:
            if not self._dialect.is_contention(error):
                raise
            start_over(connection, partial(self._dialect.begin, connection))
            raise Busy(self._dialect.has_busy_timeout) from error

    def loss_by(self, error: BaseException) -> str:
        """Return how the transaction has ended, if storing the response has failed because of
        that."""
        return ENDED.format(self.using) if self._dialect.found_it_ended(error) else ""

    @property
    def is_undone(self) -> bool:
        """Whether Django's block inside ours has undone everything, and nothing was sent since."""
        return self._first_savepoint is not None and self._first_savepoint.is_undone

    @property
    def commits_alone(self) -> bool:
        """Whether :meth:`commit` sends COMMIT, and nothing but hooks follows."""
        carries = self._foundation is not None and self._foundation.carries
        return self._is_outermost and not carries

    def commits_together(self, is_success: bool) -> bool:
        """Whether Django's block commits for us, and can send a statement of ours with COMMIT.

        Not beside a block on another database, which might have committed before that fails.

        :param is_success: otherwise the response is stored even if the transaction has ended, so
            storing must not wait where that is not known before
        """
        if self._foundation is None or not self._foundation.carries:
            return False
        connection = connections[self.using]
        return (
            (is_success or self._dialect.knows_transaction_status)
            and self._dialect.fuses_commit(connection)
            and not any(
                each.in_atomic_block
                for each in connections.all(initialized_only=True)
                if each is not connection
            )
        )

    def commit(self, at_once: bool = False, together: Callable[[bool], None] | None = None) -> None:
        """Commit and run the ``on_commit`` hooks, which may raise when all is committed.

        :param at_once: although Django's block is open, in which we are; otherwise that commits,
            or undoes everything
        :param together: sends what is committed with :meth:`commits_together`, given whether COMMIT
            comes next; raises if nothing may be committed
        """
        self.is_committed = False
        connection = connections[self.using]
        note = partial(setattr, self, "is_committed", True)
        if self._foundation is None or not self._foundation.carries:
            first_on_commit(connection, note)
            self._end(connection)
        elif at_once:
            begin = partial(self._dialect.begin, connection)
            self._hand_over(lambda: commit_beneath(connection, begin))
            self.is_committed = True
        else:
            self._hand_over()
            self.is_handed_over = True
            first_on_commit(connection, note)
            if together is not None:
                begin = partial(self._dialect.begin, connection)
                LastStatement(connection, note, together, begin)

    def on_commit(self, function: Callable[[], None]) -> bool:
        """Call a function when Django's block has committed, before the hooks of the view.

        :return: whether that is still to come
        """
        if self.is_committed:
            return False
        first_on_commit(connections[self.using], function)
        return True

    def rollback(self) -> None:
        """Undo everything since :meth:`begin`, and what Django's block holds if we share it."""
        connection = connections[self.using]
        if self._foundation is not None and self._foundation.carries:
            begin = partial(self._dialect.begin, connection)
            self._hand_over(lambda: start_over(connection, begin))
        elif self.block is not None:
            if is_inside(connection, self.block):
                transaction.set_rollback(True, using=self.using)
            self._end(connection)

    def give_up(self) -> None:
        """End before the view has run: what others have done in the transaction stays."""
        if self._foundation is not None and self._foundation.carries:
            self._hand_over()
        else:
            self.rollback()

    def _hand_over(self, before: Callable[[], None] = lambda: None) -> None:
        """Leave the transaction to Django's block, which is open on ours."""
        foundation, watch = self._foundation, self._watch
        self.block = self._foundation = self._watch = None
        if watch is not None:
            watch.close()
        try:
            before()
        finally:
            assert foundation is not None  # noqa: S101
            foundation.withdraw()

    def _end(self, connection: Any) -> None:
        """Leave our block, if Django still knows it: not if the view has connected anew."""
        block, foundation, watch = self.block, self._foundation, self._watch
        first, self._first_savepoint = self._first_savepoint, None
        self.block = self._foundation = self._watch = None
        is_entered = is_inside(connection, block)
        if watch is not None:
            watch.close()
        if foundation is not None:
            foundation.close()
        if first is not None:
            first.close()
        if block is not None and is_entered:
            block.__exit__(None, None, None)


def _request_block(
    connection: BaseDatabaseWrapper, expected: RequestBlock
) -> transaction.Atomic | None:
    """Return the block that ``ATOMIC_REQUESTS`` opened, if we are in it.

    A test case's blocks do not count: everything in a test happens inside them. Any other block
    belongs to other code, such as a middleware around the view, which may still undo its writes.

    :raises ImproperlyConfigured: if we are in a block that is not Django's
    """
    blocks = own_blocks(connection)
    if not blocks:
        return None
    if any(isinstance(block, AttemptBlock) for block in blocks):
        raise ImproperlyConfigured(
            "A guarded view, or a function under a key, runs inside of another one, whose "
            "transaction could undo it. Of two views, take the key from the inner request, or the "
            "guard from the outer view. Call run_once() before or after, or call the plain "
            "function."
        )
    if len(blocks) == 1 and expected is RequestBlock.AROUND:
        block: transaction.Atomic = blocks[0]
        return block
    raise ImproperlyConfigured(
        "A guarded view, or a function under a key, runs inside of transaction.atomic() on "
        f"database {connection.alias!r}, which would hide its record from others until the end, "
        "and could undo it. Move atomic() into the view (below @idempotent) or the function, or "
        "remove it: both run in one transaction with their record. If a middleware has opened it "
        "(django-reversion's does), make that middleware do without: python manage.py check names "
        "it."
    )
