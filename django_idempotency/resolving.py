"""Answers of a view's resolver other than a response::

def resolver(operation):
    charge = gateway.find_charge(operation.derive_key("charge"))
    if charge is None:
        return RUN_AGAIN
    return JsonResponse({"charge": charge.id}, status=201)
"""

from .protocol.status import ResolverAnswer

RUN_AGAIN = ResolverAnswer.RUN_AGAIN
"""The interrupted attempt had no effect, or running again does not repeat it."""

STILL_UNKNOWN = ResolverAnswer.STILL_UNKNOWN
"""The outcome is still unknown: refuse the retry with ``outcome_unknown``."""

__all__ = ["RUN_AGAIN", "STILL_UNKNOWN"]
