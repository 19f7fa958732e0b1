"""Planted bugs: mistakes that are known from other packages, made on purpose.

An experiment that finds none of them proves nothing. They are put in while a process runs, and
taken out again.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import connections, transaction
from django.db.models import F

from django_idempotency.compat.django import own_blocks
from django_idempotency.compat.request_block import LastStatement
from django_idempotency.effects import rows as effect_rows
from django_idempotency.effects import runner, staging
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.guard import guard
from django_idempotency.operations import transaction as lifecycle
from django_idempotency.operations.atomic import AtomicOperation
from django_idempotency.operations.base import Started
from django_idempotency.operations.transaction import AttemptTransaction, RequestBlock
from django_idempotency.operations.watch import Inspection, Watch
from django_idempotency.protocol.record import Claim, Omitted, Snapshot, State, StoredResponse
from django_idempotency.stores.database import rows
from django_idempotency.stores.database.dialects import (
    Dialect,
    StoreTime,
    TransactionStatus,
    base,
    mysql,
    postgresql,
    sqlite,
)
from django_idempotency.stores.database.store import DatabaseStore


def lock_released_early() -> list[tuple[Any, str, Any]]:
    """The lock ends before the view runs."""
    lock = AtomicOperation._lock

    def released(self: AtomicOperation, claimed: Snapshot, wait: timedelta = timedelta(0)) -> Any:
        begun = lock(self, claimed, wait)
        if isinstance(begun, Started):
            self._transaction.commit()
            self._transaction.begin()
            # On PostgreSQL the watch and the store would notice.
            DatabaseStore(self._transaction.using).exists(self._record.id)
            self._record = self._record._replace(transaction=None)
            self._transaction.watch()
        return begun

    return [(AtomicOperation, "_lock", released)]


def look_then_insert() -> list[tuple[Any, str, Any]]:
    """The claim looks first and inserts later."""
    original = DatabaseStore.claim

    def claim(self: DatabaseStore, claim: Claim) -> Snapshot | None:
        fresh = not self._records().filter(key=claim.key, scope=claim.scope).exists()
        if fresh:
            self._records().create(
                scope=claim.scope,
                key=claim.key,
                fingerprint=claim.fingerprint,
                state=State.CLAIMED,
                method=claim.method,
                path=claim.path,
                created_at=StoreTime(),
                purge_at=StoreTime(claim.retention),
                expires_at=StoreTime(claim.retention),
            )
        found = original(self, claim)
        return found and found._replace(fresh=fresh)

    return [(DatabaseStore, "claim", claim)]


def unfenced_store() -> list[tuple[Any, str, Any]]:
    """A raised answer lets go of its record, and is stored whoever's attempt it is by then."""

    def let_go(self: AtomicOperation) -> None:
        self._is_locked = False
        self._transaction.rollback()

    def is_still_ours(self: AtomicOperation, record: Snapshot | None) -> bool:
        return record is not None and record.state is State.CLAIMED

    def complete(
        self: DatabaseStore,
        record: Snapshot,
        response: StoredResponse,
        retention: timedelta,
        commits: bool = False,
    ) -> bool:
        updated = (
            self._records()
            .filter(pk=record.id)
            .update(
                state=State.COMPLETED,
                completed_at=StoreTime(),
                expires_at=StoreTime(retention),
                **rows.columns(response),
            )
        )
        return updated == 1

    return [
        (AtomicOperation, "_undo_and_lock", let_go),
        (AtomicOperation, "_is_still_ours", is_still_ours),
        (DatabaseStore, "complete", complete),
    ]


def commit_before_store() -> list[tuple[Any, str, Any]]:
    """The view's writes are committed, then the response is stored."""
    write = AtomicOperation._write_record

    def written(self: AtomicOperation, *arguments: Any) -> bool:
        self._transaction.commit()
        self._transaction.begin()
        # PostgreSQL would refuse the other transaction, and each request would end as an error.
        self._record = self._record._replace(transaction=None)
        return write(self, *arguments)

    return [(AtomicOperation, "_write_record", written)]


def purge_without_skip_locked() -> list[tuple[Any, str, Any]]:
    """The purge waits for records in flight."""

    def rows_of(connection: Any, sql: str, parameters: Any = None) -> Any:
        return base.rows_of(connection, sql.replace(" SKIP LOCKED", ""), parameters)

    return [(postgresql, "rows_of", rows_of), (mysql, "rows_of", rows_of)]


def stored_rows_trusted() -> list[tuple[Any, str, Any]]:
    """Whatever a row says is replayed."""

    def response(
        state: str, version: int, status: int, headers: str, body: Any, omitted: Any, codec: Any
    ) -> StoredResponse:
        pairs = tuple((name, value) for name, value in json.loads(headers))
        return StoredResponse(status, pairs, bytes(body or b""), Omitted(rows._text(omitted)))

    return [(rows, "_response", response)]


def expiry_forgotten_by_the_claim() -> list[tuple[Any, str, Any]]:
    """An expired record replays until the purge comes."""
    original = DatabaseStore.claim

    def claim(self: DatabaseStore, claim: Claim) -> Snapshot | None:
        found = original(self, claim)
        return found and found._replace(expired=False)

    return [(DatabaseStore, "claim", claim)]


def rollback_exc_believed() -> list[tuple[Any, str, Any]]:
    """What Django keeps of an error decides whether one has undone the writes."""

    inspect = Watch.inspect

    def inspected(self: Watch, asks_server: bool = False) -> Inspection:
        found = inspect(self, asks_server)
        error = self._connection.rollback_exc
        return replace(found, unintended=found.loss or ("" if error is None else str(error)))

    return [(Watch, "inspect", inspected)]


def server_not_asked() -> list[tuple[Any, str, Any]]:
    """Whether the server has ended the transaction by itself is nobody's question."""

    def always_open(self: Dialect, session: Any) -> TransactionStatus:
        return TransactionStatus.OPEN

    lock = mysql.Mysql.lock

    def unmarked(self: mysql.Mysql, connection: Any, record_id: int, waits: bool) -> Any:
        found = lock(self, connection, record_id, waits)
        return found and found._replace(transaction=None)

    return [
        (Watch, "_ask", lambda self: None),
        (mysql.Mysql, "lock", unmarked),
        *(
            (dialect, "transaction_status", always_open)
            for dialect in (postgresql.Postgresql, sqlite.Sqlite, mysql.Mysql)
        ),
    ]


def endings_sent() -> list[tuple[Any, str, Any]]:
    """A view's COMMIT reaches the database."""
    return [(Dialect, "ends_transaction", lambda self, connection, sql: False)]


def any_block_taken_for_django_s() -> list[tuple[Any, str, Any]]:
    """Whatever block is open, the attempt joins it, as if its end were the request's."""

    def request_block(using: str, expected: RequestBlock) -> transaction.Atomic | None:
        return next(iter(own_blocks(connections[using])), None)

    return [(lifecycle, "_request_block", request_block)]


def refusals_undone() -> list[tuple[Any, str, Any]]:
    """What is not stored leaves nothing: who sends a key is not counted by a lockout."""
    return [(guard, "keeps_writes", lambda status, choices: False)]


def raised_refusals_kept() -> list[tuple[Any, str, Any]]:
    """The attempt ends for itself what the block of ``ATOMIC_REQUESTS`` is to undo."""
    commit, leave = AttemptTransaction.commit, AttemptTransaction._leave

    def commit_at_once(
        self: AttemptTransaction, at_once: bool = False, together: Any = None
    ) -> None:
        commit(self, together is None, together)

    def leave_in_peace(self: AttemptTransaction, block: Any, failure: Any) -> None:
        leave(self, block, None)

    return [
        (AttemptTransaction, "commit", commit_at_once),
        (AttemptTransaction, "_leave", leave_in_peace),
    ]


def store_after_django_s_commit() -> list[tuple[Any, str, Any]]:
    """The block of ``ATOMIC_REQUESTS`` commits, and then the response is stored."""
    original = LastStatement._commit

    def commit(self: LastStatement) -> None:
        type(self._connection)._commit(self._connection)
        original(self)

    return [(LastStatement, "_commit", commit)]


def writes_of_failed_calls_kept() -> list[tuple[Any, str, Any]]:
    """A function that raises has done what it did, and runs again."""

    def fail(self: AtomicOperation, error: BaseException, ending: Any = None) -> None: ...

    def abandon(self: AtomicOperation, error: BaseException) -> None:
        self._end(keeps_writes=True)

    return [(AtomicOperation, "fail", fail), (AtomicOperation, "abandon", abandon)]


def dispatch_before_commit() -> list[tuple[Any, str, Any]]:
    """Effects happen where they are staged, and are then stored with the response."""

    def run_first(connection: Any, run: Callable[[], None]) -> None:
        run()

    return [(staging, "run_first_on_commit", run_first)]


def mark_before_dispatch() -> list[tuple[Any, str, Any]]:
    """An effect is done before it happens: nobody looks for it when its process dies."""
    call = runner.call

    def marked(effect: Any, current: Any, args: Any, kwargs: Any) -> None:
        effect_rows.done("default", [current.key], current.tries)
        call(effect, current, args, kwargs)

    return [(runner, "call", marked)]


def unfenced_mark() -> list[tuple[Any, str, Any]]:
    """Who was overtaken marks what another one runs."""

    def taken(using: str, keys: Any, tries: int) -> Any:
        return IdempotencyEffect.rows(using).filter(key__in=list(keys))

    return [(effect_rows, "_taken", taken)]


def lease_not_taken() -> list[tuple[Any, str, Any]]:
    """Nobody sees that an effect is running."""
    insert = effect_rows.insert

    def insert_as_due(using: str, rows: Any) -> None:
        insert(using, [replace(each, lease=each.lease and timedelta(0)) for each in rows])

    def take(rows: Any, lease: timedelta) -> bool:
        return bool(rows.update(tries=F("tries") + 1))

    return [(effect_rows, "insert", insert_as_due), (effect_rows, "_take", take)]


def a_key_per_try() -> list[tuple[Any, str, Any]]:
    """A receiver that honours keys counts each try."""
    call = runner.call

    def renamed(effect: Any, current: Any, args: Any, kwargs: Any) -> None:
        call(effect, replace(current, key=str(uuid4())), args, kwargs)

    return [(runner, "call", renamed)]


def effects_purged_while_pending() -> list[tuple[Any, str, Any]]:
    """The purge takes whatever is old."""

    def purge(using: str, size: int) -> int:
        old = IdempotencyEffect.rows(using).filter(staged_at__lte=StoreTime(-effect_rows.KEPT))
        removed, _ = old.delete()
        return removed

    return [(effect_rows, "purge", purge)]


MUTANTS: dict[str, Callable[[], list[tuple[Any, str, Any]]]] = {
    "lock released early": lock_released_early,
    "look, then insert": look_then_insert,
    "unfenced store": unfenced_store,
    "commit before store": commit_before_store,
    "purge without SKIP LOCKED": purge_without_skip_locked,
    "stored rows trusted": stored_rows_trusted,
    "expiry forgotten by the claim": expiry_forgotten_by_the_claim,
    "rollback_exc believed": rollback_exc_believed,
    "server not asked": server_not_asked,
    "endings sent": endings_sent,
    "any block taken for Django's": any_block_taken_for_django_s,
    "refusals undone": refusals_undone,
    "raised refusals kept": raised_refusals_kept,
    "store after Django's commit": store_after_django_s_commit,
    "writes of failed calls kept": writes_of_failed_calls_kept,
    "dispatch before commit": dispatch_before_commit,
    "mark before dispatch": mark_before_dispatch,
    "unfenced mark": unfenced_mark,
    "lease not taken": lease_not_taken,
    "a key per try": a_key_per_try,
    "effects purged while pending": effects_purged_while_pending,
}


def plant(name: str) -> None:
    """Put a bug in for good: for a process that ends with the experiment."""
    for target, attribute, replacement in MUTANTS[name]():
        setattr(target, attribute, replacement)


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Put a bug in for a while."""
    changes = MUTANTS[name]()
    originals = [(target, attribute, vars(target)[attribute]) for target, attribute, _ in changes]
    plant(name)
    try:
        yield
    finally:
        for target, attribute, original in originals:
            setattr(target, attribute, original)
