"""``manage.py reencrypt_idempotency_records``: after a new encryption key."""

from collections import Counter
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError, CommandParser

from ...conf.settings import configuration
from ...effects.sealing import PLACE as EFFECT
from ...invalidation import forget_copies
from ...protocol.codecs import (
    LOCKED,
    Cipher,
    Codec,
    NoKeys,
    Owner,
    Unreadable,
    reencrypt,
    up_to_date,
)
from ...protocol.record import StoredResponse
from ...stores.database.reencrypt import (
    pending_responses,
    pending_steps,
    reencrypt_responses,
    reencrypt_steps,
)
from ..base import BatchCommand

_UNENCRYPTED = frozenset({"", str(Codec.ZLIB)})


class Command(BatchCommand):
    """Encrypts stored responses under the newest key. Parses options and reports."""

    help = (
        "Encrypts stored responses of idempotency records under the first of ENCRYPTION_KEYS, in "
        "short transactions, beside traffic. You can stop it and run it again."
    )
    dry_run = "Only count the records; change nothing."
    batch_size = 100
    largest_batch = 10_000
    unit = "responses and steps encrypted"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--unencrypted",
            action="store_true",
            help="Also encrypt responses that were stored without encryption.",
        )

    def run(self, options: dict[str, Any]) -> str:
        self._keyring = configuration().keyring
        try:
            self._keyring.check()
        except NoKeys as error:
            raise CommandError(str(error)) from error
        self._cipher = Cipher(Codec.FERNET, self._keyring)
        self._unreadable: Counter[str] = Counter()
        newest, with_plain = self._keyring.newest, options["unencrypted"]
        # What stays as it is: the codecs of responses, and the beginnings of steps.
        current = up_to_date(self._keyring) | (frozenset() if with_plain else _UNENCRYPTED)
        steps = ("" if with_plain else LOCKED, f"{LOCKED}{newest}:")

        def left() -> int:
            responses = pending_responses(self.using, current).count()
            return responses + pending_steps(self.using, *steps).count() + self._effects(*steps)

        if options["dry_run"]:
            return (
                f'{left()} responses and steps in database "{self.using}" would be encrypted '
                f"under key {newest}."
            )
        responses = self.follow(
            reencrypt_responses(self.using, self._reencrypt, self._forget, current, self.size)
        )
        taken = effects = 0
        if not self.is_over:
            batches = reencrypt_steps(self.using, self._reencrypt_step, *steps, self.size)
            taken = self.follow(batches)
        if not self.is_over and self._has_effects:
            from ...effects.reencrypting import reencrypt_arguments

            reencrypt = self._reencrypt_arguments
            effects = self.follow(reencrypt_arguments(self.using, reencrypt, *steps, self.size))
        why = "the time was over" if self.is_over else "locked or new"
        summary = (
            f"Encrypted {responses} responses and {taken} steps"
            f"{f' and {effects} effects' if effects else ''} in database "
            f'"{self.using}" under key {newest} (batches: {self.batches}; left because {why}: '
            f"{max(left() - self._unreadable.total(), 0)})."
        )
        if self._unreadable:
            lost = (f"{codec}: {count}" for codec, count in sorted(self._unreadable.items()))
            raise CommandError(f"{summary} Unreadable, and left as they were: {', '.join(lost)}.")
        return summary

    @property
    def _has_effects(self) -> bool:
        return apps.is_installed("django_idempotency.effects")

    def _effects(self, *which: str) -> int:
        """Return how many effects are to be re-encrypted."""
        if not self._has_effects:
            return 0
        from ...effects.reencrypting import pending_arguments

        return pending_arguments(self.using, *which).count()

    def so_far(self) -> str:
        return "What it had encrypted by then stays encrypted: run the command again."

    def _forget(self, scope: str, key: str) -> None:
        forget_copies(self.using, scope, key)

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

    def _reencrypt_arguments(self, arguments: str, key: str) -> str | None:
        try:
            plain = self._cipher.open_at(arguments, EFFECT, key)
        except Unreadable as error:
            self._unreadable[error.codec] += 1
            return None
        return self._cipher.lock_at(plain, EFFECT, key)
