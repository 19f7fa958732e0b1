"""The arguments of a decorator, and what was made of them once."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .policy import Policy

Made = TypeVar("Made")

_MOST = 16
"""Policies, or inner arguments, for which the results are remembered."""


class Options(dict[str, object]):
    """Arguments of ``@idempotent``. Nobody changes them after they are made.

    They live as long as what they decorate, so what they make of a policy is kept here: nothing is
    parsed twice, and no view evicts another's.
    """

    __slots__ = ("_made",)

    def __init__(self, given: Mapping[str, object] | None = None) -> None:
        super().__init__(given or {})
        self._made: tuple[tuple[object, Any], ...] = ()

    def over(self, policy: Policy) -> Policy:
        """Return a policy with these options.

        :raises PolicyError: for an unknown name or a bad value
        """
        return self._remembered(policy, lambda: policy.override(**self)) if self else policy

    def around(self, inner: "Options") -> "Options":
        """Return these options and those of a decorator further inside, whose word counts."""
        if not self or not inner:
            return inner or self
        return self._remembered(inner, lambda: Options({**self, **inner}))

    def _remembered(self, base: object, make: Callable[[], Made]) -> Made:
        for known, made in self._made:
            if known is base:  # kept beside its result, so it is the same object
                found: Made = made
                return found
        new = make()
        # One assignment: a thread that loses the other's result makes it again.
        self._made = (*self._made[1 - _MOST :], (base, new))
        return new


NOTHING = Options()
"""Options that change nothing."""
