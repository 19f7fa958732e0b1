"""System checks: what can be known to be wrong before the first request.

Importing this package registers them. All carry the tag ``idempotency``; those that ask the
database run with ``check --database`` and ``migrate``, those for production with
``check --deploy``.
"""

from . import (
    caches,
    configuration,
    databases,
    effects,
    enqueuing,
    guarded_views,
    middlewares,
    sessions,
    statistics,
)
from .messages import CHECKS

__all__ = [
    "CHECKS",
    "caches",
    "configuration",
    "databases",
    "effects",
    "enqueuing",
    "guarded_views",
    "middlewares",
    "sessions",
    "statistics",
]
