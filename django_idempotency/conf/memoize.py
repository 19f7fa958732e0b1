"""Computes facts about a view once, rather than in every request."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

Computed = TypeVar("Computed")

MOST = 4096
"""Views whose values are kept."""


def memoize(compute: Callable[[Any], Computed]) -> Callable[[Any], Computed]:
    """Keep the values of a function of one argument. For an argument that cannot be hashed it is
    called each time.

    :param compute: its values must not change
    """
    cached = lru_cache(maxsize=MOST)(compute)

    @wraps(compute)
    def memoized(function: Any) -> Computed:
        try:
            return cached(function)
        except TypeError:
            return compute(function)

    return memoized
