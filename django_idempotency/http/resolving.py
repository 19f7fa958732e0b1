"""Asking a view's resolver what became of an interrupted attempt."""

from collections.abc import Callable
from typing import Any

from django.http.response import HttpResponseBase

from ..lifecycle.non_atomic import Resolution, Resolve
from ..lifecycle.operation import Answered
from ..policy import Policy
from ..protocol.verdict import Verdict
from ..remember import NOTHING_SAID, memory_of
from .responses import freeze, is_stored, rendered


def resolve_by(resolver: Callable[[Any], Any], policy: Policy) -> Resolve:
    """Return what the lifecycle asks.

    :param resolver: returns ``RUN_AGAIN``, ``STILL_UNKNOWN``, or a response, which is stored as
        the view's would be: a 503, or what is marked with ``do_not_remember``, leaves the
        operation interrupted
    """

    def resolve(operation: Any) -> Resolution | Answered | Verdict:
        answer = resolver(operation)
        if isinstance(answer, HttpResponseBase):
            response = rendered(answer)
            memory = memory_of(response) or NOTHING_SAID
            if not is_stored(response, policy, memory):
                return Answered(response)
            retention = memory.retention or policy.retention
            return Resolution(freeze(response, policy, memory, operation.owner), retention)
        try:
            return Verdict(answer)
        except ValueError:
            raise TypeError(
                f"The resolver returned {answer!r}; it must return a response, RUN_AGAIN or "
                "STILL_UNKNOWN (django_idempotency.resolving)."
            ) from None

    return resolve
