"""The transaction an attempt runs in, and its place among Django's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum, auto
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, transaction

from ..compat.django import (
    AttemptBlock,
    Foundation,
    commit_beneath,
    first_on_commit,
    has_written,
    is_in_test_case,
    is_inside,
    own_blocks,
    set_hooks_aside,
    start_over,
    takes_no_statements,
)
from ..stores.base import Busy
from ..stores.database.connections import claim_connection
from ..stores.database.dialects import dialect_of
from .watch import Watch


class RequestBlock(Enum):
    """Where Django's block of ``ATOMIC_REQUESTS`` is when the guard begins."""

    NONE = auto()
    """There is none, so whatever is open was opened by somebody else."""
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

    :param undone: called when Django's block undoes the transaction that it shares with us
    :ivar is_committed: the last :meth:`commit` has taken place, whatever its hooks did then
    """

    def __init__(
        self,
        using: str,
        expected: RequestBlock = RequestBlock.NONE,
        undone: Callable[[], None] = lambda: None,
    ) -> None:
        self.using = using
        self._request_block = _request_block(using, expected)
        self.stays = self._request_block is not None and _can_stay(using)
        """Whether the attempt runs in the transaction that Django has begun."""
        self._has_request_block = expected is RequestBlock.LATER or (
            self._request_block is not None and not self.stays
        )
        self._undone = undone
        self._foundation: Foundation | None = None
        self._block: AttemptBlock | None = None
        self._watch: Watch | None = None
        self._accident = ""
        self._is_handed_over = False
        self.is_committed = False

    @property
    def is_open(self) -> bool:
        return self._block is not None

    @property
    def is_closed_to_us(self) -> bool:
        """Whether a surrounding transaction (a test case's) takes no more statements."""
        connection = connections[self.using]
        return connection.in_atomic_block and takes_no_statements(connection)

    @property
    def is_usable(self) -> bool:
        """Whether it is open, is ours, and takes statements, as far as we know."""
        lost = self._watch is not None and (self._watch.is_lost or self._watch.is_aborted)
        return self.is_open and not self.is_closed_to_us and not lost

    @property
    def is_undone(self) -> bool:
        """Whether the view's writes are gone, or will be."""
        return self._watch is not None and self._watch.is_undone

    @property
    def loss(self) -> str:
        """How the transaction was lost while the view ran; empty if it was not, as far as we know
        without asking the server."""
        return self._watch.loss if self._watch is not None and self._watch.is_lost else ""

    def accident(self) -> str:
        """Return why a success must not be stored; empty if nothing happened that the view did not
        wish. The view has ended, and Django's block is left."""
        if self._accident or self._watch is None:
            return self._accident
        self._watch.ask()
        return self._watch.reason if self._watch.is_accident else ""

    @property
    def is_django_s(self) -> bool:
        """Whether Django's block, in which we are, decides about the commit."""
        block = self._request_block
        return block is not None and is_inside(connections[self.using], block)

    @property
    def claims_inside(self) -> bool:
        """Whether records are claimed in the transaction itself: SQLite has one writer, and this is
        it, so rivals wait for its end, and a crash leaves no record."""
        return self.stays and not dialect_of(connections[self.using]).has_row_locks

    @property
    def shares(self) -> bool:
        """Whether it is Django's, while records are claimed on another connection."""
        return self.stays and not self.claims_inside

    @contextmanager
    def apart(self, waits: bool = False) -> Iterator["AttemptTransaction"]:
        """Claim and number records here, in commits of their own.

        :param waits: for a rival, as policy allows it
        :raises Busy: if there is no connection to be had
        """
        if not self.shares:
            yield self
            return
        with claim_connection(self.using, waits):
            yield AttemptTransaction(self.using)

    def outside_request_block(
        self, failure: BaseException | None = None
    ) -> AbstractContextManager[None]:
        """Leave Django's block, if we are in it and do not stay, and enter it again at the end.

        :param failure: what it is left with
        """
        block = self._request_block
        if block is None or self.stays or not self.is_django_s:
            return nullcontext()
        return self._outside(block, failure)

    @contextmanager
    def _outside(self, block: transaction.Atomic, failure: BaseException | None) -> Iterator[None]:
        # Hooks that wait for the view's end must not run before the view.
        starts = not self.is_open and self._watch is None
        restore = set_hooks_aside(connections[self.using]) if starts else None
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
        """Begin, or join what Django has begun; on SQLite wait for the write lock.

        :raises Busy: if that takes longer than the busy timeout
        """
        block = AttemptBlock(self.using)
        if self.stays and self.is_django_s:
            assert self._request_block is not None  # noqa: S101
            self._foundation = Foundation(block, self._request_block, self._undone)
        else:
            try:
                dialect_of(connections[self.using]).enter(block, connections[self.using])
            except OperationalError as error:
                dialect = dialect_of(connections[self.using])
                if dialect.is_contention(error):
                    raise Busy(dialect.has_busy_timeout) from error
                raise
        self._block = block

    def locking(self, waits: bool) -> AbstractContextManager[Any]:
        """A lock that is waited for in vain must not end a transaction that others have begun."""
        shares = waits and self._foundation is not None
        return transaction.atomic(using=self.using) if shares else nullcontext()

    def watch(self) -> None:
        """The view runs next: see what becomes of the transaction."""
        assert self._block is not None  # noqa: S101
        self._watch = Watch(self._block, self._has_request_block)
        self._watch.start()

    def undo(self) -> None:
        """Undo everything, and begin again at once, without any lock on a record.

        :raises Busy: on SQLite, if others write for longer than the busy timeout
        """
        if self._watch is not None and self._foundation is not None:
            self._accident = self._accident or self._watch.undone_from_outside()
        if self._foundation is None:
            self.rollback()
            self.begin()
            return
        self._stop_watching()
        connection = connections[self.using]
        try:
            start_over(connection, "IMMEDIATE")
        except OperationalError as error:
            dialect = dialect_of(connection)
            if not dialect.is_contention(error):
                raise
            start_over(connection)
            raise Busy(dialect.has_busy_timeout) from error

    def commit(self, at_once: bool = False) -> None:
        """Commit and run the ``on_commit`` hooks, which may raise when all is committed.

        :param at_once: although Django's block is open, in which we are; otherwise that commits,
            or undoes everything
        """
        self.is_committed = False
        connection = connections[self.using]
        if not self._hand_over(lambda: commit_beneath(connection) if at_once else None):
            first_on_commit(connection, self._note_commit)
            self._end()
        elif at_once:
            self._note_commit()
        else:
            self._is_handed_over = True
            first_on_commit(connection, self._note_commit)

    def _note_commit(self) -> None:
        self.is_committed = True

    def rollback(self) -> None:
        """Undo everything since :meth:`begin`, and what Django's block holds if we share it."""
        if self.is_open and not self._hand_over(lambda: start_over(connections[self.using])):
            if self._is_entered:
                transaction.set_rollback(True, using=self.using)
            self._end()

    def give_up(self) -> None:
        """End before the view has run: what others have done in the transaction stays."""
        if self.is_open and not self._hand_over(lambda: None):
            self.rollback()

    def on_handed_over(self, committed: Callable[[], None]) -> bool:
        """Call a function when Django's block has committed, before the hooks of the view.

        :return: whether that is still to come
        """
        if self._is_handed_over and not self.is_committed:
            first_on_commit(connections[self.using], committed)
            return True
        return False

    def _hand_over(self, before: Callable[[], None]) -> bool:
        """Leave the transaction to Django's block, if that is open on ours."""
        foundation = self._foundation
        if foundation is None or not foundation.carries:
            return False
        self._stop_watching()
        self._block = self._foundation = None
        try:
            before()
        finally:
            foundation.withdraw()
        return True

    def _end(self) -> None:
        block, is_entered, self._block = self._block, self._is_entered, None
        foundation, self._foundation = self._foundation, None
        self._stop_watching()
        if foundation is not None:
            foundation.close()
        if block is not None and is_entered:
            block.__exit__(None, None, None)

    def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    @property
    def _is_entered(self) -> bool:
        """Whether Django still knows our block: not if the view has connected anew."""
        return is_inside(connections[self.using], self._block)


def _can_stay(using: str) -> bool:
    connection: Any = connections[using]
    if is_in_test_case(connection):
        return False  # a test case's: another connection would not see what it has written
    return dialect_of(connection).has_row_locks or has_written(connection)


def _request_block(using: str, expected: RequestBlock) -> transaction.Atomic | None:
    """Return the block that ``ATOMIC_REQUESTS`` opened, if we are in it.

    A test case's blocks do not count: everything in a test happens inside them. Any other block
    belongs to somebody who may still undo what it holds, such as a middleware around the view.

    :raises ImproperlyConfigured: if we are in a block that is not Django's
    """
    blocks = own_blocks(connections[using])
    if not blocks:
        return None
    if any(isinstance(block, AttemptBlock) for block in blocks):
        raise ImproperlyConfigured(
            "An idempotent view runs inside another one, as a request of its own. Its response "
            "cannot be committed before the outer one's: take the key from the inner request, or "
            "the guard from the outer view."
        )
    if len(blocks) == 1 and expected is RequestBlock.AROUND:
        block: transaction.Atomic = blocks[0]
        return block
    raise ImproperlyConfigured(
        f"An idempotent view runs inside transaction.atomic() on database {using!r}, which would "
        "hide its record from other requests until the end, and could undo it. Move atomic() "
        "inside the view, below @idempotent, or remove it: the view already runs in one "
        "transaction with its record. If a middleware has opened it (django-reversion's does), "
        "make that middleware do without: python manage.py check names it."
    )
