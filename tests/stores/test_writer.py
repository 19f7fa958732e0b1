"""Copies are written in the background, many in one round trip."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches

from django_idempotency.stores.cache import replay_cache as writer
from django_idempotency.stores.cache.replay_cache import Writer, writer_of
from tests.conftest import Caller
from tests.support.counting import CountingConnection
from tests.support.redis_server import RedisServer

PATH = "/decorated-rest/"


@pytest.fixture(autouse=True)
def cached(settings: Any) -> Iterator[None]:
    settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
    yield
    writer_of("redis").flush()


class WatchedWriter(Writer):
    """Says when its thread has an entry and waits for more."""

    def __init__(self, alias: str) -> None:
        self.gathers = threading.Event()
        super().__init__(alias)

    def _is_urgent(self) -> bool:
        if threading.current_thread().name == "idempotency-writer":
            self.gathers.set()
        return super()._is_urgent()


class TestWriter:
    def test_what_does_not_fit_is_left_out(
        self, redis: RedisServer, caller: Caller, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(writer, "LIMIT", 10)
        first = caller.post(PATH)
        writer_of("redis").flush()
        assert str(redis.ask("KEYS", "*:response.*")).split() == []
        assert caller.post(PATH).content == first.content

    def test_a_surprise_ends_nothing_but_itself(self, redis: RedisServer, caplog: Any) -> None:
        for _ in range(2):
            writer_of("default").add(("name", b"value", 2**41))  # no cache for this
            writer_of("default").flush()
        assert caplog.text.count("Completed records could not be cached") == 2

    def test_things_wait_while_it_writes(self, redis: RedisServer) -> None:
        later = 2**41
        for number in range(20):
            writer_of("redis").add((f"name-{number}", b"value", later))
        writer_of("redis").flush()
        assert redis.ask("DBSIZE") == "20\n"

    def test_what_comes_within_a_moment_travels_together(
        self, redis: RedisServer, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(writer, "GATHER", 3600)
        own, sent = WatchedWriter("redis"), len(CountingConnection.sent)
        own.add(("first", b"value", 2**41))
        assert own.gathers.wait(30)
        for number in range(19):
            own.add((f"name-{number}", b"value", 2**41))
        own.flush()  # and whoever waits for it waits no hour
        assert redis.ask("DBSIZE") == "20\n"
        assert CountingConnection.sent[sent:].count("idempotency-writer") == 1

    def test_much_does_not_wait_until_there_is_no_room(
        self, redis: RedisServer, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(writer, "GATHER", 3600)
        monkeypatch.setattr(writer, "LIMIT", 20)
        own = Writer("redis")
        for name in ("one", "two", "three"):
            own.add((name, b"eleven byte", 2**41))
            with own._changed:
                assert own._changed.wait_for(lambda: not (own._waiting or own._is_busy), 30)
        assert redis.ask("DBSIZE") == "3\n"

    def test_one_thread_serves_many_requests(self, redis: RedisServer, monkeypatch: Any) -> None:
        monkeypatch.setattr(writer, "LINGER", 60)
        others, own, found = self.threads(), Writer("redis"), []
        for number in range(3):
            own.add((f"name-{number}", b"value", 2**41))
            own.flush()
            found.append(self.threads() - others)
        assert redis.ask("DBSIZE") == "3\n"
        assert found == [found[0]] * 3
        [thread] = found[0]
        monkeypatch.setattr(writer, "LINGER", 0)
        own.add(("last", b"value", 2**41))
        thread.join(60)
        assert not thread.is_alive()

    def test_each_batch_goes_where_the_settings_say_then(
        self, redis: RedisServer, settings: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(writer, "LINGER", 60)
        own = Writer("redis")
        own.add(("name", b"value", 2**41))
        own.flush()
        settings.CACHES = {**settings.CACHES, "redis": settings.CACHES["local"]}
        own.add(("another", b"value", 2**41))
        own.flush()
        assert caches["redis"].get("another") == b"value"
        monkeypatch.setattr(writer, "LINGER", 0)
        own.add(("last", b"value", 2**41))
        own.flush()

    def threads(self) -> set[threading.Thread]:
        """The writers' own."""
        return {each for each in threading.enumerate() if each.name == "idempotency-writer"}
