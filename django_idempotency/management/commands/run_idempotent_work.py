"""``manage.py run_idempotent_work``: what goes on without its client, for cron or as a service."""

from typing import Any

from django.apps import apps
from django.core.management.base import CommandError, CommandParser
from django.db import Error, connections

from ...stores.base import Outage
from ..base import MAX_OPERATIONS, MaintenanceCommand, duration, number
from ..work.base import Work
from ..work.resumable import ResumableWork
from ..work.stopping import Stop


class Command(MaintenanceCommand):
    """Finishes interrupted operations whose views declare a resumable handler, and runs effects."""

    help = (
        "Runs the resumable handlers of interrupted operations of views with atomic=False, and "
        "stores their responses; then runs effects that are due, if django_idempotency.effects is "
        "installed. The oldest come first, and what fails gets its turn again after the others. "
        "SIGTERM and SIGINT stop the command when the handler or effect that runs has ended."
    )
    dry_run = "Only list operations and effects; run nothing."

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
            default=1000,
            metavar="NUMBER",
            help="Run at most so many handlers, and at most so many effects; the next run (with "
            "--forever, the next round) goes on. Default: 1000.",
        )
        parser.add_argument(
            "--older-than",
            default="10m",
            metavar="DURATION",
            help="How long ago an operation's last attempt must have started: seconds, or 30m, "
            "12h, 7d. Default: 10m.",
        )
        super().add_arguments(parser)

    def run(self, options: dict[str, Any]) -> str:
        self._limit = number("--limit", options["limit"], "a number", MAX_OPERATIONS)
        older_than = duration("--older-than", options["older_than"])
        poll = duration("--poll", options["poll"]).total_seconds()
        if not poll:
            raise CommandError("--poll: '0' would ask the database without a rest. Give 500ms, 5.")
        self._is_service = options["forever"]
        if self._is_service and options["dry_run"]:
            raise CommandError("--forever: a dry run runs once. Leave one of the two out.")
        # Handlers first: they may stage effects.
        self._work = [
            ResumableWork(self.using, older_than, self.show, self.stderr.write),
            *self._effects(),
        ]
        if options["dry_run"]:
            return self._list()
        with Stop() as stop:
            if self._is_service:
                return self._serve(poll, stop, options["verbosity"])
            for each in self._work:
                each.run(self._limit, lambda: stop.is_asked)
        if any(each.has_failed or each.nameless for each in self._work):
            raise CommandError(self._summary())
        return self._summary()

    def _effects(self) -> list[Work]:
        if not apps.is_installed("django_idempotency.effects"):
            return []
        from ..work.effects import EffectWork

        return [EffectWork(self.using)]

    def _list(self) -> str:
        count = 0
        for each in self._work:
            for line in each.listed(self._limit):
                self.stdout.write(line)
                count += 1
        summary = f"{count} operations and effects would run, unless in flight."
        if any(each.nameless for each in self._work):
            raise CommandError(summary + "".join(each.left_alone() for each in self._work))
        return summary

    def _serve(self, poll: float, stop: Stop, verbosity: int) -> str:
        """Work until a signal asks to stop; rest while nothing is due."""
        trouble = ""
        self._say(f'Waiting for work in database "{self.using}".', verbosity)
        while not stop.is_asked:
            goes_on = False
            try:
                for each in self._work:
                    goes_on |= self._round(each, stop, verbosity)
            except (Error, Outage) as error:
                if str(error) != trouble:  # once, and not in every round
                    self.stderr.write(self._reason(error))
                trouble = str(error)
            else:
                if trouble:
                    self._say(f'Database "{self.using}" answers again.', verbosity)
                trouble = ""
            if not goes_on:
                _close_connections()
                stop.wait(poll)
        return "Stopped."

    def _round(self, work: Work, stop: Stop, verbosity: int) -> bool:
        known = work.nameless
        goes_on = work.run(self._limit, lambda: stop.is_asked)
        if work.has_done_something or work.nameless != known:
            self._say(work.summary(), verbosity)
        return goes_on

    def _say(self, text: str, verbosity: int) -> None:
        if verbosity:
            self.stdout.write(text)
            self.stdout.flush()  # a log is no terminal, and would get it with the next pages

    def so_far(self) -> str:
        if self._is_service:
            return "It tries again until the database answers."
        return f"{self._summary()} Run the command again."

    def _summary(self) -> str:
        return "\n".join(each.summary() for each in self._work)


def _close_connections() -> None:
    """End sessions: a resting service needs none, and a database that was gone has lost them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # as in a test case
            connection.close()
