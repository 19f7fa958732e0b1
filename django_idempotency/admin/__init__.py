"""The admin: a look at the records. Only the store writes them."""

from .records import IdempotencyRecordAdmin

__all__ = ["IdempotencyRecordAdmin"]
