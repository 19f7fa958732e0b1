"""The transaction an attempt runs in, and its place among Django's own."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum, auto

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, transaction

from ..stores.base import Busy
from ..stores.contention import has_waited, is_contention
from ..stores.transactions import enter
from .blocks import AttemptBlock, first_on_commit, own_blocks
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

    :ivar is_committed: the last :meth:`commit` has taken place, whatever its hooks did then

    With ``ATOMIC_REQUESTS`` Django has begun its own block before the guard runs; a claim made
    in there would be invisible to rivals. So that block is left (its commit holds only what
    authentication did), and entered again inside ours, where it is a savepoint. It ends as
    Django expects, and ours decides about the commit.
    """

    def __init__(self, using: str, expected: RequestBlock = RequestBlock.NONE) -> None:
        self.using = using
        self._request_block = _request_block(using, expected)
        self._has_request_block = expected is RequestBlock.LATER or self._request_block is not None
        self._block: AttemptBlock | None = None
        self._watch: Watch | None = None
        self.is_committed = False

    @property
    def is_open(self) -> bool:
        return self._block is not None

    @property
    def is_closed_to_us(self) -> bool:
        """Whether a surrounding transaction (a test case's) takes no more statements."""
        connection = connections[self.using]
        return connection.in_atomic_block and connection.needs_rollback

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
        if self._watch is None:
            return ""
        self._watch.ask()
        return self._watch.reason if self._watch.is_accident else ""

    def outside_request_block(
        self, failure: BaseException | None = None
    ) -> AbstractContextManager[None]:
        """Leave Django's block, if we are in it, and enter it again at the end."""
        block = self._request_block
        if block is None or not any(
            each is block for each in connections[self.using].atomic_blocks
        ):
            return nullcontext()
        return self._outside(block, failure)

    @contextmanager
    def _outside(self, block: transaction.Atomic, failure: BaseException | None) -> Iterator[None]:
        try:
            self._leave(block, failure)
            yield
        finally:
            block.__enter__()

    def _leave(self, block: transaction.Atomic, failure: BaseException | None) -> None:
        try:
            block.__exit__(type(failure) if failure else None, failure, None)
        except BaseException:
            # The connection is gone, or a deferred constraint failed.
            self.rollback()
            raise

    def begin(self) -> None:
        """Begin; on SQLite wait for the write lock.

        :raises Busy: if that takes longer than the busy timeout
        """
        block = AttemptBlock(self.using)
        try:
            enter(block)
        except OperationalError as error:
            if is_contention(error):
                raise Busy(has_waited(error)) from error
            raise
        self._block = block

    def watch(self) -> None:
        """The view runs next: see what becomes of the transaction."""
        assert self._block is not None  # noqa: S101
        self._watch = Watch(self._block, self._has_request_block)
        self._watch.start()

    def commit(self) -> None:
        """Commit and run the ``on_commit`` hooks, which may raise when all is committed."""
        self.is_committed = False
        first_on_commit(connections[self.using], self._note_commit)
        self._end()

    def _note_commit(self) -> None:
        self.is_committed = True

    def rollback(self) -> None:
        """Undo everything since :meth:`begin`."""
        if self.is_open:
            if self._is_entered:
                transaction.set_rollback(True, using=self.using)
            self._end()

    def _end(self) -> None:
        block, is_entered, self._block = self._block, self._is_entered, None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        if block is not None and is_entered:
            block.__exit__(None, None, None)

    @property
    def _is_entered(self) -> bool:
        """Whether Django still knows our block: not if the view has connected anew."""
        return self._block in connections[self.using].atomic_blocks


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
