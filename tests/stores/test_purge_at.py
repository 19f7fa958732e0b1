"""When the purge looks at a record: when its claim said it would expire. Whether it has expired
says what was stored with its response."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.base import InFlight, Started
from django_idempotency.protocol.record import Replay
from django_idempotency.stores.database.interrupted import open_attempts
from django_idempotency.stores.database.store import DatabaseStore
from django_idempotency.test import advance
from tests.conftest import row_locks
from tests.support.large_table import fill, plan, reads_all
from tests.support.operations import CREATED, a_claim, an_operation, rival

HOUR = timedelta(hours=1)
"""The retention of these claims."""

pytestmark = pytest.mark.django_db


def complete(key: str = "k", lasts: timedelta = HOUR) -> None:
    operation = an_operation(key=key)
    assert operation.begin() == Started()
    assert operation.finish(CREATED, lasts)


def purged(batch_size: int = 10, older_than: timedelta = timedelta(0)) -> int:
    removed = sum(DatabaseStore("default").purge(batch_size, older_than))
    # However a record got there, the purge will not be later than its expiry.
    assert not IdempotencyRecord.objects.filter(purge_at__gt=F("expires_at")).exists()
    return removed


def left() -> set[str]:
    return set(IdempotencyRecord.objects.values_list("key", flat=True))


@contextmanager
def writes() -> Iterator[Callable[[], int]]:
    """Count the records whose ``purge_at`` changes."""
    before = dict(IdempotencyRecord.objects.values_list("pk", "purge_at"))
    now = IdempotencyRecord.objects.values_list("pk", "purge_at")
    yield lambda: sum(before.get(pk, at) != at for pk, at in now.all())


class TestRetentions:
    def test_a_usual_one_needs_no_new_moment(self):
        operation = an_operation()
        assert operation.begin() == Started()
        with writes() as written:
            assert operation.finish(CREATED)
            assert written() == 0
        record = IdempotencyRecord.objects.get()
        assert record.purge_at < record.expires_at
        assert record.purge_at - record.created_at < HOUR + timedelta(seconds=1)

    def test_a_shorter_one_is_not_purged_later(self):
        complete(lasts=timedelta(minutes=1))
        record = IdempotencyRecord.objects.get()
        assert record.purge_at == record.expires_at
        advance(timedelta(minutes=2))
        assert purged() == 1

    def test_a_longer_one_is_kept_whole(self):
        """I14"""
        complete(lasts=10 * HOUR)
        advance(2 * HOUR)
        assert purged() == 0
        assert an_operation().begin() == Replay(CREATED)
        advance(7 * HOUR)
        assert purged() == 0
        advance(HOUR)
        assert purged() == 1

    def test_a_longer_one_is_looked_at_once_and_then_when_it_expires(self):
        complete(lasts=10 * HOUR)
        advance(2 * HOUR)
        with writes() as written:
            assert purged() == 0
            assert written() == 1
        record = IdempotencyRecord.objects.get()
        assert record.purge_at == record.expires_at
        with writes() as written:
            assert list(DatabaseStore("default").purge(10)) == []
            assert written() == 0

    def test_one_that_expires_soon_is_not_worth_a_write(self):
        complete(lasts=HOUR + timedelta(minutes=30))
        advance(HOUR + timedelta(minutes=1))
        with writes() as written:
            assert purged() == 0
            assert written() == 0
        advance(timedelta(minutes=30))
        assert purged() == 1

    def test_a_tombstone_is_counted_from_the_expiry(self):
        complete(lasts=10 * HOUR)
        advance(12 * HOUR)
        assert purged(older_than=3 * HOUR) == 0
        advance(2 * HOUR)
        assert purged(older_than=3 * HOUR) == 1

    def test_records_that_live_for_longer_do_not_stop_the_batches_behind_them(self):
        """Batches of every size end, whatever lies between."""
        for number in range(3):
            complete(f"soon {number}", lasts=HOUR + timedelta(minutes=30))
            complete(f"long {number}", lasts=10 * HOUR)
            complete(f"old {number}")
        living = {key for key in left() if not key.startswith("old")}
        advance(HOUR + timedelta(minutes=1))
        assert purged(batch_size=1) == 3
        assert left() == living
        advance(12 * HOUR)
        assert purged(batch_size=2) == 6

    def test_what_is_left_is_counted_by_expiry(self):
        complete("long", lasts=10 * HOUR)
        complete("old")
        advance(2 * HOUR)
        store = DatabaseStore("default")
        assert [record.key for record in store.expired()] == ["old"]
        assert HOUR <= store.lag() < HOUR + timedelta(minutes=1)

    def test_the_lag_is_that_of_the_record_that_expired_first(self):
        """The one that lived for longer than its claim said is looked at first."""
        complete("long", lasts=HOUR + timedelta(minutes=30))
        complete("old", lasts=HOUR + timedelta(minutes=10))
        advance(2 * HOUR)
        assert DatabaseStore("default").lag() >= timedelta(minutes=50)


@pytest.mark.django_db(transaction=True)
class TestInFlight:
    @row_locks
    def test_a_long_attempt_is_left_alone_and_kept_afterwards(self):
        """I14: its claim's retention ends while it runs; the record's counts from completion."""
        claimed = DatabaseStore("default").claim(a_claim())
        complete("old")
        advance(4 * HOUR)
        with rival() as store:
            running = store.lock(claimed.id)
            assert purged() == 1
            assert left() == {"k"}
            assert an_operation().begin() == InFlight()
            assert store.complete(running, CREATED, HOUR)
        assert an_operation().begin() == Replay(CREATED)
        assert purged() == 0
        advance(HOUR)
        assert purged() == 1

    @row_locks
    def test_nobody_is_waited_for(self):
        """I14: a record that could be put off is locked."""
        complete("locked", lasts=10 * HOUR)
        complete("old")
        advance(2 * HOUR)
        locked = IdempotencyRecord.objects.get(key="locked")
        with rival() as store, writes() as written:
            assert store.lock(locked.pk)
            assert purged() == 1
            assert written() == 0
        with writes() as written:
            assert purged() == 0
            assert written() == 1


@row_locks
@pytest.mark.django_db(transaction=True)
def test_no_statement_about_old_or_open_records_reads_the_whole_table():
    fill(20_000)
    store = DatabaseStore("default")
    with CaptureQueriesContext(connection) as queries:
        store.lag()
        store.expired(timedelta(days=8))[:1].count()
        assert store.count_expired(timedelta(0), 200) == 201
        if connection.vendor == "postgresql":  # elsewhere no index has the open ones
            list(open_attempts("default"))
        next(store.purge(100))
    asked: list[Any] = [each["sql"] for each in queries if "SELECT" in each["sql"]]
    found = {sql: plan(sql) for sql in asked if IdempotencyRecord._meta.db_table in sql}
    assert len(found) >= 3
    assert {sql: each for sql, each in found.items() if any(map(reads_all, each))} == {}
