"""The admin: a look at the records and effects. Only the stores write them."""

from django.apps import apps

from . import clients  # noqa: F401  (registers a page)
from .records import IdempotencyRecordAdmin

if apps.is_installed("django_idempotency.effects"):
    from . import effects  # noqa: F401  (registers them)

__all__ = ["IdempotencyRecordAdmin"]
