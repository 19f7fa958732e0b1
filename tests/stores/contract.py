"""What every store keeps, as tests: a subclass per store says how to make an operation on it."""

import threading
from abc import ABC, abstractmethod
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from django_idempotency.operations.base import InFlight, Operation, Started
from django_idempotency.operations.errors import LostRecord
from django_idempotency.protocol.record import (
    Claim,
    Mismatch,
    Omitted,
    Replay,
    StoredResponse,
    Tombstone,
)
from tests.conftest import in_thread

CREATED = StoredResponse(201, (("X-Id", "1"), ("Vary", "Cookie")), b"made\0\xff")
OTHER = StoredResponse(404, (), b"gone")
AT_ONCE = timedelta(microseconds=1)


def a_claim(**changes: Any) -> Claim:
    scope = "5" * 64
    return Claim(scope, "k", "1:a", "POST", "/", timedelta(hours=1))._replace(**changes)


many_writers = pytest.mark.usefixtures("several_writers")
"""Tests in which somebody writes while an attempt runs."""


class StoreContract(ABC):
    """The same for all stores.

    :cvar one_writer: duplicates wait for the writer, instead of hearing that it is in flight
    """

    one_writer = False

    @pytest.fixture
    def several_writers(self) -> None:
        if self.one_writer:
            pytest.skip(
                "SQLite has one writer: duplicates wait for it (tests/behaviour/test_races.py)"
            )

    @abstractmethod
    def operation(self, claim: Claim) -> Operation:
        """Return an operation, not begun."""

    @abstractmethod
    def dying(self, claim: Claim) -> Operation:
        """Return an operation that has begun, and whose process was killed, or stopped."""

    @abstractmethod
    def expire(self, claim: Claim) -> None:
        """Let the retention of a claimed record be over."""

    @abstractmethod
    def purged(self) -> int:
        """Purge; return how many records that removed."""

    def begin(self, **changes: Any) -> Operation:
        operation = self.operation(a_claim(**changes))
        assert operation.begin() == Started()
        return operation

    def complete(
        self, response: StoredResponse = CREATED, lasts: timedelta | None = None, **changes: Any
    ) -> None:
        assert self.begin(**changes).finish(response, lasts)

    def answer(self, **changes: Any) -> Any:
        """What a request on connections of its own hears."""
        return in_thread(lambda: self.operation(a_claim(**changes)).begin()).result()

    # Claims

    def test_the_first_request_runs(self) -> None:
        operation = self.begin()
        assert (operation.attempt, operation.recovered) == (1, False)
        assert operation.finish(CREATED) is True

    def test_a_retry_replays(self) -> None:
        """I6."""
        self.complete()
        assert self.answer() == Replay(CREATED)
        assert self.answer() == Replay(CREATED)

    @pytest.mark.parametrize("reason", [each for each in Omitted if each])
    def test_a_response_without_body_says_why(self, reason: Omitted) -> None:
        omitted = StoredResponse(200, omitted=reason)
        self.complete(omitted)
        assert self.answer() == Replay(omitted)

    @many_writers
    def test_a_duplicate_in_flight_hears_so(self) -> None:
        """I4."""
        operation = self.begin()
        assert self.answer() == InFlight()
        assert operation.finish(CREATED)
        assert self.answer() == Replay(CREATED)

    def test_another_request_is_a_mismatch(self) -> None:
        """I8, I7: in flight, too; the original still replays."""
        operation = self.begin()
        assert self.answer(fingerprint="1:b") == Mismatch()
        assert operation.finish(CREATED)
        assert self.answer(fingerprint="1:b") == Mismatch()
        assert self.answer() == Replay(CREATED)

    @pytest.mark.parametrize(
        "other", [{"key": "K"}, {"key": "k "}, {"key": "k/x"}, {"scope": "6" * 64}]
    )
    def test_other_keys_and_scopes_do_not_meet(self, other: dict[str, str]) -> None:
        """I1: collations must not make different keys equal."""
        self.complete()
        self.complete(OTHER, **other)
        assert self.answer() == Replay(CREATED)
        assert self.answer(**other) == Replay(OTHER)

    @pytest.mark.parametrize("key", ["x" * 255, "'; DROP TABLE x; --", "a\tb", "{key}:*"])
    def test_any_key_will_do(self, key: str) -> None:
        self.complete(key=key)
        assert self.answer(key=key) == Replay(CREATED)

    # Races

    def test_one_of_many_runs(self) -> None:
        """I1."""
        started = threading.Semaphore(0)
        finish = threading.Event()

        def request(barrier: threading.Barrier) -> str:
            operation = self.operation(a_claim())
            barrier.wait(30)
            begun = operation.begin()
            if begun == Started():
                started.release()
                assert finish.wait(30)
                assert operation.finish(CREATED)
            return type(begun).__name__

        with ThreadPoolExecutor(6) as pool:
            barrier = threading.Barrier(6)
            futures = [pool.submit(closing(request), barrier) for _ in range(6)]
            assert started.acquire(timeout=30)
            finish.set()
            answers = Counter(future.result(60) for future in futures)
        assert answers["Started"] == 1
        assert set(answers) <= {"Started", "InFlight", "Replay"}

    def test_simultaneous_replays_all_succeed(self) -> None:
        """I13."""
        self.complete()
        barrier = threading.Barrier(6)

        def request(_: int) -> Any:
            operation = self.operation(a_claim())
            barrier.wait(30)
            return operation.begin()

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(closing(request), range(6))) == [Replay(CREATED)] * 6

    # Withdrawn

    def test_a_withdrawn_claim_leaves_the_key_to_any_request(self) -> None:
        assert self.begin().withdraw(keeps_writes=True)
        other = self.begin(fingerprint="1:b")
        assert (other.attempt, other.recovered) == (1, False)
        assert other.finish(CREATED)
        assert self.answer(fingerprint="1:b") == Replay(CREATED)

    @many_writers
    def test_who_was_replaced_withdraws_nothing(self) -> None:
        """I12."""
        dead = self.dying(a_claim())
        successor = self.begin()
        assert in_thread(lambda: withdrawn(dead)).result() is False
        assert successor.finish(CREATED)
        assert not withdrawn(dead)
        assert self.answer() == Replay(CREATED)

    @many_writers
    def test_nor_does_it_withdraw_the_record_of_a_later_request(self) -> None:
        dead = self.dying(a_claim())
        assert self.begin().withdraw(keeps_writes=True)
        later = self.begin()
        assert in_thread(lambda: withdrawn(dead)).result() is False
        assert later.finish(CREATED)

    # Takeovers and fencing

    def test_a_dead_attempt_is_taken_over(self) -> None:
        """I3, or I11 after a lease."""
        self.dying(a_claim())
        successor = self.begin()
        assert (successor.attempt, successor.recovered) == (2, True)
        assert successor.finish(CREATED)
        assert self.answer() == Replay(CREATED)

    @many_writers
    def test_one_of_two_takes_it_over(self) -> None:
        self.dying(a_claim())
        successor = self.begin()
        assert self.answer() == InFlight()
        assert successor.finish(CREATED)

    def test_each_attempt_has_a_number_of_its_own(self) -> None:
        numbers = [self.dying(a_claim()).attempt for _ in range(3)]
        assert numbers == [1, 2, 3]

    @many_writers
    def test_a_stalled_attempt_cannot_store_before_its_successor_does(self) -> None:
        """I12: a stalled attempt does not overwrite its successor."""
        stalled = self.dying(a_claim())
        successor = self.begin()
        assert in_thread(lambda: stores(stalled, OTHER)).result() is False
        assert self.answer() == InFlight()
        assert successor.finish(CREATED)
        assert self.answer() == Replay(CREATED)

    def test_a_stalled_attempt_cannot_store_after_its_successor_did(self) -> None:
        """I12."""
        stalled = self.dying(a_claim())
        self.complete()
        assert stores(stalled, OTHER) is False
        assert self.answer() == Replay(CREATED)

    @many_writers
    def test_a_stalled_attempt_cannot_release_its_successor(self) -> None:
        """I12."""
        stalled = self.dying(a_claim())
        successor = self.begin()
        in_thread(lambda: stalled.fail(ValueError())).result()
        in_thread(lambda: stalled.finish(None, nothing_done=True)).result()
        assert self.answer() == InFlight()
        assert successor.finish(CREATED)

    def test_a_stalled_attempt_cannot_store_into_a_new_record(self) -> None:
        """I12: its number is the same as the new one's."""
        stalled = self.dying(a_claim())
        self.expire(a_claim())
        self.complete()
        assert stores(stalled, OTHER) is False
        assert self.answer() == Replay(CREATED)

    @many_writers
    def test_nor_into_a_new_record_in_flight(self) -> None:
        stalled = self.dying(a_claim())
        self.expire(a_claim())
        operation = self.begin()
        assert in_thread(lambda: stores(stalled, OTHER)).result() is False
        assert operation.finish(CREATED)
        assert self.answer() == Replay(CREATED)

    def test_what_is_not_stored_runs_again(self) -> None:
        """I2."""
        for _ in range(2):
            assert self.begin().finish(None, nothing_done=True) is False
        self.complete()

    def test_what_failed_runs_again(self) -> None:
        operation = self.begin()
        operation.fail(ValueError())
        assert operation.finish(None, nothing_done=True) is False
        self.complete()

    def test_what_failed_may_still_be_answered(self) -> None:
        """A 4xx that was raised."""
        operation = self.begin()
        operation.fail(ValueError())
        assert operation.finish(OTHER) is True
        assert self.answer() == Replay(OTHER)

    # Expiry

    def test_expired_is_as_good_as_absent(self) -> None:
        """I14; I7: expiry comes before the fingerprint."""
        self.complete(lasts=AT_ONCE)
        operation = self.begin(fingerprint="1:b")
        assert (operation.attempt, operation.recovered) == (1, False)
        assert operation.finish(OTHER)
        assert self.answer(fingerprint="1:b") == Replay(OTHER)

    @many_writers
    def test_one_of_two_takes_an_expired_record_over(self) -> None:
        """I14."""
        self.complete(lasts=AT_ONCE)
        operation = self.begin()
        assert self.answer() == InFlight()
        assert operation.finish(CREATED)

    def test_a_retention_counts_from_completion(self) -> None:
        """What is in flight does not expire."""
        operation = self.begin()
        self.expire(a_claim())
        if not self.one_writer:
            assert self.answer() == InFlight()
        assert operation.finish(CREATED)
        assert self.answer() == Replay(CREATED)

    def test_a_tombstone_is_told_apart(self) -> None:
        kept = {"tombstone": timedelta(hours=1)}
        self.complete(lasts=AT_ONCE, **kept)
        assert self.answer(**kept) == Tombstone()
        assert self.answer(**kept, fingerprint="1:b") == Tombstone()

    def test_a_purge_leaves_what_lives(self) -> None:
        """I14."""
        self.complete()
        self.dying(a_claim(key="interrupted"))
        self.complete(key="old", lasts=AT_ONCE)
        self.purged()
        assert self.purged() == 0
        assert self.answer() == Replay(CREATED)
        assert self.begin(key="interrupted").finish(CREATED)
        assert self.begin(key="old").finish(CREATED)


def stores(operation: Operation, response: StoredResponse) -> bool:
    """Let an attempt finish; return whether its response is remembered."""
    try:
        return operation.finish(response)
    except LostRecord:
        return False


def withdrawn(operation: Operation) -> bool:
    """Let an attempt withdraw its record; return whether that is gone by it."""
    try:
        return operation.withdraw(keeps_writes=True)
    except LostRecord:
        return False


def closing(function: Any) -> Any:
    """Let a thread of a pool close its connections, as a request does."""

    def run(argument: Any) -> Any:
        try:
            return function(argument)
        finally:
            connections.close_all()

    return run
