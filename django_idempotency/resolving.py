"""What the resolver of a view returns, unless it returns a response::

def resolver(operation):
    charge = gateway.find_charge(operation.derive_key("charge"))
    if charge is None:
        return RUN_AGAIN
    return JsonResponse({"charge": charge.id}, status=201)
"""

from .protocol.status import ResolverAnswer

RUN_AGAIN = ResolverAnswer.RUN_AGAIN
"""The interrupted attempt had no effect, or one that running again does not double."""

STILL_UNKNOWN = ResolverAnswer.STILL_UNKNOWN
"""Nobody can say yet: the caller is refused with ``outcome_unknown``."""

__all__ = ["RUN_AGAIN", "STILL_UNKNOWN"]
