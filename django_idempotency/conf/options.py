"""The arguments of a decorator, and the policies that they make."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .policy import Policy

Made = TypeVar("Made")

_MOST = 16
"""Policies, or inner arguments, for which the results are remembered."""


class Options(dict[str, object]):
    """Arguments of ``@idempotent``, which never change.

    They live as long as what they decorate, so the policies that they make are kept here: nothing
    is parsed twice, and no view evicts the policy of another one.
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
        """Return these options, overridden by those of a decorator further inside."""
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


NO_OPTIONS = Options()
"""Options that change nothing."""
