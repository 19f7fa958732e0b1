"""Holding a record by a lease: step by step, on a real Redis."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django_redis import get_redis_connection

from django_idempotency.operations import lease
from django_idempotency.operations import lease as renewing
from django_idempotency.operations.base import InFlight, OutcomeUnknown, Started, Wait
from django_idempotency.operations.errors import LostRecord, StepError
from django_idempotency.operations.lease import Lease, renewer
from django_idempotency.operations.non_atomic import (
    NonAtomicOperation,
    Resolved,
    run_again,
    still_unknown,
)
from django_idempotency.protocol.keys import name_in_logs
from django_idempotency.protocol.record import Omitted, Replay, StoredResponse
from django_idempotency.protocol.status import ResolverAnswer
from django_idempotency.stores import breaker
from django_idempotency.stores.base import Outage, Unusable
from django_idempotency.stores.breaker import breaker_of
from django_idempotency.stores.cache.store import CacheStore
from tests.conftest import in_thread
from tests.stores.contract import AT_ONCE, CREATED, a_claim
from tests.support.counting import trips
from tests.support.leases import LEASE, SECRET, leased
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.once


def operation(resolve: Any = run_again, length: timedelta = LEASE, **claim: Any) -> Any:
    store = CacheStore("redis", SECRET, length)
    return NonAtomicOperation(store, a_claim(**claim), Lease(store), resolve)


def interrupted(**claim: Any) -> None:
    doomed, hold = leased("redis", a_claim(**claim), AT_ONCE)
    assert doomed.begin() == Started()
    renewer.drop(hold)


def stored() -> dict[bytes, bytes]:
    raw = get_redis_connection("redis")
    (name,) = raw.keys("*")
    return dict(raw.hgetall(name))


@pytest.mark.usefixtures("redis")
class TestCosts:
    """Each verb is one round trip."""

    def test_a_first_request_claims_and_completes(self) -> None:
        operation(key="warm-up").begin()
        first = operation()
        with trips() as claimed:
            assert first.begin() == Started()
        with trips() as completed:
            assert first.finish(CREATED)
        assert (len(claimed), len(completed)) == (1, 1)

    def test_a_replay_and_a_conflict_ask_once(self) -> None:
        first = operation()
        first.begin()
        with trips() as conflict:
            assert operation().begin() == InFlight()
        first.finish(CREATED)
        with trips() as replay:
            assert operation().begin() == Replay(CREATED)
        assert (len(conflict), len(replay)) == (1, 1)

    def test_a_takeover_asks_three_times(self) -> None:
        """Claim, take, start: whether the attempt may start is decided in between."""
        interrupted()
        with trips() as sent:
            assert operation().begin() == Started()
        assert len(sent) == 3

    def test_a_release_asks_once(self) -> None:
        first = operation()
        first.begin()
        with trips() as sent:
            first.finish(None, nothing_done=True)
        assert len(sent) == 1

    def test_a_renewal_asks_once(self) -> None:
        first, hold = leased("redis", a_claim())
        first.begin()
        with trips() as sent:
            assert hold.renew() is not None
        assert len(sent) == 1


@pytest.mark.usefixtures("redis")
class TestLeases:
    def test_it_is_renewed_in_the_background(self) -> None:
        """It outlives its length, while its attempt runs."""
        first = operation(length=timedelta(milliseconds=150))
        first.begin()
        until = [int(stored()[b"lease"])]
        for _ in range(600):
            if len(until) == 3:
                break
            threading.Event().wait(0.05)
            now = int(stored()[b"lease"])
            until += [now] if now > until[-1] else []
        assert len(until) == 3
        assert in_thread(lambda: operation().begin()).result() == InFlight()
        assert first.finish(CREATED)

    def test_it_ends_with_its_attempt(self) -> None:
        first, hold = leased("redis", a_claim())
        first.begin()
        assert hold.is_held()
        first.finish(CREATED)
        assert not hold.is_held()
        assert hold.renew() is None

    def test_who_was_taken_over_has_lost_it(self) -> None:
        """I12."""
        stalled, hold = leased("redis", a_claim(), AT_ONCE)
        stalled.begin()
        renewer.drop(hold)
        assert operation().begin() == Started()
        assert hold.renew() is None
        assert not hold.is_held()
        with pytest.raises(LostRecord):
            stalled.finish(CREATED)

    def test_a_lapsed_lease_that_nobody_took_may_still_store(self) -> None:
        stalled, hold = leased("redis", a_claim(), AT_ONCE)
        stalled.begin()
        renewer.drop(hold)
        assert not hold.is_held()
        assert stalled.finish(CREATED)
        assert operation().begin() == Replay(CREATED)

    def test_a_slow_resolver_may_lose_the_lease(self) -> None:
        """Nobody runs who was taken over while it asked what had become of its predecessor."""
        interrupted()

        def slow(asking: Any) -> ResolverAnswer:
            renewer.drop(asking._record_lock)
            get_redis_connection("redis").hset(name(), "lease", "0")
            asking._record_lock._until = 0.0
            assert in_thread(lambda: operation().begin()).result() == Started()
            return ResolverAnswer.RUN_AGAIN

        assert operation(slow).begin() == InFlight()

    def test_a_duplicate_may_wait(self) -> None:
        """I4."""
        first = operation()
        first.begin()
        store = CacheStore("redis", SECRET, LEASE)
        wait = Wait(timedelta(seconds=30), 1)
        waiting = NonAtomicOperation(store, a_claim(), Lease(store), run_again, wait)
        rival = in_thread(waiting.begin)
        assert first.finish(CREATED)
        assert rival.result() == Replay(CREATED)

    def test_a_duplicate_does_not_wait_for_ever(self) -> None:
        first = operation()
        first.begin()
        store = CacheStore("redis", SECRET, LEASE)
        wait = Wait(timedelta(milliseconds=150), 1)
        waiting = NonAtomicOperation(store, a_claim(), Lease(store), run_again, wait)
        assert waiting.begin() == InFlight()

    def test_there_are_no_steps(self) -> None:
        first = operation()
        first.begin()
        with pytest.raises(StepError, match="records in a database"):
            first.step("charge", lambda: None)


def name() -> str:
    (found,) = get_redis_connection("redis").keys("*")
    return str(found.decode())


@pytest.mark.usefixtures("redis")
class TestInterruptions:
    """I11: a known unknown."""

    def test_it_is_refused_until_somebody_knows(self) -> None:
        interrupted()
        for _ in range(2):
            assert operation(still_unknown).begin() == OutcomeUnknown()
        found = Resolved(CREATED, timedelta(hours=1))
        assert operation(lambda _: found).begin() == Replay(CREATED)
        assert operation(still_unknown).begin() == Replay(CREATED)

    def test_an_exception_leaves_it_unknown(self) -> None:
        first = operation()
        first.begin()
        first.fail(ValueError())
        first.finish(None)
        assert operation(still_unknown).begin() == OutcomeUnknown()

    def test_not_now_does_not(self) -> None:
        first = operation()
        first.begin()
        first.finish(None, nothing_done=True)
        assert operation(still_unknown).begin() == Started()

    def test_who_only_looked_changes_nothing(self) -> None:
        """A takeover that was refused leaves the record as it found it."""
        first = operation()
        first.begin()
        first.finish(None, nothing_done=True)
        late = operation(still_unknown)
        late._record_lock.take(late._store.claim(a_claim()), timedelta(0))
        late._record_lock.release()
        assert operation(still_unknown).begin() == Started()


@pytest.mark.usefixtures("redis")
class TestContent:
    def test_no_key_is_in_clear(self) -> None:
        operation(key="secret-key").begin()
        assert "secret-key" not in name()
        assert not any(b"secret-key" in value for value in stored().values())

    def test_it_expires_by_itself(self) -> None:
        first = operation(retention=timedelta(hours=1), tombstone=timedelta(hours=2))
        first.begin()
        first.finish(CREATED)
        left = get_redis_connection("redis").ttl(name())
        assert 2 * 3600 < left <= 3 * 3600

    @pytest.mark.parametrize("value", [b"", b"cposix\nsystem\n(S'false'\ntR.", b"\0" * 100])
    def test_a_response_that_we_did_not_seal_is_not_replayed(self, value: bytes) -> None:
        """It is not unpickled, and its operation is not executed again."""
        first = operation()
        first.begin()
        first.finish(CREATED)
        get_redis_connection("redis").hset(name(), "response", value)
        assert operation().begin() == Replay(StoredResponse(0, omitted=Omitted.UNREADABLE))

    def test_a_response_of_another_request_is_not_replayed(self) -> None:
        for key in ("k", "other"):
            first = operation(key=key)
            first.begin()
            first.finish(CREATED)
        raw = get_redis_connection("redis")
        one, two = raw.keys("*")
        raw.hset(one, "response", raw.hget(two, "response"))
        raw.hset(two, "response", raw.hget(one, "response"))
        answers = {operation(key=key).begin().response.omitted for key in ("k", "other")}
        assert Omitted.UNREADABLE in answers

    def test_a_command_sent_twice_counts_once(self) -> None:
        """Clients may be configured to retry."""
        store = CacheStore("redis", SECRET, LEASE)
        record = store.claim(a_claim())
        assert record is not None
        assert store.complete(record, CREATED, timedelta(hours=1))
        assert store.complete(record, CREATED, timedelta(hours=1))
        assert not store.complete(record, StoredResponse(404), timedelta(hours=1))


class TestOutage:
    @pytest.mark.parametrize("fail", ["stop", "pause"])
    def test_a_claim_says_so(self, fragile_redis: RedisServer, fail: str) -> None:
        getattr(fragile_redis, fail)()
        with pytest.raises(Outage):
            operation().begin()

    def test_what_cannot_be_stored_is_lost(
        self, fragile_redis: RedisServer, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(lease, "PERSISTENCE", 0.3)
        first = operation()
        first.begin()
        fragile_redis.stop()
        with pytest.raises(LostRecord):
            first.finish(CREATED)
        first.fail(LostRecord())

    def test_after_a_hiccup_of_another_request_an_answer_is_stored_at_once(
        self, fragile_redis: RedisServer, monkeypatch: Any
    ) -> None:
        """Redis answers again, although this process would not ask it for an hour."""
        monkeypatch.setattr(breaker, "PAUSE", 3600)
        first, second = operation(), operation(key="k-2")
        first.begin()
        second.begin()
        self.hiccup(fragile_redis)
        assert first.finish(CREATED)
        assert operation().begin() == Replay(CREATED)
        self.hiccup(fragile_redis)
        second.finish(None, nothing_done=True)
        assert operation(still_unknown, key="k-2").begin() == Started()

    def test_an_answer_that_does_not_get_through_is_stored_later(
        self, fragile_redis: RedisServer, monkeypatch: Any
    ) -> None:
        first = operation()
        first.begin()
        fragile_redis.pause()
        failed = threading.Event()
        known = breaker_of('Redis (cache "redis")')

        def fail(cause: str) -> Outage:
            failed.set()
            return Outage(cause)

        monkeypatch.setattr(known, "failed", fail)
        finishing = in_thread(lambda: first.finish(CREATED))
        assert failed.wait(30)
        fragile_redis.resume()
        assert finishing.result()
        assert operation().begin() == Replay(CREATED)

    def test_a_release_that_does_not_get_through_is_said_later(
        self, fragile_redis: RedisServer, monkeypatch: Any
    ) -> None:
        """Nobody waits for it; and a retry need not wait for the lease."""
        monkeypatch.setattr(breaker, "PAUSE", 0)
        first = operation()
        first.begin()
        fragile_redis.pause()
        first.finish(None, nothing_done=True)
        fragile_redis.resume()
        with renewer._changed:
            assert renewer._changed.wait_for(lambda: not renewer._is_running, 30)
        assert operation(still_unknown).begin() == Started()

    @staticmethod
    def hiccup(server: RedisServer) -> None:
        server.pause()
        with pytest.raises(Outage):
            operation(key="another").begin()
        server.resume()

    def test_renewals_go_on_when_it_is_back(
        self, fragile_redis: RedisServer, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(breaker, "PAUSE", 0)
        first, hold = leased("redis", a_claim())
        first.begin()
        fragile_redis.pause()
        assert hold.renew() == 1.0
        fragile_redis.resume()
        assert hold.renew() == pytest.approx(LEASE.total_seconds() / 3)
        assert first.finish(CREATED)


@pytest.mark.usefixtures("redis")
class TestOneKeyThatIsNotOurs:
    """Something else writes where a record would be: that is no outage for the others."""

    @pytest.fixture(autouse=True)
    def _new_breakers(self) -> Iterator[None]:
        breaker_of.cache_clear()
        yield
        breaker_of.cache_clear()

    @pytest.mark.parametrize("command", [("SET", "text"), ("HSET", "id", "1")])
    def test_is_an_error_for_its_own_requests(self, command: tuple[str, ...], caplog: Any) -> None:
        operation().begin()
        place, raw = name(), get_redis_connection("redis")
        raw.delete(place)
        raw.execute_command(command[0], place, *command[1:])
        for _ in range(2):
            with pytest.raises(Unusable):
                operation().begin()
            other = operation(key=f"k-{len(caplog.records)}")
            assert other.begin() == Started()
            assert other.finish(CREATED)
        assert "does not answer" not in caplog.text
        assert f"Another program has written {place}: delete it" in caplog.text

    def test_loses_an_answer_without_waiting(self) -> None:
        first = operation()
        first.begin()
        get_redis_connection("redis").set(name(), "text")
        with pytest.raises(LostRecord):
            first.finish(CREATED)

    def test_a_line_about_a_lease_leads_to_its_operation(self, caplog: Any) -> None:
        """I10: by digests, as every line about one operation."""
        caplog.set_level("INFO", "django_idempotency")
        failing = operation()
        failing.begin()
        get_redis_connection("redis").set(name(), "text")
        failing.finish(None, nothing_done=True)
        named = name_in_logs(a_claim().key, a_claim().scope)
        expected = f"{named}: it could not be released; its lease lapses by itself"
        assert expected in caplog.messages

    def test_a_full_memory_is_an_outage_for_what_is_new_only(self, caplog: Any) -> None:
        raw = get_redis_connection("redis")
        running, failing = operation(key="running"), operation(key="failing")
        running.begin()
        failing.begin()
        raw.config_set("maxmemory", 1)
        try:
            with pytest.raises(Outage) as raised:
                operation().begin()
            assert running._record_lock.renew() is not None
            assert running.finish(CREATED)
            failing.finish(None, nothing_done=True)
        finally:
            raw.config_set("maxmemory", 0)
        assert operation(still_unknown, key="failing").begin() == Started()
        assert not isinstance(raised.value, Unusable)
        assert "does not answer" in caplog.text


class TestRenewer:
    """One thread, for all leases of a process."""

    def test_a_lease_that_ends_meanwhile_is_not_renewed_again(self) -> None:
        lease = Scripted(lambda: renewer.drop(lease))
        self.renewed(lease, 1)

    def test_a_lost_lease_is_not_renewed_again(self) -> None:
        self.renewed(Scripted(), 1)

    def test_a_surprise_ends_no_lease(self, caplog: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(renewing, "AGAIN", 0.0)

        def surprise() -> None:
            if lease.calls == 1:
                raise RuntimeError("a surprise")

        lease = Scripted(surprise)
        self.renewed(lease, 2)
        assert f"{lease.named}: its lease could not be renewed" in caplog.text

    @staticmethod
    def renewed(lease: "Scripted", times: int) -> None:
        """Renew until the thread has nothing more to do."""
        renewer.keep(lease, 0)
        with renewer._changed:
            assert renewer._changed.wait_for(lambda: not renewer._is_running, 30)
        assert lease.calls == times


class Scripted:
    """A lease that is lost at last."""

    named = "Key 6f1ed002ab55, scope 0a1b9c3d4e5f"

    def __init__(self, action: Any = lambda: None) -> None:
        self._action = action
        self.calls = 0

    def renew(self) -> None:
        self.calls += 1
        self._action()
