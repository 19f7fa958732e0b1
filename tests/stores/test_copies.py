"""A copy of a record is as wide as its place, and is forgotten when the database has forgotten."""

import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.db import connections

from django_idempotency.invalidation import forget_copies
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.envelope import record_name
from django_idempotency.stores.cache.backends import EPOCH
from django_idempotency.stores.cache.cached_database import forget_all
from django_idempotency.stores.cache.replay_cache import writer_of
from django_idempotency.stores.cache.store import CacheStore
from django_idempotency.stores.database.location import is_shared, location_of, location_of_records
from tests.conftest import Caller, in_thread
from tests.shop.models import Order
from tests.stores.contract import CREATED, a_claim
from tests.support.counting import counted
from tests.support.leases import LEASE, SECRET
from tests.support.redis_server import RedisServer, free_port
from tests.support.redis_server import caches as caches_of

PATH = "/decorated-rest/"
COMMAND = "forget_idempotency_copies"


@pytest.fixture(autouse=True)
def cached(settings: Any) -> Iterator[None]:
    settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
    yield
    writer_of("redis").flush()


def buy(caller: Caller, key: str = "k-1") -> Any:
    response = caller.post(PATH, key=key)
    assert response.status_code == 201
    writer_of("redis").flush()
    return response


def lose_commits() -> None:
    """A failover: the database has forgotten what it had acknowledged."""
    IdempotencyRecord.objects.all()._raw_delete("default")
    Order.objects.all()._raw_delete("default")


def is_replay(response: Any) -> bool:
    return "Idempotency-Replayed" in response


class TestWhatTheDatabaseHasForgotten:
    """I17: an operator makes the copies forget it, too."""

    def test_one_command_forgets_all_copies(self, redis: RedisServer, caller: Caller) -> None:
        for key in ("k-1", "k-2"):
            buy(caller, key)
        lose_commits()
        assert is_replay(buy(caller))  # the order does not exist
        said = StringIO()
        call_command(COMMAND, stdout=said)
        assert said.getvalue().startswith('The copies in cache "redis" are forgotten')
        for key in ("k-1", "k-2"):
            assert not is_replay(buy(caller, key))
        assert Order.objects.count() == 2

    def test_what_is_in_flight_is_not_believed_after_it(
        self, redis: RedisServer, caller: Caller, after_write: Any
    ) -> None:
        after_write(lambda: call_command(COMMAND, verbosity=0))
        buy(caller)
        lose_commits()
        assert not is_replay(buy(caller))

    def test_new_copies_are_believed(self, redis: RedisServer, caller: Caller) -> None:
        call_command(COMMAND, verbosity=0)
        first = buy(caller)
        with counted() as count:
            assert buy(caller).content == first.content
        assert count.statements == 1  # the caller's token

    def test_old_ones_are_replayed_by_the_database(
        self, redis: RedisServer, caller: Caller
    ) -> None:
        """If it has them still."""
        first = buy(caller)
        call_command(COMMAND, verbosity=0)
        for _ in range(2):
            assert buy(caller).content == first.content

    def test_an_epoch_that_was_evicted_brings_nothing_back(
        self, redis: RedisServer, caller: Caller
    ) -> None:
        buy(caller)
        call_command(COMMAND, verbosity=0)
        assert redis.ask("DEL", str(caches["redis"].make_key(EPOCH))) == "1\n"
        lose_commits()
        assert not is_replay(buy(caller))

    def test_nor_one_that_somebody_wrote(self, redis: RedisServer, caller: Caller) -> None:
        """It is no text of ours, and does no harm."""
        redis.ask("SET", str(caches["redis"].make_key(EPOCH)), "\xff")
        first = buy(caller)
        assert buy(caller).content == first.content

    def test_something_else_in_its_place_costs_speed(
        self, redis: RedisServer, caller: Caller, caplog: Any
    ) -> None:
        redis.ask("RPUSH", str(caches["redis"].make_key(EPOCH)), "not ours")
        first = buy(caller)
        assert buy(caller).content == first.content
        assert EPOCH in caplog.text
        call_command(COMMAND, verbosity=0)
        buy(caller, "k-2")
        with counted() as count:
            assert is_replay(buy(caller, "k-2"))
        assert count.statements == 1  # the caller's token

    def test_it_does_not_expire(self, redis: RedisServer, caller: Caller) -> None:
        buy(caller)
        assert redis.ask("TTL", str(caches["redis"].make_key(EPOCH))) == "-1\n"

    def test_in_local_memory(self, caller: Caller, settings: Any) -> None:
        """Each process has its own, and the command is a process of its own."""
        settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "local"}
        settings.CACHES = caches_of("redis://127.0.0.1:1/0")
        caches["local"].clear()
        caller.post(PATH)
        writer_of("local").flush()
        lose_commits()
        assert is_replay(caller.post(PATH))
        with pytest.raises(CommandError, match="Restart the processes"):
            call_command(COMMAND)
        forget_all("local")
        assert not is_replay(caller.post(PATH))
        writer_of("local").flush()

    def test_without_a_cache_there_is_nothing_to_forget(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {}
        said = StringIO()
        call_command(COMMAND, stdout=said)
        assert "there are no copies" in said.getvalue()

    def test_it_says_so_if_the_cache_does_not_answer(self, fragile_redis: RedisServer) -> None:
        fragile_redis.stop()
        with pytest.raises(CommandError, match="run the command again"):
            call_command(COMMAND)


@pytest.mark.once
@pytest.mark.processes
def test_a_node_of_a_cluster_serves_copies(caller: Caller, settings: Any, tmp_path: Path) -> None:
    """Such a server refuses commands whose keys belong to two slots."""
    bus = str(free_port())  # or it would need one that is 10,000 higher than its own
    server = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", bus)
    try:
        server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        settings.CACHES = caches_of(server.url)
        while "cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
            """It needs a moment."""
        first = buy(caller)
        with counted() as count:
            assert buy(caller).content == first.content
        assert count.statements == 1  # the caller's token
        IdempotencyRecord.objects.get().delete()
        assert not is_replay(buy(caller))
    finally:
        server.stop()


def by_thread(name: str, prefix: str, version: int) -> str:
    """A ``KEY_FUNCTION`` like that of django-tenants: it asks the thread where it is."""
    return f"{threading.current_thread().name}:{prefix}:{version}:{name}"


@pytest.mark.once
class TestKeyFunction:
    """It is not asked: threads of ours are nowhere, and an operator's shell is elsewhere."""

    @pytest.fixture(params=["redis", "local"])
    def cache(self, request: Any, redis: RedisServer, settings: Any) -> Iterator[str]:
        alias: str = request.param
        settings.CACHES = {
            **settings.CACHES,
            alias: settings.CACHES[alias] | {"KEY_FUNCTION": f"{__name__}.by_thread"},
        }
        settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": alias}
        caches["local"].clear()
        yield alias
        writer_of(alias).flush()

    def test_the_writer_puts_copies_where_requests_look(self, cache: str, caller: Caller) -> None:
        first = caller.post(PATH)
        writer_of(cache).flush()
        with counted() as count:
            assert caller.post(PATH).content == first.content
        assert count.statements == 1  # the caller's token

    def test_deletions_and_epochs_reach_them_from_anywhere(
        self, cache: str, caller: Caller
    ) -> None:
        caller.post(PATH)
        writer_of(cache).flush()
        in_thread(lambda: IdempotencyRecord.objects.get().delete()).result()
        assert not is_replay(caller.post(PATH, key="k-1"))
        caller.post(PATH, key="k-2")
        writer_of(cache).flush()
        lose_commits()
        in_thread(lambda: forget_all(cache)).result()
        assert not is_replay(caller.post(PATH, key="k-2"))

    def test_leases_are_renewed_by_another_thread(self, cache: str) -> None:
        store = CacheStore(cache, SECRET, LEASE)
        record = store.claim(a_claim())
        assert record is not None
        assert in_thread(lambda: store.renew(record, 1)).result()
        assert store.complete(record, CREATED, LEASE)


class TestPlaces:
    def test_names_tell_them_apart(self) -> None:
        places = [(), ("a",), ("a", "b"), ("ab",), ("a", "b", "")]
        names = {record_name(b"secret", place, "scope", "key") for place in places}
        assert len(names) == len(places)

    @pytest.mark.parametrize("setting", ["HOST", "PORT", "NAME"])
    def test_an_alias_that_is_sent_elsewhere_is_another(
        self, setting: str, monkeypatch: Any
    ) -> None:
        before = location_of("default")
        monkeypatch.setitem(connections.settings["default"], setting, "another")
        assert location_of("default") != before

    def test_another_alias_of_the_database_forgets_what_it_deletes(
        self, redis: RedisServer, caller: Caller, monkeypatch: Any
    ) -> None:
        """For example one that goes round a connection pooler."""
        again = {**connections.settings["default"], "TEST": {"MIRROR": None}}
        monkeypatch.setitem(connections.settings, "direct", again)
        buy(caller)
        try:
            location = location_of_records("direct")
            assert location != location_of_records("default")
            assert location_of_records("default") in location.namesakes()
            record = IdempotencyRecord.objects.get()
            forget_copies("direct", record.scope, record.key)  # as before it is deleted there
        finally:
            del connections["direct"]
        lose_commits()
        assert not is_replay(buy(caller))

    def test_any_connection_that_knows_schemas_takes_one_over(self, monkeypatch: Any) -> None:
        """Without the tenants of django-tenants, too."""

        class Other:
            schema_name = "public"

            def set_schema(self, name: str) -> None:
                self.schema_name = name

        other: Any = Other()
        location_of("default").enter(other)
        assert other.schema_name == "public"
        monkeypatch.setattr(connections["default"], "schema_name", "t1", raising=False)
        location_of("default").enter(other)
        assert other.schema_name == "t1"

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ({}, False),
            ({"TENANT_APPS": ["django_idempotency"]}, False),
            ({"TENANT_APPS": ["django_idempotency.apps.IdempotencyConfig"]}, False),
            ({"TENANT_APPS": ["tests.shop"]}, True),
            ({"TENANT_TYPES": {"public": {"APPS": ["django_idempotency"]}}}, True),
            ({"TENANT_TYPES": {"shop": {"APPS": ["django_idempotency"]}}}, False),
        ],
    )
    def test_one_table_for_all_tenants_is_one_place(
        self, names: dict[str, Any], expected: bool, settings: Any, monkeypatch: Any
    ) -> None:
        """As django-tenants' settings say."""
        for name, value in names.items():
            setattr(settings, name, value)
        assert is_shared() is expected
        monkeypatch.setattr(connections["default"], "schema_name", "t1", raising=False)
        assert location_of("default").schema == "t1"
        assert location_of_records("default").schema == ("public" if expected else "t1")
