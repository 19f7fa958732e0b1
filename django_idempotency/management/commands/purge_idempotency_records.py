"""``manage.py purge_idempotency_records``: for cron, or by hand."""

from typing import Any

from django.apps import apps
from django.core.management.base import CommandParser

from ...conf.policy import StoreKind
from ...conf.settings import configuration
from ...contract.endpoints import longest_tombstone
from ...finding.clients import model_of_statistics
from ...stores.database.statistics import COUNTED
from ...stores.database.store import DatabaseStore
from ..base import BatchCommand, duration

_NOTHING_TO_DO = (
    'Records in cache "{}" expire by themselves: nothing to remove there. Next, the database, '
    "where single views may keep theirs."
)


class Command(BatchCommand):
    """Removes expired records. Parses options and reports; the store does the work."""

    help = (
        "Removes expired idempotency records in short transactions, rows of effects that have "
        "ended, and old statistics. Leaves records alone that a running attempt has locked, and "
        "effects that are pending or have failed."
    )
    dry_run = "Only count the records; remove nothing."
    batch_size = 1000
    largest_batch = 30_000  # SQLite takes 32766 parameters in one statement, PostgreSQL 65535
    unit = "records removed"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            metavar="DURATION",
            help="How long ago records must have expired: seconds, or 30m, 12h, 7d. Default: the "
            "longest tombstone of the settings and the guarded views; 0 without any.",
        )
        super().add_arguments(parser)

    def run(self, options: dict[str, Any]) -> str:
        given = options["older_than"]
        # A key whose record is removed before its tombstone is over runs as new.
        older_than = longest_tombstone() if given is None else duration("--older-than", given)
        if options["verbosity"] and configuration().policy.store is StoreKind.CACHE:
            self.stdout.write(_NOTHING_TO_DO.format(configuration().cache))
        store = DatabaseStore(self.using)
        if options["dry_run"]:
            expired = store.expired(older_than).count()
            return (
                f'{expired} expired records in database "{self.using}" would go, unless locked.'
                f"{self._effects(is_dry_run=True)}"
            )
        removed = self.follow(store.purge(self.size, older_than))
        left = store.count_expired(older_than, COUNTED)
        lag = store.lag(older_than).total_seconds()
        return (
            f'Removed {removed} expired records from database "{self.using}" (batches: '
            f"{self.batches}; left: {_at_most(left)}; lag: {lag:.0f}s)."
            f"{self._effects()}{self._statistics()}"
        )

    def _effects(self, is_dry_run: bool = False) -> str:
        """Remove effects that have ended, if there is time, and return what was done."""
        if not apps.is_installed("django_idempotency.effects"):
            return ""
        from ...effects import rows

        if is_dry_run:
            return f" {rows.purgeable(self.using).count()} effects that have ended would go, too."
        batches = () if self.is_over else rows.purge(self.using, self.size)
        return f" Removed {self.follow(batches)} effects that have ended."

    def _statistics(self) -> str:
        """Remove old statistics, if there is time, and return what was done."""
        model = model_of_statistics("IdempotencyStatistics")
        if model is None or self.using != model.alias():
            return ""
        batches = () if self.is_over else model.purge(self.size)
        return f" Removed {self.follow(batches)} old rows of statistics."

    def so_far(self) -> str:
        return f"It had removed {self.done} expired records by then."


def _at_most(count: int) -> str:
    return f"more than {COUNTED}" if count > COUNTED else str(count)
