"""Asking a view's resolver what became of an interrupted attempt."""

from collections.abc import Callable
from typing import Any

from django.http.response import HttpResponseBase

from ..lifecycle.non_atomic import Resolve
from ..policy import Policy
from ..protocol.record import StoredResponse
from ..protocol.verdict import Verdict
from ..remember import Memory, memory_of
from .responses import freeze, rendered


def resolve_by(resolver: Callable[[Any], Any], policy: Policy) -> Resolve:
    """Return what the lifecycle asks.

    :param resolver: returns a response, which is stored; ``RUN_AGAIN`` or ``STILL_UNKNOWN``
    """

    def resolve(operation: Any) -> StoredResponse | Verdict:
        answer = resolver(operation)
        if isinstance(answer, HttpResponseBase):
            response = rendered(answer)
            return freeze(response, policy, memory_of(response) or Memory())
        try:
            return Verdict(answer)
        except ValueError:
            raise TypeError(
                f"The resolver returned {answer!r}; it must return a response, RUN_AGAIN or "
                "STILL_UNKNOWN (django_idempotency.resolving)."
            ) from None

    return resolve
