"""``manage.py resume_idempotent_operations``: for cron, for clients that never come back."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from ...contract.endpoints import resumable_handlers
from ...guard.resuming import Resumed, resume
from ...stores.database.interrupted import Abandoned, abandoned
from ..options import alias, duration, number

_FOUND = "found"
_RUN = (_FOUND, Resumed.DONE, Resumed.FAILED)
"""What counts against the limit."""
_MOST = 1_000_000


class Command(BaseCommand):
    """Finishes interrupted operations whose views declare who can."""

    help = (
        "Runs the resumable handlers of operations of views with atomic=False that were "
        "interrupted, oldest first, and stores their responses. What is in flight is left alone; "
        "what fails stays interrupted, and its turn comes again after the others."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--limit",
            default=100,
            metavar="OPERATIONS",
            help="Run at most so many; the next run goes on. Default: 100.",
        )
        parser.add_argument(
            "--older-than",
            default="10m",
            metavar="DURATION",
            help="How long ago the last attempt must have started: seconds, or 30m, 12h, 7d. "
            "Default: 10m.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only list the operations; run nothing."
        )
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="Alias of the database. Default: the one that guarded views use.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        limit = number("--limit", options["limit"], "a number of operations", _MOST)
        self._using = alias(options["database"])
        self._handlers = resumable_handlers(self._using)
        self._counts: Counter[str] = Counter()
        self._orphans: Counter[str] = Counter()
        found = abandoned(self._using, duration("--older-than", options["older_than"]))
        try:
            self._go_through(found, limit, options["dry_run"])
        except Error as error:
            raise CommandError(
                f'Database "{self._using}": {error}. {self._summary()} Run it again.'
            ) from error
        self._report(options["dry_run"], options["verbosity"])

    def _go_through(self, found: Iterator[Abandoned], limit: int, is_dry: bool) -> None:
        for each in found:
            if each.handler not in self._handlers:
                self._orphans[each.handler] += 1
                continue
            self._counts[self._show(each) if is_dry else self._resume(each)] += 1
            # What could not start is found first again by the next run, and must not use up its
            # limit, too: nothing else would ever be resumed.
            if sum(self._counts[each] for each in _RUN) >= limit:
                return

    def _show(self, each: Abandoned) -> str:
        self.stdout.write(f"{each.record_id}  {each.method} {each.path}  {each.handler}")
        return _FOUND

    def _resume(self, each: Abandoned) -> str:
        if self.stderr.isatty():  # Progress is for people: cron gets the summary alone.
            self.stderr.write(f"Record {each.record_id}: {each.method} {each.path}", str)
        resumed = resume(each, self._handlers[each.handler], self._using)
        # What a handler did to its connections must not be the next one's trouble.
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:  # as in a test case
                connection.close_if_unusable_or_obsolete()
        if resumed in {Resumed.FAILED, Resumed.IMPOSSIBLE}:
            self.stderr.write(
                f"Record {each.record_id}: {each.method} {each.path} failed; the log says why."
            )
        return resumed

    def _summary(self) -> str:
        done, failed, impossible, skipped = (self._counts[each] for each in Resumed)
        return (
            f'Resumed {done} operations in database "{self._using}" (failed: {failed}; could not '
            f"start: {impossible}; skipped because in flight, resolved or still unknown: "
            f"{skipped})."
        )

    def _report(self, is_dry: bool, verbosity: int) -> None:
        found = f"{self._counts[_FOUND]} operations would be resumed, unless in flight."
        summary = found if is_dry else self._summary()
        orphans = ", ".join(f"{name} ({count})" for name, count in sorted(self._orphans.items()))
        if orphans:
            summary += f" Left alone, because no view, or no single policy, has {orphans}."
        if orphans or self._counts[Resumed.FAILED] or self._counts[Resumed.IMPOSSIBLE]:
            raise CommandError(summary)
        if verbosity:
            self.stdout.write(summary)
