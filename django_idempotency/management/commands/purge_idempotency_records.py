"""``manage.py purge_idempotency_records``: for cron, or by hand."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from ...conf.policy import Store
from ...conf.settings import configuration
from ...contract.endpoints import longest_tombstone
from ...stores.database.dialects import dialect_of
from ...stores.database.store import DatabaseStore
from ..options import alias, duration, number

# SQLite takes 32766 parameters in one statement, PostgreSQL 65535.
_LARGEST_BATCH = 30_000
# What is left is counted so far: enough for a person, and cheap in a table of millions.
_COUNTED = 10_000

_NOTHING_TO_DO = (
    'Records in cache "{}" expire by themselves: nothing to remove there. Next, the database, '
    "where single views may keep theirs."
)


class Command(BaseCommand):
    """Removes expired records. Parses options and reports; the store does the work."""

    help = (
        "Removes expired idempotency records in short transactions. Records that a running "
        "attempt has locked are left alone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            metavar="DURATION",
            help="How long ago records must have expired: seconds, or 30m, 12h, 7d. Default: the "
            "longest tombstone of the settings and the guarded views; 0 without any.",
        )
        parser.add_argument(
            "--batch-size",
            default="1000",
            metavar="RECORDS",
            help="Records removed in one transaction. Default: 1000.",
        )
        parser.add_argument(
            "--pause",
            default="0",
            metavar="DURATION",
            help="Rest between two transactions, for example 50ms. Default: 0.",
        )
        parser.add_argument(
            "--time-limit",
            metavar="DURATION",
            help="Begin no transaction after so long; the next run goes on. Default: none.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only count the records; remove nothing."
        )
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="Alias of the database. Default: the one that guarded views use.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        limit = options["time_limit"]
        self._older_than = _older_than(options["older_than"])
        self._pause = duration("--pause", options["pause"]).total_seconds()
        self._limit = None if limit is None else duration("--time-limit", limit).total_seconds()
        given = options["batch_size"]
        batch_size = number("--batch-size", given, "a number of records", _LARGEST_BATCH)
        if options["verbosity"] and configuration().policy.store is Store.CACHE:
            self.stdout.write(_NOTHING_TO_DO.format(configuration().cache))
        store = DatabaseStore(alias(options["database"]))
        summary = self._count(store) if options["dry_run"] else self._purge(store, batch_size)
        if options["verbosity"]:
            self.stdout.write(summary)

    def _count(self, store: DatabaseStore) -> str:
        try:
            expired = store.expired(self._older_than).count()
        except Error as error:
            raise CommandError(_failure(error, store.using, 0)) from error
        return f'{expired} expired records in database "{store.using}" would go, unless locked.'

    def _purge(self, store: DatabaseStore, batch_size: int) -> str:
        removed = batches = 0
        try:
            for deleted in self._paced(store.purge(batch_size, self._older_than)):
                batches += 1
                removed += deleted
                self._show(removed)
            left = store.expired(self._older_than)[: _COUNTED + 1].count()
            lag = store.lag(self._older_than)
        except Error as error:
            raise CommandError(_failure(error, store.using, removed)) from error
        finally:
            self._show_end(removed)
        return (
            f'Removed {removed} expired records from database "{store.using}" '
            f"(batches: {batches}; left: {_at_most(left)}; lag: {lag.total_seconds():.0f}s)."
        )

    def _paced(self, batches: Iterator[int]) -> Iterator[int]:
        """Go through the batches, with rests between them and until the time is over."""
        start = time.monotonic()
        for batch in batches:
            yield batch
            if self._limit is not None and time.monotonic() - start >= self._limit:
                return
            time.sleep(self._pause)

    def _show(self, removed: int) -> None:
        """Progress is for people: cron gets the summary alone."""
        if self.stderr.isatty():
            self.stderr.write(f"\r{removed} records removed", str, ending="")
            self.stderr.flush()

    def _show_end(self, removed: int) -> None:
        if removed and self.stderr.isatty():
            self.stderr.write("", str)


def _older_than(given: Any) -> timedelta:
    """What is removed earlier than its tombstone is over is not refused any more, but runs."""
    if given is None:
        return longest_tombstone()
    return duration("--older-than", given)


def _at_most(count: int) -> str:
    return f"more than {_COUNTED}" if count > _COUNTED else str(count)


def _failure(error: Error, alias: str, removed: int) -> str:
    advice = "What was removed stays removed."
    if dialect_of(connections[alias]).is_contention(error):
        advice += " Other transactions held their locks for too long: run the command again."
    return f'Purging database "{alias}" failed after {removed} records: {error}. {advice}'
