"""``manage.py idempotency_clients``: clients that use keys wrongly."""

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...finding.callers import caller_of, user_named
from ...finding.clients import ADVICE, NEWEST, WITHIN, Finding, findings
from ..base import MAX_OPERATIONS, MaintenanceCommand, duration, number


class Command(MaintenanceCommand):
    """Reports on clients. Reads; changes nothing."""

    help = (
        "Reports clients that use keys wrongly: new keys for identical requests, keys with other "
        "requests, keys that are counters, times, or short; and what to tell them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--records",
            default=str(NEWEST),
            metavar="RECORDS",
            help=f"How many records to look at, the newest first. Default: {NEWEST}.",
        )
        parser.add_argument(
            "--within",
            default=f"{WITHIN.total_seconds():.0f}s",
            metavar="DURATION",
            help="How soon an identical request under a new key is taken for a retry. Default: "
            f"{WITHIN.total_seconds():.0f}s.",
        )
        parser.add_argument(
            "--user",
            action="append",
            default=[],
            metavar="NAME",
            help="Say which findings are about this user, by name or primary key. A scope does not "
            "say whose it is, so users must be tried. May be repeated.",
        )

    def run(self, options: dict[str, Any]) -> str:
        newest = number("--records", options["records"], "a number of records", MAX_OPERATIONS)
        within = duration("--within", options["within"])
        names = [_scopes_of(name) for name in options["user"]]
        found = findings(self.using, newest, within, names)
        return "\n".join(_report(found, newest))


def _scopes_of(name: str) -> tuple[str, Collection[str]]:
    user = user_named(name)
    if user is None:
        raise CommandError(f"--user: there is no user {name!r}.")
    return name, caller_of(user).digests


def _report(found: list[Finding], newest: int) -> Iterator[str]:
    if not found:
        yield f"Nothing was found in the newest {newest} records and the statistics."
    for kind, group in groupby(found, key=lambda each: each.kind):
        advice = ADVICE[kind]
        yield f"{advice.title}. {advice.means}"
        yield f"Tell the client: {advice.tell}"
        for each in group:
            whose = f" ({each.user})" if each.user else ""
            what = ", ".join(each.where)
            shown = f"; records {', '.join(map(str, each.records))}" if each.records else ""
            yield f"  scope {each.scope or '-'}{whose}: {each.times}: {what}{shown}"
