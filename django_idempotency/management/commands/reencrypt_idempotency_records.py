"""``manage.py reencrypt_idempotency_records``: after a new encryption key."""

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections, router

from ...codecs import Codec, Keyring, NoKeys, Unreadable, recode, up_to_date
from ...conf import configuration
from ...models import IdempotencyRecord
from ...protocol.record import StoredResponse
from ...stores.base import Outage
from ...stores.cached_db import forget
from ...stores.recode import recode_responses, unsettled

_LARGEST_BATCH = 10_000
_UNENCRYPTED = frozenset({"", str(Codec.ZLIB)})


class Command(BaseCommand):
    """Encrypts stored responses under the newest key. Parses options and reports."""

    help = (
        "Encrypts stored responses of idempotency records under the first of ENCRYPTION_KEYS, in "
        "short transactions, beside traffic. Stopped, it can be run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--batch-size",
            type=int,
            default=100,
            metavar="RECORDS",
            help="Records per transaction. Default: 100.",
        )
        parser.add_argument(
            "--unencrypted",
            action="store_true",
            help="Also encrypt responses that were stored without encryption.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only count the records; change nothing."
        )
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="Alias of the database. Default: the one that guarded views use.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["batch_size"] <= _LARGEST_BATCH:
            raise CommandError(f"--batch-size: give a number from 1 to {_LARGEST_BATCH}.")
        self._using = _alias(options["database"])
        self._keyring = _usable_keyring()
        self._settled = up_to_date(self._keyring)
        if not options["unencrypted"]:
            self._settled |= _UNENCRYPTED
        try:
            summary = self._count() if options["dry_run"] else self._run(options["batch_size"])
        except (Error, Outage) as error:
            reason = str(error) or "the cache does not answer"
            raise CommandError(
                f'Database "{self._using}": {reason}. What was encrypted stays so: run it again.'
            ) from error
        if options["verbosity"]:
            self.stdout.write(summary)

    def _count(self) -> str:
        stale = unsettled(self._using, self._settled).count()
        return (
            f'{stale} responses in database "{self._using}" would be encrypted under key '
            f"{self._keyring.newest}."
        )

    def _run(self, size: int) -> str:
        done = batches = 0
        self._unreadable: Counter[str] = Counter()
        for recoded in recode_responses(self._using, self._recode, _forget, self._settled, size):
            batches += 1
            done += recoded
            self._show(done)
        left = unsettled(self._using, self._settled).count() - self._unreadable.total()
        summary = (
            f'Encrypted {done} responses in database "{self._using}" under key '
            f"{self._keyring.newest} (batches: {batches}; left because locked or new: "
            f"{max(left, 0)})."
        )
        if self._unreadable:
            raise CommandError(f"{summary} Unreadable, and left as they were: {self._lost()}.")
        return summary

    def _lost(self) -> str:
        """How many responses cannot be read, by the name of their key."""
        return ", ".join(f"{codec}: {count}" for codec, count in sorted(self._unreadable.items()))

    def _recode(self, response: StoredResponse) -> StoredResponse | None:
        try:
            return recode(response, self._keyring)
        except Unreadable as error:
            self._unreadable[error.codec or "of another version"] += 1
            return None

    def _show(self, done: int) -> None:
        """Progress is for people: cron gets the summary alone."""
        if self.stderr.isatty():
            self.stderr.write(f"\r{done} responses encrypted", str, ending="")
            self.stderr.flush()


def _forget(scope: str, key: str) -> None:
    settings = configuration()
    if settings.cache is not None:
        forget(settings.cache, settings.secret, scope, key)


def _usable_keyring() -> Keyring:
    keyring = configuration().keyring
    try:
        keyring.check()
    except NoKeys as error:
        raise CommandError(str(error)) from error
    return keyring


def _alias(value: str | None) -> str:
    alias = value or configuration().policy.using or router.db_for_write(IdempotencyRecord)
    if alias not in connections:
        raise CommandError(
            f"--database: there is no database {alias!r} in DATABASES. Give one of: "
            f"{', '.join(connections)}."
        )
    return alias
