"""Everything that we ask of Django's transactions beyond its documented interface, in one place.

``Atomic`` and its fields on connections are the same in Django 5.2, 6.0 and 6.1. A test per name
tells when that changes.
"""

import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from django.db import transaction


def own_blocks(connection: Any) -> list[Any]:
    """Return the ``atomic()`` blocks we are in; a test case's do not count, as everything in a test
    happens inside them."""
    return [block for block in connection.atomic_blocks if not block._from_testcase]


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
