"""The ``IDEMPOTENCY`` setting, and the policy of each view that it makes."""

from .policy import Policy
from .settings import configuration

__all__ = ["Policy", "configuration"]
