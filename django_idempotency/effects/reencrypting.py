"""Re-encrypt the arguments of effects that may still run, beside those who run them."""

from collections.abc import Callable, Iterator

from ..stores.database.transactions import write_transaction
from .models import IdempotencyEffect
from .rows import UNDECIDED, Rows

Reencrypt = Callable[[str, str], str | None]
"""Takes stored arguments, and the effect's key. Returns what to store instead, or ``None`` if the
arguments cannot be read."""


def pending_arguments(using: str, prefix: str, current: str) -> Rows:
    """Return the effects whose arguments are to be re-encrypted.

    :param prefix: only arguments that begin with it
    :param current: skip arguments that begin with it
    """
    rows = IdempotencyEffect.rows(using).filter(state__in=UNDECIDED, arguments__startswith=prefix)
    return rows.exclude(arguments__startswith=current)


def reencrypt_arguments(
    using: str, reencrypt: Reencrypt, prefix: str, current: str, size: int
) -> Iterator[int]:
    """Re-encrypt arguments; one transaction per batch. Can be interrupted and run again.

    :param size: effects per transaction
    :return: number of rows written, batch by batch
    """
    pending, last = pending_arguments(using, prefix, current).order_by("pk"), None
    while page := list((pending.filter(pk__gt=last) if last else pending)[:size]):
        rewritten = 0
        with write_transaction(using):
            for row in page:
                fresh = reencrypt(row.arguments, str(row.pk))
                if fresh is not None:
                    # As it was read: nothing else writes arguments.
                    same = IdempotencyEffect.rows(using).filter(pk=row.pk)
                    rewritten += same.update(arguments=fresh)
        yield rewritten
        last = page[-1].pk
