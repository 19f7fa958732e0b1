"""Looking at a view once, rather than in every request."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

Seen = TypeVar("Seen")

MOST = 4096
"""Functions whose looks are remembered."""


def memoize(look: Callable[[Any], Seen]) -> Callable[[Any], Seen]:
    """Have a look at a function remembered. What is seen must not change any more."""
    remembered = lru_cache(maxsize=MOST)(look)

    @wraps(look)
    def seen(function: Any) -> Seen:
        try:
            return remembered(function)
        except TypeError:  # an object that cannot be hashed
            return look(function)

    return seen
