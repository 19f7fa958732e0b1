"""``manage.py reencrypt_idempotency_records``: after a new encryption key."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from ...conf.settings import configuration
from ...protocol.codecs import (
    LOCKED,
    Cipher,
    Codec,
    Keyring,
    NoKeys,
    Owner,
    Unreadable,
    reencrypt,
    up_to_date,
)
from ...protocol.record import StoredResponse
from ...stores.base import Outage
from ...stores.cache.cached_database import forget
from ...stores.database.reencrypt import (
    pending_responses,
    pending_steps,
    reencrypt_responses,
    reencrypt_steps,
)
from ..options import alias, number

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
        size = number("--batch-size", options["batch_size"], "a number of records", _LARGEST_BATCH)
        self._using = alias(options["database"])
        self._keyring = _usable_keyring()
        self._cipher = Cipher(Codec.FERNET, self._keyring)
        self._choose(options["unencrypted"])
        try:
            summary = self._count() if options["dry_run"] else self._run(size)
        except (Error, Outage) as error:
            reason = str(error) or "the cache does not answer"
            raise CommandError(
                f'Database "{self._using}": {reason}. What was encrypted stays so: run it again.'
            ) from error
        if options["verbosity"]:
            self.stdout.write(summary)

    def _choose(self, unencrypted: bool) -> None:
        """Decide which responses and which steps stay as they are."""
        self._current = up_to_date(self._keyring) | (frozenset() if unencrypted else _UNENCRYPTED)
        self._steps = ("" if unencrypted else LOCKED, f"{LOCKED}{self._keyring.newest}:")

    def _left(self) -> int:
        responses = pending_responses(self._using, self._current).count()
        return responses + pending_steps(self._using, *self._steps).count()

    def _count(self) -> str:
        return (
            f'{self._left()} responses and steps in database "{self._using}" would be encrypted '
            f"under key {self._keyring.newest}."
        )

    def _run(self, size: int) -> str:
        self._done = self._batches = 0
        self._unreadable: Counter[str] = Counter()
        using, current = self._using, self._current
        self._follow(reencrypt_responses(using, self._reencrypt, self._forget, current, size))
        responses = self._done
        self._follow(reencrypt_steps(using, self._reencrypt_step, *self._steps, size))
        summary = (
            f"Encrypted {responses} responses and {self._done - responses} steps in database "
            f'"{using}" under key {self._keyring.newest} (batches: {self._batches}; left because '
            f"locked or new: {max(self._left() - self._unreadable.total(), 0)})."
        )
        if self._unreadable:
            raise CommandError(f"{summary} Unreadable, and left as they were: {self._lost()}.")
        return summary

    def _follow(self, batches: Iterator[int]) -> None:
        for rewritten in batches:
            self._batches += 1
            self._done += rewritten
            self._show()

    def _lost(self) -> str:
        """How many cannot be read, by the name of their key."""
        return ", ".join(f"{codec}: {count}" for codec, count in sorted(self._unreadable.items()))

    def _forget(self, scope: str, key: str) -> None:
        settings = configuration()
        if settings.cache is not None:
            forget(settings.cache, settings.secret, self._using, scope, key)

    def _reencrypt(self, response: StoredResponse, scope: str, key: str) -> StoredResponse | None:
        try:
            return reencrypt(response, self._keyring, Owner(scope, key))
        except Unreadable as error:
            self._unreadable[error.codec or "of another version"] += 1
            return None

    def _reencrypt_step(self, result: str, record_id: int, position: int) -> str | None:
        place = (record_id, position)
        try:
            return self._cipher.lock(self._cipher.open(result, *place), *place)
        except Unreadable as error:
            self._unreadable[error.codec] += 1
            return None

    def _show(self) -> None:
        """Progress is for people: cron gets the summary alone."""
        if self.stderr.isatty():
            self.stderr.write(f"\r{self._done} responses and steps encrypted", str, ending="")
            self.stderr.flush()


def _usable_keyring() -> Keyring:
    keyring = configuration().keyring
    try:
        keyring.check()
    except NoKeys as error:
        raise CommandError(str(error)) from error
    return keyring
