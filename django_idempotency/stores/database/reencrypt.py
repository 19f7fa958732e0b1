"""Re-encrypt stored responses and results of steps, beside traffic."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from ...models import IdempotencyRecord, IdempotencyStep
from ...protocol.record import State, StoredResponse
from .dialects import dialect_of
from .rows import COLUMNS, columns, snapshot
from .transactions import write_transaction

Reencrypt = Callable[[StoredResponse, str, str], StoredResponse | None]
"""Takes a response, its scope and its key. Returns what to store instead, or ``None`` if the
response cannot be read."""

ReencryptText = Callable[[str, int, int], str | None]
"""The same for the result of a step. Takes the result, the record's id and the step's position."""

Forget = Callable[[str, str], None]
"""Removes a record from a cache, by its scope and key."""


def reencrypt_responses(
    using: str, reencrypt: Reencrypt, forget: Forget, current: Collection[str], size: int
) -> Iterator[int]:
    """Re-encrypt stored responses; one transaction per batch. Can be interrupted and run again.

    Finds records without a lock, then locks those that are free and reads them again, so that it
    replaces exactly what it has read.

    :param forget: called before a response is replaced: copies of it must not outlive its key
    :param current: codecs of responses that stay as they are
    :param size: records per transaction
    :return: number of records written, batch by batch
    """
    # A list of keys would lock living records where the database locks ranges; single keys do not.
    step = 1 if dialect_of(connections[using]).locks_ranges else size
    last = 0
    while page := list(_page(pending_responses(using, current), last)[:size]):
        with write_transaction(using):
            groups = [page[start : start + step] for start in range(0, len(page), step)]
            rewritten = sum(
                _reencrypt_group(using, reencrypt, forget, current, group) for group in groups
            )
        yield rewritten
        last = page[-1]


def pending_responses(using: str, current: Collection[str]) -> QuerySet[IdempotencyRecord]:
    """Return the records whose stored responses are to be re-encrypted."""
    stored = IdempotencyRecord.rows(using).filter(state=State.COMPLETED, response_omitted="")
    return stored.exclude(response_codec__in=current)


def _page(pending: QuerySet[Any], last: int) -> QuerySet[Any, int]:
    return pending.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)


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
            ours = IdempotencyRecord.rows(using).filter(pk=record.id, attempt=record.attempt)
            rewritten += ours.filter(state=State.COMPLETED).update(**columns(fresh))
    return rewritten


def reencrypt_steps(
    using: str, reencrypt: ReencryptText, prefix: str, current: str, size: int
) -> Iterator[int]:
    """Re-encrypt results of steps, in the same way.

    :param prefix: only results that begin with it
    :param current: skip results that begin with it
    """
    steps = pending_steps(using, prefix, current)
    last = 0
    while page := list(_page(steps, last)[:size]):
        with write_transaction(using):
            rewritten = sum(_reencrypt_step(steps, reencrypt, pk) for pk in page)
        yield rewritten
        last = page[-1]


def pending_steps(using: str, prefix: str, current: str) -> QuerySet[IdempotencyStep]:
    """Return the steps whose results are to be re-encrypted."""
    steps = IdempotencyStep.rows(using).filter(result__startswith=prefix)
    return steps.exclude(result="").exclude(result__startswith=current)


def _reencrypt_step(steps: QuerySet[IdempotencyStep], reencrypt: ReencryptText, pk: int) -> int:
    row = steps.filter(pk=pk)
    locked = row.select_for_update(skip_locked=True)
    found = list(locked.values_list("result", "record_id", "position"))
    fresh = reencrypt(*found[0]) if found else None
    return 0 if fresh is None else row.update(result=fresh)
