"""Replays from the cache: without SQL, and never instead of what the database would say."""

import logging
import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django_redis import get_redis_connection

from django_idempotency.conf.settings import configuration
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.envelope import record_name
from django_idempotency.protocol.record import StoredResponse
from django_idempotency.stores import breaker
from django_idempotency.stores.base import Outage
from django_idempotency.stores.cache import redis as redis_module
from django_idempotency.stores.cache.cached_database import CachedDatabaseStore
from django_idempotency.stores.cache.redis import RedisReplayCache
from django_idempotency.stores.cache.replay_cache import writer_of
from django_idempotency.stores.database.location import location_of_records
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller
from tests.shop.models import Order
from tests.stores.contract import CREATED, a_claim
from tests.support.adapters import few_adapters
from tests.support.counting import (
    COUNTING,
    Count,
    CountingConnection,
    claim_lock_and_store,
    counted,
    trips,
)
from tests.support.redis_server import RedisServer
from tests.support.redis_server import caches as caches_of

PATH = "/decorated-rest/"
CACHED = {"STORE": "cached_db", "CACHE": "redis"}


@pytest.fixture(autouse=True)
def cached(settings: Any) -> Iterator[None]:
    settings.IDEMPOTENCY = CACHED
    yield
    writer_of("redis").flush()


def flush() -> None:
    """Wait until everything that is on its way to the cache is there."""
    writer_of("redis").flush()


def name_of(record: IdempotencyRecord) -> str:
    place = location_of_records("default").parts
    return record_name(configuration().secret, place, record.scope, record.key)


def copies(redis: RedisServer) -> int:
    return len(str(redis.ask("KEYS", "*:response.*")).split())


def cost(caller: Caller, path: str, **arguments: Any) -> tuple[Count, int]:
    with counted() as count, trips() as sent:
        assert caller.post(path, {"item": "vm"}, **arguments).status_code in {201, 422}
    return count, len(sent)


@few_adapters
def test_a_replay_costs_no_sql_and_one_round_trip(
    adapter: str, redis: RedisServer, caller: Caller
) -> None:
    """Neither a transaction of ours."""
    caller.post(adapter, {"item": "vm"}, key="warm-up")
    bare, _ = cost(caller, adapter, key=None)
    first = caller.post(adapter, {"item": "vm"})
    flush()
    replay, sent = cost(caller, adapter)
    insert = 1
    assert (replay.statements, sent) == (bare.statements - insert, 1)
    assert replay.control <= bare.control
    assert caller.post(adapter, {"item": "vm"}).content == first.content
    assert Order.objects.count() == 3


@few_adapters
@pytest.mark.usefixtures("kept_claim_connections")
def test_a_first_request_costs_one_round_trip_more(
    adapter: str, redis: RedisServer, caller: Caller
) -> None:
    """It looks, and finds nothing. What it puts there for others, it does not wait for."""
    caller.post(adapter, {"item": "vm"}, key="warm-up")
    bare, _ = cost(caller, adapter, key=None)
    first, sent = cost(caller, adapter, key="k")
    assert (first.statements - bare.statements, sent) == (claim_lock_and_store(), 1)


def test_a_mismatch_is_known_to_the_cache(redis: RedisServer, caller: Caller) -> None:
    """I8: and the original still replays."""
    first = caller.post(PATH)
    flush()
    with counted() as count:
        assert caller.post(PATH, {"item": "other"}).status_code == 422
    assert count.statements == 1  # the caller's token
    assert caller.post(PATH).content == first.content


def test_another_caller_finds_nothing(redis: RedisServer, caller: Caller, stranger: Caller) -> None:
    assert caller.post(PATH).content != stranger.post(PATH).content
    flush()
    assert caller.post(PATH).content != stranger.post(PATH).content


def test_what_is_in_flight_is_not_in_the_cache(
    redis: RedisServer, caller: Caller, after_write: Any
) -> None:
    after_write(lambda: seen.append(copies(redis)))
    seen: list[int] = []
    caller.post(PATH)
    assert seen == [0]


@pytest.mark.parametrize("outcome", ["503", "raise 500"])
def test_what_is_rolled_back_is_not_in_the_cache(
    redis: RedisServer, caller: Caller, outcome: str
) -> None:
    """I2."""
    caller.post(PATH, {"outcome": outcome})
    flush()
    assert copies(redis) == 0


@pytest.mark.django_db
def test_what_a_test_case_will_roll_back_is_not_in_the_cache(redis: RedisServer) -> None:
    caller = Caller("in a transaction")
    assert caller.post(PATH).content == caller.post(PATH).content
    flush()
    assert copies(redis) == 0


def test_an_entry_ends_before_its_record(redis: RedisServer, caller: Caller) -> None:
    """I14: by Redis's clock, from the time before the view ran."""
    caller.post(PATH)
    flush()
    record = IdempotencyRecord.objects.get()
    left = caches["redis"].pttl(name_of(record)) / 1000
    retention = (record.expires_at - record.completed_at).total_seconds()
    assert 0.99 * retention < left <= 0.999 * retention


def test_a_lookup_seldom_asks_for_the_time(
    redis: RedisServer, caller: Caller, monkeypatch: Any
) -> None:
    """It is an earlier one then: entries end earlier, too."""
    monkeypatch.setattr(redis_module, "TIME_KEPT", 0)
    caller.post(PATH, key="k-1")
    monkeypatch.setattr(redis_module, "TIME_KEPT", 3600)
    now, asked = redis_module._times["redis"]
    monkeypatch.setitem(redis_module._times, "redis", (now - 600_000, asked))
    redis.ask("CONFIG", "RESETSTAT")
    caller.post(PATH, key="k-2")
    flush()
    assert "cmdstat_eval:" not in redis.ask("INFO", "commandstats")
    one, two = IdempotencyRecord.objects.order_by("id")
    earlier = caches["redis"].pttl(name_of(one)) - caches["redis"].pttl(name_of(two))
    assert 590_000 < earlier < 660_000  # both were made within a minute
    monkeypatch.setattr(redis_module, "TIME_KEPT", 0)
    caller.post(PATH, key="k-3")
    assert "cmdstat_eval:calls=1" in redis.ask("INFO", "commandstats")


def test_an_evicted_entry_comes_back_with_the_next_replay(
    redis: RedisServer, caller: Caller
) -> None:
    first = caller.post(PATH)
    flush()
    redis.ask("FLUSHALL")
    shorter = IdempotencyRecord.objects.get()
    IdempotencyRecord.objects.update(expires_at=shorter.expires_at - timedelta(hours=12))
    assert caller.post(PATH).content == first.content
    flush()
    assert 11 * 3600 < caches["redis"].pttl(name_of(shorter)) / 1000 < 12 * 3600
    with counted() as count:
        assert caller.post(PATH).content == first.content
    assert count.statements == 1  # the caller's token


def test_what_was_not_stored_is_not_copied(redis: RedisServer, transactional_db: None) -> None:
    """I12: by an attempt that comes second."""
    store = CachedDatabaseStore("default", cache="redis", secret=b"secret")
    assert store.cached(a_claim()) is None
    record = store.claim(a_claim())
    assert record is not None
    assert store.complete(record, CREATED, timedelta(hours=1))
    assert not store.complete(record, StoredResponse(404), timedelta(hours=1))
    flush()
    found = store.cached(a_claim())
    assert found is not None
    assert found.response == CREATED


class TestDeletion:
    def test_a_deleted_record_is_forgotten(self, redis: RedisServer, caller: Caller) -> None:
        first = caller.post(PATH)
        flush()
        IdempotencyRecord.objects.get().delete()
        second = caller.post(PATH)
        assert second.content != first.content
        assert caller.post(PATH).content == second.content

    def test_in_bulk(self, redis: RedisServer, caller: Caller) -> None:
        first = caller.post(PATH)
        flush()
        IdempotencyRecord.objects.all().delete()
        assert caller.post(PATH).content != first.content

    def test_what_is_still_on_its_way_does_not_come_back(
        self, redis: RedisServer, caller: Caller, monkeypatch: Any
    ) -> None:
        late: list[Any] = []
        monkeypatch.setattr(writer_of("redis"), "add", late.append)
        first = caller.post(PATH)
        monkeypatch.undo()
        IdempotencyRecord.objects.get().delete()
        for entry in late:
            writer_of("redis").add(entry)
        flush()
        assert late
        assert caller.post(PATH).content != first.content

    def test_it_fails_while_the_cache_cannot_forget(
        self, fragile_redis: RedisServer, caller: Caller
    ) -> None:
        """Or the cache would go on replaying it when it is back."""
        caller.post(PATH)
        flush()
        fragile_redis.stop()
        with pytest.raises(Outage):
            IdempotencyRecord.objects.get().delete()
        assert IdempotencyRecord.objects.exists()

    def test_a_purge_needs_no_cache(self, fragile_redis: RedisServer, caller: Caller) -> None:
        """What has expired is not there any more."""
        caller.post(PATH)
        past = "2020-01-01T00:00Z"
        IdempotencyRecord.objects.update(expires_at=past, purge_at=past)
        fragile_redis.stop()
        assert sum(DatabaseStore("default").purge(10)) == 1

    def test_without_a_cache_there_is_nothing_to_forget(
        self, caller: Caller, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {}
        caller.post(PATH)
        IdempotencyRecord.objects.get().delete()
        assert not IdempotencyRecord.objects.exists()

    def test_for_a_while_nothing_is_copied_there(self, redis: RedisServer, caller: Caller) -> None:
        caller.post(PATH)
        IdempotencyRecord.objects.get().delete()
        second = caller.post(PATH)
        flush()
        with counted() as count:
            assert caller.post(PATH).content == second.content
        assert count.statements == 2  # the caller's token, and the record


class TestLocalMemory:
    """For development: the same, within one process."""

    @pytest.fixture(autouse=True)
    def _local(self, settings: Any) -> Iterator[None]:
        settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "local"}
        settings.CACHES = caches_of("redis://127.0.0.1:1/0")
        caches["local"].clear()
        yield
        writer_of("local").flush()

    def test_a_replay_costs_no_sql(self, caller: Caller) -> None:
        first = caller.post(PATH)
        writer_of("local").flush()
        with counted() as count:
            assert caller.post(PATH).content == first.content
        assert count.statements == 1  # the caller's token

    def test_a_deleted_record_is_forgotten(self, caller: Caller) -> None:
        first = caller.post(PATH)
        writer_of("local").flush()
        IdempotencyRecord.objects.get().delete()
        assert caller.post(PATH).content != first.content

    def test_other_caches_are_refused(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "default"}
        with pytest.raises(ImproperlyConfigured, match="not made by django-redis"):
            RedisReplayCache("default").get("name")
        assert caller.post(PATH).status_code == 500


class Bomb:
    """Says so when somebody unpickles it."""

    exploded: list[str] = []

    def __reduce__(self) -> Any:
        return Bomb.exploded.append, ("boom",)


class TestHostileContent:
    """Whoever can write to Redis can make it forget, and nothing else."""

    def entry(self, caller: Caller, key: str = "k-1") -> str:
        caller.post(PATH, key=key)
        flush()
        return str(caches["redis"].make_key(name_of(IdempotencyRecord.objects.get(key=key))))

    @pytest.mark.parametrize(
        "change",
        [
            lambda value: pickle.dumps(Bomb()),
            lambda value: value[:-1] + b"!",
            lambda value: value[:20],
            lambda value: b"",
            lambda value: b"{}",
            lambda value: value[:32] + b"\xff" + value[33:],
        ],
    )
    def test_it_is_not_believed(self, redis: RedisServer, caller: Caller, change: Any) -> None:
        """Unpickling would run what was stored."""
        raw, name = get_redis_connection("redis"), self.entry(caller)
        first = raw.get(name)
        raw.set(name, change(first))
        replay = caller.post(PATH)
        assert replay["Idempotency-Replayed"] == "true"
        assert Order.objects.count() == 1
        assert Bomb.exploded == []

    def test_entries_cannot_change_places(self, redis: RedisServer, caller: Caller) -> None:
        raw = get_redis_connection("redis")
        one, two = self.entry(caller), self.entry(caller, "k-2")
        raw.set(two, raw.get(one))
        second = caller.post(PATH, key="k-2")
        assert second.content != caller.post(PATH).content

    def test_names_hold_no_key(self, redis: RedisServer, caller: Caller) -> None:
        assert "k-1" not in self.entry(caller)


def lines(caplog: Any) -> list[str]:
    return [record.message for record in caplog.records if record.name == "django_idempotency"]


class TestOutage:
    """A Redis that fails costs speed, and nothing else."""

    @pytest.mark.parametrize("fail", ["stop", "pause"])
    def test_replays_come_from_the_database(
        self, fragile_redis: RedisServer, caller: Caller, caplog: Any, fail: str
    ) -> None:
        first = caller.post(PATH)
        flush()
        getattr(fragile_redis, fail)()
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                assert caller.post(PATH).content == first.content
                assert caller.post(PATH, key="other").status_code == 201
        flush()
        assert Order.objects.count() == 2
        assert len(lines(caplog)) == 1
        assert lines(caplog)[0].startswith('Redis (cache "redis") does not answer (')

    def test_a_hanging_redis_is_asked_once(
        self, fragile_redis: RedisServer, caller: Caller, settings: Any, monkeypatch: Any
    ) -> None:
        """Not by each request: the others do not wait for it at all."""
        monkeypatch.setattr(breaker, "PAUSE", 3600)
        settings.CACHES = caches_of(fragile_redis.url, **COUNTING)
        caller.post(PATH)
        flush()
        fragile_redis.pause()
        opened = CountingConnection.opened
        with trips() as sent:
            for _ in range(5):
                assert caller.post(PATH).status_code == 201
        assert (len(sent), CountingConnection.opened - opened) == (1, 0)

    def test_it_is_asked_again_when_it_is_back(
        self, fragile_redis: RedisServer, caller: Caller, caplog: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(breaker, "PAUSE", 0)
        first = caller.post(PATH)
        flush()
        fragile_redis.stop()
        assert caller.post(PATH).content == first.content
        fragile_redis.start()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert caller.post(PATH).content == first.content
        flush()
        assert lines(caplog) == ['Redis (cache "redis") answers again']
        with counted() as count:
            assert caller.post(PATH).content == first.content
        assert count.statements == 1  # the caller's token
