"""``manage.py run_idempotent_work``: what goes on without its client, for cron or as a service."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import Error, connections

from ...stores.base import Outage
from ..base import MAX_OPERATIONS, MaintenanceCommand, duration, number
from ..resumable import ResumableWork
from ..stopping import Stop


class Command(MaintenanceCommand):
    """Finishes interrupted operations whose views declare a resumable handler."""

    help = (
        "Runs the resumable handlers of interrupted operations of views with atomic=False, oldest "
        "first, and stores their responses. Leaves operations alone that are in flight. An "
        "operation that fails stays interrupted, and its turn comes again after the others. "
        "SIGTERM and SIGINT stop the command when the handler that runs has ended."
    )
    dry_run = "Only list the operations; run nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--forever",
            action="store_true",
            help="Run as a service: wait for work, also while the database does not answer.",
        )
        parser.add_argument(
            "--poll",
            default="5",
            metavar="DURATION",
            help="With --forever, how long to wait after a round without work: seconds, or 500ms, "
            "1m. Default: 5.",
        )
        parser.add_argument(
            "--limit",
            default=100,
            metavar="OPERATIONS",
            help="Run at most so many; the next run (with --forever, the next round) goes on. "
            "Default: 100.",
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
        self._advice = "Run the command again."
        self._limit = number("--limit", options["limit"], "a number of operations", MAX_OPERATIONS)
        older_than = duration("--older-than", options["older_than"])
        poll = duration("--poll", options["poll"]).total_seconds()
        if not poll:
            raise CommandError("--poll: '0' would ask the database without a rest. Give 500ms, 5.")
        if options["forever"] and options["dry_run"]:
            raise CommandError("--forever: a dry run runs once. Leave one of the two out.")
        self._work = ResumableWork(self.using, older_than, self.show, self.stderr.write)
        if options["dry_run"]:
            return self._list()
        with Stop() as stop:
            if options["forever"]:
                return self._serve(poll, stop, options["verbosity"])
            self._work.run(self._limit, lambda: stop.is_asked)
        if self._work.needs_people:
            raise CommandError(self._work.summary())
        return self._work.summary()

    def _list(self) -> str:
        count = 0
        for count, (each, _policy) in enumerate(self._work.due(), 1):
            self.stdout.write(f"{each.record_id}  {each.method} {each.path}  {each.handler}")
            if count == self._limit:
                break
        summary = f"{count} operations would be resumed, unless in flight."
        if self._work.orphans:
            raise CommandError(summary + self._work.left_alone())
        return summary

    def _serve(self, poll: float, stop: Stop, verbosity: int) -> str:
        """Work until somebody asks to stop; rest where there is nothing to do."""
        self._advice = "It tries again until the database answers."
        trouble = ""
        self._say(f'Waiting for work in database "{self.using}".', verbosity)
        while not stop.is_asked:
            goes_on = False
            try:
                goes_on = self._work.run(self._limit, lambda: stop.is_asked)
            except (Error, Outage) as error:
                if str(error) != trouble:  # once, and not in every round
                    self.stderr.write(self._reason(error))
                trouble = str(error)
            else:
                if trouble:
                    self._say(f'Database "{self.using}" answers again.', verbosity)
                trouble = ""
                if self._work.has_news:
                    self._say(self._work.summary(), verbosity)
            if not goes_on:
                _close_connections()
                stop.wait(poll)
        return "Stopped."

    def _say(self, text: str, verbosity: int) -> None:
        if verbosity:
            self.stdout.write(text)
            self.stdout.flush()  # a log is no terminal, and would get it with the next pages

    def so_far(self) -> str:
        return f"{self._work.summary()} {self._advice}"


def _close_connections() -> None:
    """End sessions: a resting service needs none, and a database that was gone has lost them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # as in a test case
            connection.close()
