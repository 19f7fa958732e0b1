"""What dialects say about a database, as plain values."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class TransactionStatus(Enum):
    """What the driver knows about its session's transaction, without asking the server."""

    OPEN = auto()
    """In a transaction; on MySQL it may be another one by now."""
    ABORTED = auto()
    """The server refuses every statement until a rollback, or a rollback to a savepoint."""
    ENDED = auto()
    """In no transaction."""


class ServerFault(Enum):
    """What keeps a database server from holding records as it should."""

    NO_SKIP_LOCKED = auto()
    """Its version is too old for ``SKIP LOCKED``."""
    WRONG_ENGINE = auto()
    """The table of records has a storage engine without transactions."""
    NO_WRITE_AHEAD_LOG = auto()
    """Readers and the writer block each other."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """How to make a database server give up connections of hosts that have vanished.

    :ivar option: key of ``OPTIONS`` in ``DATABASES``
    :ivar enough: what its value must contain
    :ivar example: a value that is enough
    """

    option: str
    enough: re.Pattern[str]
    example: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction of the purge did.

    :ivar removed: number of records that are gone
    :ivar last: the latest ``purge_at`` it looked at; the next batch starts there. Starting from the
        beginning, it would read again what is dead, but not yet out of the index
    :ivar orphaned: removed records whose steps are still there
    """

    removed: int
    last: Any
    orphaned: Collection[int] = ()
