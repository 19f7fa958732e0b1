"""Races, step by step: a rival acts at a chosen moment, on connections of its own."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.atomic import AtomicOperation
from django_idempotency.operations.base import InFlight, Started, Wait
from django_idempotency.protocol.record import Claim, Mismatch, Replay, Snapshot, StoredResponse
from django_idempotency.stores.database.store import DatabaseStore
from django_idempotency.stores.database.transactions import write_transaction
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.support.adapters import every_locking_adapter, few_adapters
from tests.support.operations import CREATED, a_claim, an_operation


@row_locks
@every_locking_adapter
def test_a_duplicate_of_an_in_flight_request_gets_409_at_once(
    adapter: str, caller: Caller, after_write: Any
) -> None:
    """I4: the claim is visible and locked while the view runs."""
    seen = []
    after_write(lambda: seen.append(in_thread(lambda: caller.post(adapter)).result()))
    first = caller.post(adapter)

    (rival,) = seen
    assert (first.status_code, rival.status_code) == (201, 409)
    assert rival["Retry-After"] == "1"
    assert json.loads(rival.content)["code"] == "idempotency_in_flight"
    assert json.loads(rival.content)["retryable"] is True
    assert caller.post(adapter).content == first.content
    assert Order.objects.count() == 1


@row_locks
@few_adapters
def test_a_mismatch_is_reported_even_in_flight(
    adapter: str, caller: Caller, after_write: Any
) -> None:
    """I8."""
    seen = []
    other = {"item": "other"}
    after_write(lambda: seen.append(in_thread(lambda: caller.post(adapter, other)).result()))
    assert caller.post(adapter).status_code == 201
    assert seen[0].status_code == 422


@few_adapters
def test_a_duplicate_waits_and_replays_where_the_database_has_one_writer(
    adapter: str, caller: Caller, after_write: Any
) -> None:
    """On SQLite everything holds but the "at once" of I4."""
    if connection.vendor != "sqlite":
        pytest.skip("for databases with one writer")
    waiting, rivals = threading.Event(), []

    def rival() -> Any:
        def watch(execute: Any, sql: str, *rest: Any) -> Any:
            if sql == "BEGIN IMMEDIATE":
                waiting.set()
            return execute(sql, *rest)

        with connection.execute_wrapper(watch):
            return caller.post(adapter)

    def start() -> None:
        rivals.append(in_thread(rival))
        assert waiting.wait(30)

    after_write(start)
    first = caller.post(adapter)
    assert rivals[0].result().content == first.content
    assert Order.objects.count() == 1


@row_locks
@every_locking_adapter
def test_the_loser_of_a_race_for_the_claim_does_not_run(
    adapter: str, caller: Caller, monkeypatch: Any
) -> None:
    """A duplicate runs to its end between another's claim and its lock."""
    claim, rivals = DatabaseStore.claim, []

    def interrupted(store: DatabaseStore, wanted: Claim) -> Snapshot | None:
        monkeypatch.setattr(DatabaseStore, "claim", claim)
        found = claim(store, wanted)
        rivals.append(in_thread(lambda: caller.post(adapter)).result())
        return found

    monkeypatch.setattr(DatabaseStore, "claim", interrupted)
    overtaken = caller.post(adapter)
    assert overtaken["Idempotency-Replayed"] == "true"
    assert overtaken.content == rivals[0].content
    assert Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
class TestOperations:
    """Two operations under one key, as objects."""

    def test_an_interrupted_claim_runs_at_once(self) -> None:
        """I3: claimed and not locked means interrupted; there is no lease to wait for."""
        assert DatabaseStore("default").claim(a_claim()) is not None
        operation = an_operation()
        assert operation.begin() == Started()
        assert (operation.attempt, operation.recovered) == (2, True)
        assert operation.finish(CREATED)
        assert an_operation().begin() == Replay(CREATED)

    @row_locks
    def test_only_one_takes_an_interrupted_claim_over(self) -> None:
        DatabaseStore("default").claim(a_claim())
        operation = an_operation()
        assert operation.begin() == Started()
        assert in_thread(lambda: an_operation().begin()).result() == InFlight()
        assert operation.finish(CREATED)

    def test_an_attempt_that_lost_its_lock_stores_nothing(self) -> None:
        """I12."""
        loser, winner = an_operation(), an_operation()
        assert loser.begin() == Started()
        loser.fail(ValueError())
        assert winner.begin() == Started()
        assert winner.finish(CREATED)
        assert loser.finish(StoredResponse(404)) is False
        assert an_operation().begin() == Replay(CREATED)

    @row_locks
    def test_a_late_store_gives_way_to_an_attempt_in_flight(self) -> None:
        """I12: the first attempt's raised 404 must not end its successor."""
        loser = an_operation()
        assert loser.begin() == Started()
        loser.fail(ValueError())
        begun, finish = threading.Event(), threading.Event()

        def successor() -> bool:
            winner = an_operation()
            assert winner.begin() == Started()
            begun.set()
            assert finish.wait(30)
            return winner.finish(CREATED)

        rival = in_thread(successor)
        assert begun.wait(30)
        assert loser.finish(StoredResponse(404)) is False
        finish.set()
        assert rival.result() is True
        assert an_operation().begin() == Replay(CREATED)

    def test_every_attempt_has_a_number_of_its_own(self) -> None:
        """I12: a rival counts an attempt between our claim and our lock, and dies."""

        class Overtaken(DatabaseStore):
            def claim(self, claim: Claim) -> Snapshot | None:
                found = super().claim(claim)
                assert found is not None
                in_thread(lambda: self.bump_fencing_token(found)).result()
                return found

        operation = an_operation(Overtaken("default"))
        assert operation.begin() == Started()
        assert operation.attempt == 3
        assert operation.finish(CREATED)

    @row_locks
    def test_an_attempt_whose_number_is_always_taken_gives_way(self) -> None:
        """I4: rivals that count on and on leave us no number; the client comes again."""

        class Overtaken(DatabaseStore):
            def lock(self, record_id: int, wait: timedelta = timedelta(0)) -> Snapshot | None:
                def rival() -> None:
                    IdempotencyRecord.objects.update(attempt=F("attempt") + 1)

                in_thread(rival).result()
                return super().lock(record_id, wait)

        assert an_operation(Overtaken("default")).begin() == InFlight()
        operation = an_operation()
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    @row_locks
    def test_a_duplicate_that_waits_does_so_until_its_time_is_over(self) -> None:
        """I4: when the first attempt dies, those that wait compete for its number, and each of them
        may lose more often than a request that does not wait tries."""
        rivals = iter(range(40))

        class Overtaken(DatabaseStore):
            def lock(self, record_id: int, wait: timedelta = timedelta(0)) -> Snapshot | None:
                def rival() -> None:
                    IdempotencyRecord.objects.update(attempt=F("attempt") + 1)

                if next(rivals, None) is not None:
                    in_thread(rival).result()
                return super().lock(record_id, wait)

        wait = Wait(timedelta(seconds=60), limit=1)
        operation = AtomicOperation(Overtaken("default"), a_claim(), connection, wait)
        assert operation.begin() == Started()
        assert next(rivals, None) is None
        assert operation.finish(CREATED)

    def test_an_expired_record_is_as_good_as_absent(self) -> None:
        """I14, before the purge; I7: expiry comes before the fingerprint."""
        self._completed()
        self._expire()
        operation = an_operation(fingerprint="1:b")
        assert operation.begin() == Started()
        assert (operation.attempt, operation.recovered) == (1, False)
        assert operation.finish(CREATED)
        assert an_operation(fingerprint="1:a").begin() == Mismatch()

    @row_locks
    def test_one_of_two_takes_an_expired_record_over(self) -> None:
        """I14."""
        self._completed()
        self._expire()
        operation = an_operation()
        assert operation.begin() == Started()
        assert in_thread(lambda: an_operation().begin()).result() == InFlight()
        assert operation.finish(CREATED)
        assert IdempotencyRecord.objects.count() == 1

    def test_a_record_purged_under_our_hands_is_claimed_anew(self) -> None:
        """I14: the purge is faster than the request that found the record expired."""
        self._completed()
        self._expire()

        class Overtaken(DatabaseStore):
            def evict(self, record_id: int) -> bool:
                assert in_thread(lambda: list(self.purge(10))).result() == [1]
                return super().evict(record_id)

        operation = an_operation(Overtaken("default"))
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    def test_a_record_that_outlived_its_retention_in_flight_stays_in_flight(self) -> None:
        """I14: neither the purge nor a duplicate touches it."""
        store = DatabaseStore("default")
        record = store.claim(a_claim()._replace(retention=timedelta(microseconds=1)))
        assert record is not None
        with write_transaction("default"):
            assert store.lock(record.id) is not None
            if connection.vendor == "sqlite":
                return
            assert in_thread(lambda: an_operation().begin()).result() == InFlight()
            assert in_thread(lambda: sum(DatabaseStore("default").purge(10))).result() == 0
        assert list(store.purge(10)) == [1]

    def test_different_keys_do_not_meet(self) -> None:
        operation = an_operation()
        assert operation.begin() == Started()
        assert operation.finish(CREATED)
        other = an_operation(key="K")
        assert other.begin() == Started()
        assert other.finish(CREATED)

    @staticmethod
    def _completed() -> None:
        operation = an_operation()
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    @staticmethod
    def _expire() -> None:
        past = F("created_at") - timedelta(days=1)
        IdempotencyRecord.objects.update(expires_at=past, purge_at=past)
