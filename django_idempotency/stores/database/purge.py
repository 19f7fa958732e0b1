"""Removing expired records: in batches, each one transaction, and never one that is locked."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from ...compat.django import delete_without_signals
from ...models import IdempotencyRecord
from .clock import store_time
from .file_locks import is_held_by_file
from .locked import EACH, named
from .step_log import StepLog
from .transactions import write_transaction

Parameters = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction did.

    :ivar removed: number of records that are gone
    :ivar last: the latest expiry it looked at; the next batch starts there. Starting from the
        beginning, it would read again what is dead, but not yet out of the index
    """

    removed: int
    last: Any


class PurgeStatement(ABC):
    """Removes one batch; a subclass per dialect."""

    first: Any = datetime.min

    def __init__(self, connection: BaseDatabaseWrapper, older_than: timedelta) -> None:
        self.connection = connection
        self.older_than = older_than

    def batches(self, size: int) -> Iterator[int]:
        """Remove records until none is left but those that others have locked."""
        last = self.first
        while True:
            with write_transaction(self.connection.alias):
                batch = self.batch(size, last)
            if batch is None:
                return
            yield batch.removed
            last = batch.last

    @abstractmethod
    def batch(self, size: int, start: Any) -> Batch | None:
        """Remove up to ``size`` records; ``None`` if there are no more."""

    def expired(self, column: str) -> tuple[str, Parameters]:
        moment, parameters = store_time(self.connection, -self.older_than)
        return f"{column} <= {moment}", parameters

    def run(self, sql: str, parameters: Parameters) -> Any:
        """Return a cursor with the answer."""
        cursor = self.connection.cursor()
        cursor.execute(named(self.connection, sql), parameters)
        return cursor


class PostgresqlPurge(PurgeStatement):
    """Locks and removes in one statement."""

    first = "-infinity"

    def batch(self, size: int, start: Any) -> Batch | None:
        expired, parameters = self.expired("{expires_at}")
        sql = (
            "WITH doomed AS MATERIALIZED (SELECT {id}, {expires_at} FROM {table} "
            f"WHERE {expired} AND {{expires_at}} >= %s "
            "ORDER BY {expires_at}, {id} LIMIT %s FOR UPDATE SKIP LOCKED), "
            "gone AS (DELETE FROM {table} USING doomed WHERE {table}.{id} = doomed.{id}), "
            "forgotten AS (DELETE FROM {steps} USING doomed "
            "WHERE {steps}.{record_id} = doomed.{id}) "
            "SELECT COUNT(*), MAX({expires_at}) FROM doomed"
        )
        with self.run(sql, (*parameters, start, size)) as cursor:
            removed, last = cursor.fetchone()
        return Batch(removed, last) if removed else None


class PagedPurge(PurgeStatement):
    """Finds without a lock, then removes what nobody holds."""

    first: Any = (datetime.min, 0)

    def batch(self, size: int, start: Any) -> Batch | None:
        expired, parameters = self.expired("{expires_at}")
        sql = (
            "SELECT {expires_at}, {id} FROM {table} "
            f"WHERE {expired} AND {{expires_at}} >= %s "
            "AND ({expires_at} > %s OR {id} > %s) ORDER BY {expires_at}, {id} LIMIT %s"
        )
        last, last_id = start
        with self.run(sql, (*parameters, last, last, last_id, size)) as cursor:
            page = cursor.fetchall()
        if not page:
            return None
        ours = self.removed([pk for _, pk in page])
        StepLog(self.connection.alias).forget(ours)
        return Batch(len(ours), page[-1])

    @abstractmethod
    def removed(self, ids: list[int]) -> list[int]:
        """Remove these records, and return which were removed."""


class MysqlPurge(PagedPurge):
    """Locks row by row. A locking read of a range would lock the first living record behind it,
    too, and its duplicates would be told that it is in flight."""

    def removed(self, ids: list[int]) -> list[int]:
        expired, parameters = self.expired("r.{expires_at}")
        lock = f"SELECT r.{{id}} {EACH} WHERE {expired} FOR UPDATE SKIP LOCKED"
        with self.run(lock, (json.dumps(ids), *parameters)) as cursor:
            ours = [pk for (pk,) in cursor.fetchall()]
        self.run(f"DELETE r {EACH}", (json.dumps(ours),)).close()
        return ours


class SqlitePurge(PagedPurge):
    """Its transaction is the lock; only what is held beside the database stays."""

    first = ("", 0)

    def removed(self, ids: list[int]) -> list[int]:
        using = self.connection.alias
        ours = [pk for pk in ids if not is_held_by_file(self.connection, pk)]
        delete_without_signals(
            IdempotencyRecord._base_manager.using(using).filter(pk__in=ours), using
        )
        return ours


def purge_statement(connection: BaseDatabaseWrapper, older_than: timedelta) -> PurgeStatement:
    """Return the purge in the connection's dialect."""
    dialects: dict[str, type[PurgeStatement]] = {
        "postgresql": PostgresqlPurge,
        "mysql": MysqlPurge,
        "sqlite": SqlitePurge,
    }
    return dialects[connection.vendor](connection, older_than)
