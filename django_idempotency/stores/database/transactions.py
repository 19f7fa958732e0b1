"""Transactions that hold their write lock from the start."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from ...compat.django import enter_immediately


def enter(block: transaction.Atomic) -> None:
    """Enter an atomic block; on SQLite as ``BEGIN IMMEDIATE``.

    A deferred transaction there would read first and fail when it wants to write, because
    another connection wrote in between. An immediate one waits, up to the busy timeout.
    """
    connection = cast(Any, connections[block.using or DEFAULT_DB_ALIAS])
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        block.__enter__()
        return
    enter_immediately(connection, block)


@contextmanager
def write_transaction(using: str, block: transaction.Atomic | None = None) -> Iterator[None]:
    """``transaction.atomic`` with its write lock taken at the start.

    :param block: to use instead, of the same alias
    """
    block = block or transaction.atomic(using=using)
    enter(block)
    try:
        yield
    except BaseException as error:
        block.__exit__(type(error), error, error.__traceback__)
        raise
    block.__exit__(None, None, None)
