"""Everything that we ask of Django's transactions beyond its documented interface, in one place.

``Atomic`` and its fields on connections are the same in Django 5.2, 6.0 and 6.1. A test per name
tells when that changes.
"""

from collections.abc import Callable
from typing import Any


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
