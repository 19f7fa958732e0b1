from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django_redis import get_redis_connection

from django_idempotency.operations.base import InFlight, Operation, OutcomeUnknown, Started
from django_idempotency.operations.lease import Lease, renewer
from django_idempotency.operations.non_atomic import still_unknown
from django_idempotency.protocol.envelope import record_name
from django_idempotency.protocol.record import Claim, Replay
from django_idempotency.protocol.status import ResolverAnswer
from django_idempotency.stores.cache.store import CacheStore
from tests.conftest import let_go
from tests.stores.contract import AT_ONCE, CREATED, StoreContract, a_claim
from tests.support.leases import LEASE, SECRET, leased
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.once


class LeaseContract(StoreContract):
    cache: str

    @pytest.fixture(autouse=True)
    def _dead(self, monkeypatch: Any) -> None:
        """Nobody renews a lease without length. It is free at once, so a renewal that is on its way
        when the lease is dropped would take the record from the next holder."""
        keep = renewer.keep

        def keep_living(lease: Lease, seconds: float) -> None:
            if seconds > AT_ONCE.total_seconds():
                keep(lease, seconds)

        monkeypatch.setattr(renewer, "keep", keep_living)

    def operation(self, claim: Claim) -> Operation:
        return leased(self.cache, claim)[0]

    def dying(self, claim: Claim) -> Operation:
        """Nobody renews its lease, which has lapsed."""
        operation, hold = leased(self.cache, claim, AT_ONCE)
        assert operation.begin() == Started()
        renewer.drop(hold)
        return operation

    def name(self, claim: Claim) -> str:
        return record_name(SECRET, (), claim.scope, claim.key, "record")

    def test_completed_work_is_not_taken_over(self) -> None:
        """A predecessor was stalled, not dead, and finished between claim and takeover."""
        stalled = self.dying(a_claim())
        late, hold = leased(self.cache, a_claim())
        record = late._store.claim(a_claim())
        assert record is not None
        assert stalled.finish(CREATED)
        taken = hold.take(record, timedelta(0))
        assert taken is not None
        assert taken.response == CREATED

    def test_a_retry_that_may_not_run_takes_nothing_from_a_slow_attempt(self) -> None:
        """I11, I12: the retry is refused, so what the first has done is all that was done."""
        stalled, hold = leased(self.cache, a_claim(), AT_ONCE)
        stalled.begin()
        renewer.drop(hold)
        retry, _ = leased(self.cache, a_claim(), resolve=still_unknown)
        assert retry.begin() == OutcomeUnknown()
        assert hold.renew() is not None
        assert stalled.finish(CREATED)
        assert leased(self.cache, a_claim())[0].begin() == Replay(CREATED)

    def test_a_slow_attempt_may_store_while_a_retry_asks_about_it(self) -> None:
        stalled, hold = leased(self.cache, a_claim(), AT_ONCE)
        stalled.begin()
        renewer.drop(hold)

        def meanwhile(asking: Any) -> ResolverAnswer:
            assert hold.renew() is None
            assert stalled.finish(CREATED)
            return ResolverAnswer.RUN_AGAIN

        retry, _ = leased(self.cache, a_claim(), resolve=meanwhile)
        assert retry.begin() == InFlight()
        assert leased(self.cache, a_claim())[0].begin() == Replay(CREATED)

    def test_the_number_of_an_earlier_holder_is_nobody_elses(self) -> None:
        stalled, hold = leased(self.cache, a_claim(), AT_ONCE)
        stalled.begin()
        record = hold._record._replace(fresh=False, held=False)
        early, late = (Lease(CacheStore(self.cache, SECRET, AT_ONCE)) for _ in "12")
        for each in (early, late):
            each._store._name = hold._store._name
        assert early.take(record, timedelta(0)) is not None
        assert hold.renew() is not None
        assert early.start() is None
        assert late.take(record, timedelta(0)) is not None
        assert early.start() is None
        assert late.start() is not None

    def test_who_comes_second_takes_nothing(self) -> None:
        """Both saw that the lease had lapsed."""
        self.dying(a_claim())
        late, hold = leased(self.cache, a_claim())
        record = late._store.claim(a_claim())
        assert record is not None
        assert self.begin().attempt == 2
        assert hold.take(record, timedelta(0)) is None

    def test_an_expired_record_need_not_be_evicted(self) -> None:
        """The claim that finds it takes its place."""
        assert CacheStore(self.cache, SECRET, LEASE).evict(1)

    def purged(self) -> int:
        return sum(CacheStore(self.cache, SECRET, LEASE).purge(10))


class TestCacheStoreInRedis(LeaseContract):
    cache = "redis"

    @pytest.fixture(autouse=True)
    def _redis(self, redis: RedisServer) -> None:
        """Behind the alias that the store names."""

    def expire(self, claim: Claim) -> None:
        name = caches["redis"].make_key(self.name(claim))
        get_redis_connection("redis").hset(name, "expires", "0")


class TestCacheStoreInMemory(LeaseContract):
    cache = "local"

    @pytest.fixture(autouse=True)
    def _empty(self, settings: Any) -> Iterator[None]:
        settings.CACHES = {
            "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        }
        caches["local"].clear()
        yield
        let_go()

    def expire(self, claim: Claim) -> None:
        name = self.name(claim)
        caches["local"].set(name, caches["local"].get(name) | {"expires": 0.0})
