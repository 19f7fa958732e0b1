"""Writing stored responses down anew, under another key, beside traffic."""

from collections.abc import Callable, Collection, Iterator

from django.db import connections
from django.db.models import QuerySet

from ...models import IdempotencyRecord, IdempotencyStep
from ...protocol.record import Snapshot, State, StoredResponse
from .dialects import dialect_of
from .rows import COLUMNS, columns, snapshot
from .transactions import write_transaction

Reencrypt = Callable[[StoredResponse, str, str], StoredResponse | None]
"""Returns what to store instead, or ``None`` if a response cannot be read. It gets the scope and
the key of the record, too."""

ReencryptText = Callable[[str, int, int], str | None]
"""The same for results of steps, with the record's id and the position of the step."""

Forget = Callable[[str, str], None]
"""Removes a record from a cache, by its scope and key."""


def reencrypt_responses(
    using: str, reencrypt: Reencrypt, forget: Forget, current: Collection[str], size: int
) -> Iterator[int]:
    """Write stored responses down anew; one transaction per batch.

    Records are found without a lock, then locked, skipping those that are, and read again: what
    is written replaces what was read, and nothing else. Whatever is stopped can be run again.

    :param forget: called before a response is replaced: copies of it must not outlive its key
    :param current: codecs of responses that stay as they are
    :param size: records per transaction
    :return: how many it wrote, batch by batch
    """
    # A list of keys would lock living records where the database locks ranges; single keys do not.
    step = 1 if dialect_of(connections[using]).locks_ranges else size
    last = 0
    while page := list(_page(using, current, last)[:size]):
        with write_transaction(using):
            groups = [page[start : start + step] for start in range(0, len(page), step)]
            rewritten = sum(
                _reencrypt_group(using, reencrypt, forget, current, group) for group in groups
            )
        yield rewritten
        last = page[-1]


def pending_responses(using: str, current: Collection[str]) -> QuerySet[IdempotencyRecord]:
    """Return the records whose stored responses are to be written down anew."""
    records = IdempotencyRecord._base_manager.using(using)
    stored = records.filter(state=State.COMPLETED, response_omitted="")
    return stored.exclude(response_codec__in=current)


def _page(using: str, current: Collection[str], last: int) -> QuerySet[IdempotencyRecord, int]:
    ahead = pending_responses(using, current).filter(pk__gt=last).order_by("pk")
    return ahead.values_list("pk", flat=True)


def _reencrypt_group(
    using: str, reencrypt: Reencrypt, forget: Forget, current: Collection[str], ids: list[int]
) -> int:
    wanted = {"pk": ids[0]} if len(ids) == 1 else {"pk__in": ids}
    locked = pending_responses(using, current).filter(**wanted).select_for_update(skip_locked=True)
    rewritten = 0
    for scope, key, *row in list(locked.values_list("scope", "key", *COLUMNS)):
        record = snapshot((*row, False, False, False))
        fresh = None if record.response is None else reencrypt(record.response, scope, key)
        if fresh is not None:
            forget(scope, key)
            rewritten += _rewrite(using, record, fresh)
    return rewritten


def _rewrite(using: str, record: Snapshot, fresh: StoredResponse) -> int:
    ours = IdempotencyRecord._base_manager.using(using).filter(pk=record.id, attempt=record.attempt)
    return ours.filter(state=State.COMPLETED).update(**columns(fresh))


def reencrypt_steps(
    using: str, reencrypt: ReencryptText, prefix: str, current: str, size: int
) -> Iterator[int]:
    """Write results of steps down anew, in the same way.

    :param prefix: only results that begin so
    :param current: but not those that begin so
    """
    steps = pending_steps(using, prefix, current)
    last = 0
    while page := list(
        steps.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:size]
    ):
        with write_transaction(using):
            rewritten = sum(_reencrypt_step(steps, reencrypt, pk) for pk in page)
        yield rewritten
        last = page[-1]


def pending_steps(using: str, prefix: str, current: str) -> QuerySet[IdempotencyStep]:
    """Return the steps whose results are to be written down anew."""
    steps = IdempotencyStep._base_manager.using(using).filter(result__startswith=prefix)
    return steps.exclude(result="").exclude(result__startswith=current)


def _reencrypt_step(steps: QuerySet[IdempotencyStep], reencrypt: ReencryptText, pk: int) -> int:
    row = steps.filter(pk=pk)
    locked = row.select_for_update(skip_locked=True)
    found = list(locked.values_list("result", "record_id", "position"))
    fresh = reencrypt(*found[0]) if found else None
    return 0 if fresh is None else row.update(result=fresh)
