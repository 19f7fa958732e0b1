"""Computes facts about a view once, rather than in every request."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

Computed = TypeVar("Computed")

MAX_VIEWS = 4096
"""Views whose values are kept."""


def memoize(compute: Callable[..., Computed]) -> Callable[..., Computed]:
    """Keep the values of a function. For arguments that cannot be hashed it is called each time.

    :param compute: its values must not change
    """
    cached = lru_cache(maxsize=MAX_VIEWS)(compute)

    @wraps(compute)
    def memoized(*things: Any) -> Computed:
        try:
            return cached(*things)
        except TypeError:
            return compute(*things)

    return memoized
