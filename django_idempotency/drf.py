"""What a project's own exception handler gets (``ERRORS="drf"``)."""

from .adapters.drf import IdempotencyError

__all__ = ["IdempotencyError"]
