"""Transactions that write records."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction

from ..base import Busy
from .dialects import dialect_of


@contextmanager
def write_transaction(using: str, block: transaction.Atomic | None = None) -> Iterator[None]:
    """``transaction.atomic`` with its write lock taken at the start, where there is only one.

    :param block: to use instead, of the same alias
    """
    connection = connections[using]
    block = block or transaction.atomic(using=using)
    dialect_of(connection).enter(block, connection)
    try:
        yield
    except BaseException as error:
        block.__exit__(type(error), error, error.__traceback__)
        raise
    block.__exit__(None, None, None)


@contextmanager
def contention_is_busy(using: str) -> Iterator[None]:
    """Raise :class:`Busy` where a statement lost against another one."""
    try:
        yield
    except Exception as error:
        dialect = dialect_of(connections[using])
        if dialect.is_contention(error):
            raise Busy(dialect.has_busy_timeout) from error
        raise
