"""``manage.py idempotency_records``: from a key, a log line or a user to the records."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...conf.policy import StoreKind
from ...conf.settings import configuration
from ...finding.callers import Caller, caller_of, deleted_user, policies_in_use, user_named
from ...finding.described import Json, described, exported
from ...finding.erasing import Erasure, erase, erase_reuses
from ...finding.search import SHORTEST, Query, find, is_about_no_record, is_digest, query_of
from ...models import IdempotencyRecord
from ...stores.cache.local import is_local
from ..base import MAX_OPERATIONS, MaintenanceCommand, number

REMAINS = (
    "What remains elsewhere: log lines with digests; backups and replicas that are behind; the "
    "history of the admin; whatever the project has logged, traced or queued itself."
)


class Command(MaintenanceCommand):
    """Finds records; prints, exports or erases them."""

    help = (
        "Finds records by a key, by a digest or a line of the log, or by a user, and prints them. "
        "--export prints all that is stored of them, --erase removes them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "text",
            nargs="?",
            default="",
            metavar="KEY",
            help="A key as it was sent, the digest of a key or a scope as logged (its first "
            f"{SHORTEST} digits or more), or a whole log line in quotes.",
        )
        parser.add_argument(
            "--user", metavar="NAME", help="Records of a user, by name or primary key."
        )
        parser.add_argument(
            "--tenant",
            action="append",
            default=[],
            metavar="NAME",
            help="With --user or --caller: what TENANT returns for it, too. May be repeated.",
        )
        parser.add_argument(
            "--caller",
            action="append",
            default=[],
            metavar="NAME",
            help="Records of a caller whom a SCOPE function names so. May be repeated.",
        )
        parser.add_argument("--scope", metavar="DIGITS", help="Records of a scope, as logged.")
        parser.add_argument(
            "--limit",
            metavar="RECORDS",
            help="At most so many. Default: 100; all with --export and --erase.",
        )
        parser.add_argument("--json", action="store_true", help="Print JSON.")
        parser.add_argument(
            "--export",
            action="store_true",
            help="Print all that is stored but secrets: keys, scopes, steps and effects, as JSON.",
        )
        parser.add_argument(
            "--secrets",
            action="store_true",
            help="With --export: responses, results of steps, kept requests and arguments of "
            "effects, too; decrypted if they are encrypted.",
        )
        parser.add_argument(
            "--erase",
            action="store_true",
            help="Remove the records with their copies, steps and effects, unless in flight.",
        )
        parser.add_argument("--no-input", action="store_true", help="With --erase: do not ask.")

    def run(self, options: dict[str, Any]) -> str:
        if options["export"] and options["erase"]:
            raise CommandError("Give --export or --erase: read what was exported, then erase.")
        if options["secrets"] and not options["export"]:
            raise CommandError("--secrets belongs to --export.")
        takes_all = options["export"] or options["erase"]
        self._limit = MAX_OPERATIONS if takes_all else 100
        if options["limit"] is not None:
            most = "a number of records"
            self._limit = number("--limit", options["limit"], most, MAX_OPERATIONS)
        self._caller = self._caller_of(options)
        self._query = self._query_of(options)
        if options["erase"]:
            return self._erase(asks=not options["no_input"])
        if options["json"] or options["export"]:
            self._print_json(options["export"], options["secrets"])
            return ""
        return self._print()

    def _caller_of(self, options: dict[str, Any]) -> Caller | None:
        name, callers = options["user"], options["caller"]
        if name is None and not callers:
            if options["tenant"]:
                raise CommandError("--tenant belongs to --user or --caller.")
            return None
        user = None
        if name is not None:
            user = user_named(name)
            if user is None:
                user = deleted_user(name)
                if user is None:
                    raise CommandError(f"--user: nobody has the name or the primary key {name!r}.")
                self.stderr.write(
                    f"Nobody has the name or the primary key {name!r}. Looking for records of a "
                    "user with this primary key who has been deleted."
                )
        return caller_of(user, options["tenant"], options["caller"])

    def _query_of(self, options: dict[str, Any]) -> Query:
        text, scope = options["text"], (options["scope"] or "").lower()
        if scope and not is_digest(scope):
            raise CommandError(
                f"--scope: {scope!r} is no beginning of a digest. Give at least {SHORTEST} of the "
                "hexadecimal digits that the log has."
            )
        if is_about_no_record(text):
            raise CommandError(
                "This line is about a request without a record: its key was not valid, or its "
                "caller was not known. The line says why."
            )
        scopes = None if self._caller is None else self._caller.digests
        if not (text or scope or scopes is not None):
            raise CommandError("Give a key, a digest or a log line, --user, --caller or --scope.")
        return query_of(text).within(scope, scopes)

    def _found(self) -> Iterator[IdempotencyRecord]:
        return find(self.using, self._query, self._limit, self._show_progress)

    def _show_progress(self, done: int, whole: int) -> None:
        self.show(
            f"\rLooked through {done} of {whole} numbers", ending="" if done < whole else "\n"
        )

    def _print(self) -> str:
        count = 0
        for _, facts in described(self.using, self._found()):
            count += 1
            self.stdout.write(_as_text(facts))
        if self._caller is not None:
            for each in self._caller.scopes:
                self.stdout.write(f"Looked for scope {each.scope[:12]}: {each.way}")
        for sentence in self._left_out():
            self.stdout.write(f"Not looked for: {sentence}")
        if not count:
            return f'No record found in database "{self.using}". It may have expired.'
        if count == self._limit:
            return f"The newest {count} records. For more, give --limit."
        return f"{_records(count)}."

    def _print_json(self, exports: bool, with_secrets: bool) -> None:
        scopes = [] if self._caller is None else self._caller.scopes
        head = {
            "database": self.using,
            "scopes": [{"way": each.way, "digest": each.scope[:12]} for each in scopes],
            "not_looked_for": list(self._left_out()),
        }
        self.stdout.write(json.dumps(head)[:-1] + ', "records": [', ending="")
        separator = "\n"
        for record, facts in described(self.using, self._found()):
            if exports:
                facts |= exported(self.using, record, with_secrets)
            self.stdout.write(separator + json.dumps(facts), ending="")
            separator = ",\n"
        self.stdout.write("\n]}")

    def _left_out(self) -> Iterator[str]:
        """Yield sentences about records that this command cannot find."""
        if self._caller is not None:
            yield from self._caller.unknown
        cache = configuration().cache
        if any(each.store is StoreKind.CACHE for each in policies_in_use()):
            yield (
                f'Records in cache "{cache}" alone: their names are digests. They expire by '
                "themselves, at the end of their retention."
            )

    def _erase(self, asks: bool) -> str:
        if asks and not self._is_confirmed():
            return "Nothing was erased."
        reuses = erase_reuses(self._whole_scopes())
        became: Counter[Erasure] = Counter()
        left = []
        for record in self._found():
            outcome = erase(self.using, record)
            became[outcome] += 1
            if outcome is not Erasure.DONE:
                left.append(f"record {record.pk}: {outcome}")
        done = became[Erasure.DONE]
        summary = f'{_records(done)} erased in database "{self.using}".'
        if reuses:
            summary += f" Rows of statistics about reused keys: {reuses} erased."
        notes = [f"Not erased: {sentence}" for sentence in self._left_out()]
        cache = configuration().cache
        if cache is not None and is_local(cache):
            notes.append(
                f'Not erased: copies in cache "{cache}", which is in the memory of each process.'
            )
        if left:
            lines = "\n".join([summary, *notes, *(f"Left: {each}" for each in left)])
            raise CommandError(f"{lines}\nRun the command again for those that are left.")
        return "\n".join([summary, *notes, REMAINS])

    def _whole_scopes(self) -> Collection[str]:
        """Return the scopes, or the first digits of one, that all records are asked for."""
        query = self._query
        if query != Query(scope_digest=query.scope_digest, scopes=query.scopes):
            return ()
        if not query.scope_digest:
            return query.scopes or ()
        # As of records: both have to match.
        scopes = [query.scope_digest] if query.scopes is None else query.scopes
        return [each for each in scopes if each.startswith(query.scope_digest)]

    def _is_confirmed(self) -> bool:
        count = sum(1 for _ in self._found())
        if not count:
            return True  # and says so
        self.stdout.write(
            f"{_records(count)} will be erased, with copies, steps and effects. Their responses "
            "do not replay any more: a retry of one of these operations runs again."
        )
        try:
            return input("Erase them? Type yes to continue: ") == "yes"
        except EOFError:
            raise CommandError("Nobody answers. Give --no-input to erase without asking.") from None


def _records(count: int) -> str:
    return f"{count} {'record' if count == 1 else 'records'}"


def _as_text(facts: Json) -> str:
    status = facts["status"]
    response = f", status {status}" if status else ""
    omitted = f" ({facts['omitted'].replace('_', ' ')})" if facts["omitted"] else ""
    request = f", request {facts['request_id']}" if facts["request_id"] else ""
    times = [f"{name} {facts[name]}" for name in ("claimed", "completed", "expires") if facts[name]]
    return (
        f"Record {facts['record']}: {facts['method']} {facts['path']}, {facts['state']}"
        f"{response}{omitted}, attempt {facts['attempt']}\n"
        f"  key {facts['key_digest']}, scope {facts['scope_digest']}{request}\n"
        f"  {', '.join(times)}"
    )
