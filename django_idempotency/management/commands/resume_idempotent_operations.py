"""``manage.py resume_idempotent_operations``: for cron, for clients that never come back."""

from collections import Counter
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from ...adapters.resumed import resume
from ...contract.endpoints import policy_to_resume, resumable_handlers
from ...guard.resuming import Resumed
from ...stores.database.interrupted import ResumableOperation, resumable_operations
from ..base import MAX_OPERATIONS, MaintenanceCommand, duration, number

_FOUND = "found"
_RUN = (_FOUND, Resumed.DONE, Resumed.FAILED)
"""What counts against the limit."""


class Command(MaintenanceCommand):
    """Finishes interrupted operations whose views declare a resumable handler."""

    help = (
        "Runs the resumable handlers of interrupted operations of views with atomic=False, oldest "
        "first, and stores their responses. Leaves operations alone that are in flight. An "
        "operation that fails stays interrupted, and its turn comes again after the others."
    )
    dry_run = "Only list the operations; run nothing."

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
        super().add_arguments(parser)

    def run(self, options: dict[str, Any]) -> str:
        self._counts: Counter[str] = Counter()
        limit = number("--limit", options["limit"], "a number of operations", MAX_OPERATIONS)
        older_than = duration("--older-than", options["older_than"])
        handlers = resumable_handlers(self.using)
        orphans: Counter[str] = Counter()
        for each in resumable_operations(self.using, older_than):
            policy = policy_to_resume(each, handlers, self.using)
            if policy is None:
                orphans[each.handler] += 1
                continue
            outcome = self._list(each) if options["dry_run"] else self._resume(each, policy)
            self._counts[outcome] += 1
            # An operation that could not start does not count: the next run finds it first again,
            # and would never get to the others.
            if sum(self._counts[kind] for kind in _RUN) >= limit:
                break
        summary = self._summary()
        if options["dry_run"]:
            summary = f"{self._counts[_FOUND]} operations would be resumed, unless in flight."
        if orphans:
            names = ", ".join(f"{name} ({count})" for name, count in sorted(orphans.items()))
            summary += f" Left alone, because no view, or no single policy, has {names}."
        if orphans or self._counts[Resumed.FAILED] or self._counts[Resumed.IMPOSSIBLE]:
            raise CommandError(summary)
        return summary

    def _list(self, each: ResumableOperation) -> str:
        self.stdout.write(f"{each.record_id}  {each.method} {each.path}  {each.handler}")
        return _FOUND

    def _resume(self, each: ResumableOperation, policy: Any) -> str:
        name = f"Record {each.record_id}: {each.method} {each.path}"
        self.show(name)
        resumed = resume(each, policy, self.using)
        # A handler may leave a broken connection behind: the next one must not meet it.
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:  # as in a test case
                connection.close_if_unusable_or_obsolete()
        if resumed in {Resumed.FAILED, Resumed.IMPOSSIBLE}:
            self.stderr.write(f"{name} failed; the log says why.")
        return resumed

    def so_far(self) -> str:
        return f"{self._summary()} Run the command again."

    def _summary(self) -> str:
        done, failed, impossible, skipped = (self._counts[each] for each in Resumed)
        return (
            f'Resumed {done} operations in database "{self.using}" (failed: {failed}; could not '
            f"start: {impossible}; skipped because in flight, resolved or still unknown: "
            f"{skipped})."
        )
