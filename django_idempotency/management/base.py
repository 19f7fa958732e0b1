"""What the maintenance commands share: options, progress and how they end.

A command exits with 0, or with 1 and the reason on stderr. Its summary goes to stdout, unless
``--verbosity 0`` is given; its progress to stderr, if that is a terminal.
"""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from ..conf.settings import configuration
from ..models import IdempotencyRecord
from ..stores.base import Outage
from ..stores.database.dialects import dialect_of

MAX_OPERATIONS = 1_000_000
"""Largest number of operations that an option takes."""

_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = timedelta(days=3660)


class MaintenanceCommand(BaseCommand, ABC):
    """Works on the records of one database.

    A subclass does its work in :meth:`run`.
    """

    dry_run = ""
    """Help for ``--dry-run``; without it there is no such option."""

    using: str
    """Alias of the database."""

    def add_arguments(self, parser: CommandParser) -> None:
        if self.dry_run:
            parser.add_argument("--dry-run", action="store_true", help=self.dry_run)
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="Alias of the database. Default: the one that guarded views use.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.using = _alias(options["database"])
        try:
            summary = self.run(options)
        except (Error, Outage) as error:
            raise CommandError(self._reason(error)) from error
        if options["verbosity"] and summary:
            self.stdout.write(summary)

    @abstractmethod
    def run(self, options: dict[str, Any]) -> str:
        """Do the work and return a summary.

        :raises CommandError: if the options are wrong, or something is left to do for people
        """

    def so_far(self) -> str:
        """Return what the command has done, for people who read that it failed."""
        return ""

    def show(self, progress: str, ending: str = "\n") -> None:
        """Show progress to people; cron gets the summary alone."""
        if self.stderr.isatty():
            self.stderr.write(progress, str, ending=ending)
            self.stderr.flush()

    def _reason(self, error: Exception) -> str:
        cause, advice = str(error), self.so_far()
        if isinstance(error, Outage) and not cause:
            cause = "the cache does not answer"
        elif dialect_of(connections[self.using]).is_contention(error):
            advice += " Other transactions held their locks for too long: run the command again."
        return f'Database "{self.using}": {cause.strip().rstrip(".")}. {advice}'.rstrip()


class BatchCommand(MaintenanceCommand):
    """Works in short transactions, one per batch, with pauses and until a time limit."""

    batch_size: int
    """Default number of records in one transaction."""
    largest_batch: int
    unit: str
    """What one batch counts: "records removed"."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--batch-size",
            default=str(self.batch_size),
            metavar="RECORDS",
            help=f"Records in one transaction. Default: {self.batch_size}.",
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

    def handle(self, *args: Any, **options: Any) -> None:
        limit = options["time_limit"]
        self._pause = duration("--pause", options["pause"]).total_seconds()
        self._limit = None if limit is None else duration("--time-limit", limit).total_seconds()
        self.size = number(
            "--batch-size", options["batch_size"], "a number of records", self.largest_batch
        )
        self.done = self.batches = 0
        self._start = time.monotonic()
        try:
            super().handle(*args, **options)
        finally:
            if self.done:
                self.show("")

    def follow(self, batches: Iterable[int]) -> int:
        """Go through batches, with pauses and until the time is over.

        :return: the sum of what the batches have done
        """
        before = self.done
        for batch in batches:
            self.batches += 1
            self.done += batch
            self._show()
            if self.is_over:
                break
            time.sleep(self._pause)
        return self.done - before

    @property
    def is_over(self) -> bool:
        """Whether the time limit is reached."""
        return self._limit is not None and time.monotonic() - self._start >= self._limit

    def _show(self) -> None:
        self.show(f"\r{self.done} {self.unit}", ending="")


def duration(option: str, value: object) -> timedelta:
    """Return what was given, for example ``90``, ``30m`` or ``7d``.

    :raises CommandError: if it is something else
    """
    match = re.fullmatch(r"([0-9]{1,12})(ms|[smhd]?)", str(value), re.ASCII)
    if match is None:
        raise CommandError(
            f"{option}: {value!r} is not a duration. Give seconds, or a whole number with a "
            "unit: 90, 50ms, 30m, 12h, 7d."
        )
    duration = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if duration > _LONGEST:
        raise CommandError(f"{option}: {value!r} is too long. Give at most {_LONGEST.days}d.")
    return duration


def number(option: str, value: object, unit: str, highest: int) -> int:
    """Return a whole number from one on.

    :param unit: what it says, for people: "a number of records"
    :raises CommandError: if it is something else
    """
    text = str(value)
    if re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) and 1 <= int(text) <= highest:
        return int(text)
    raise CommandError(
        f"{option}: {value!r} is not {unit}. Give a whole number from 1 to {highest}."
    )


def _alias(value: str | None) -> str:
    """Return the alias of a database: the given one, or where guarded views keep their records."""
    found = value or IdempotencyRecord.alias(configuration().policy.using)
    if found not in connections:
        known = ", ".join(connections)
        raise CommandError(
            f"--database: there is no database {found!r} in DATABASES. Give one of: {known}."
        )
    return found
