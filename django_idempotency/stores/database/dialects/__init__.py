"""What databases do differently: one module for each, chosen by :func:`dialect_of`."""

from . import mysql, postgresql, sqlite  # noqa: F401  (each registers its dialect)
from .base import DIALECTS, NOW, Dialect, dialect_of
from .store_time import StoreTime, is_refused_in_transactions
from .values import ServerFault, TransactionStatus

__all__ = [
    "DIALECTS",
    "NOW",
    "Dialect",
    "ServerFault",
    "StoreTime",
    "TransactionStatus",
    "dialect_of",
    "is_refused_in_transactions",
]
