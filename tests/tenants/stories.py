"""Each function is a story that holds or fails, in the project with tenants."""

import logging
from collections.abc import Callable
from threading import Thread
from typing import Any

from django.conf import settings as SETTINGS  # noqa: N812
from django.core.management import call_command
from django.db import connection
from django.test import override_settings as settings
from django_tenants.utils import schema_context

from django_idempotency.contrib.statistics.counting import counter
from django_idempotency.contrib.statistics.models import IdempotencyStatistics
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.lease import renewer
from django_idempotency.stores.cache.replay_cache import writer_of
from django_idempotency.stores.database.location import location_of, location_of_records
from tests.shop.models import Order

SHOPS = ("t1", "t2")

Clients = dict[str, Any]
"""Of one user of each tenant; they have the same primary key."""


def host(name: str) -> str:
    return f"{name}.example.com"


def post(client: Any, path: str = "/buy/", key: str = "k") -> Any:
    response = client.post(path, headers={"idempotency-key": key})
    assert response.status_code == 201, response.content
    return response


def is_replay(response: Any) -> bool:
    return "Idempotency-Replayed" in response


def nothing_is_asked_of_records() -> Any:
    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        assert "idempotencyrecord" not in sql, sql
        return execute(sql, *rest)

    return connection.execute_wrapper(refuse)


def each_gets_its_own(
    clients: Clients, path: str, settle: Callable[[], None] = lambda: None, key: str = "k"
) -> None:
    """I17: the second answer of each tenant is a replay of its first, and of nobody else's."""
    firsts = {}
    for name, client in clients.items():
        firsts[name] = post(client, path, key).json()
        assert firsts[name]["of"] == name, firsts
        settle()
    for name, client in clients.items():
        retry = post(client, path, key)
        assert retry.json() == firsts[name]
        assert retry["Idempotency-Replayed"] == "true"


def records_are_the_tenants(clients: Clients) -> None:
    each_gets_its_own(clients, "/buy/")
    for name in SHOPS:
        with schema_context(name):
            assert (IdempotencyRecord.objects.count(), Order.objects.count()) == (1, 1)


def own_connections_speak_for_the_tenant(clients: Clients) -> None:
    """I11: what is held beside the view is the tenant's record, on a connection used before."""
    for key in ("k", "k-2"):
        each_gets_its_own(clients, "/charge/", key=key)


def a_lost_lock_is_taken_back_in_its_tenant(clients: Clients) -> None:
    """I12: although the view leaves another schema behind."""
    from tests.tenants import urls

    def cut_and_leave() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND state = 'idle in transaction'"
            )
            assert cursor.fetchall() == [(True,)]
        connection.set_schema("t2")

    urls.during_purchase = cut_and_leave
    try:
        first = post(clients["t1"], "/charge/")
    finally:
        urls.during_purchase = urls.nothing
    assert not is_replay(first)
    assert post(clients["t1"], "/charge/").json() == first.json()


def copies_are_the_tenants(clients: Clients) -> None:
    """The cache has the ``KEY_FUNCTION`` of django-tenants, and its writer a thread of its own."""
    for cache in ("redis", "local"):
        with settings(IDEMPOTENCY={"STORE": "cached_db", "CACHE": cache}):
            each_gets_its_own(clients, "/buy/", writer_of(cache).flush, cache)
            with nothing_is_asked_of_records():
                each_gets_its_own(clients, "/buy/", key=cache)


def deleted_records_are_forgotten(clients: Clients) -> None:
    """By one tenant, whichever way its record is deleted."""
    with settings(IDEMPOTENCY={"STORE": "cached_db", "CACHE": "redis"}):
        each_gets_its_own(clients, "/buy/", writer_of("redis").flush, "deleted")
        with schema_context("t1"):
            IdempotencyRecord.objects.get(key="deleted").delete()
        assert is_replay(post(clients["t2"], key="deleted"))
        assert not is_replay(post(clients["t1"], key="deleted"))


def copies_are_forgotten_from_anywhere(clients: Clients) -> None:
    """One command, in whatever schema, for all tenants."""
    with settings(IDEMPOTENCY={"STORE": "cached_db", "CACHE": "redis"}):
        each_gets_its_own(clients, "/buy/", writer_of("redis").flush, "lost")
        forget_records()
        call_command("forget_idempotency_copies", verbosity=0)
        for client in clients.values():
            assert not is_replay(post(client, key="lost"))


def records_in_the_cache_alone_are_the_tenants(clients: Clients) -> None:
    for cache in ("redis", "local"):
        with settings(IDEMPOTENCY={"STORE": "cache", "CACHE": cache}):
            each_gets_its_own(clients, "/buy/", key=cache)


def leases_are_renewed(clients: Clients) -> None:
    """By a thread of ours, which has no tenant: a lease of a second outlives its attempt."""
    from tests.tenants import urls

    def renew() -> None:
        [lease] = renewer._due
        renewed = Thread(target=lambda: answers.append(lease.renew()))
        renewed.start()
        renewed.join()

    answers: list[Any] = []
    with settings(IDEMPOTENCY={"STORE": "cache", "CACHE": "redis"}):
        urls.during_purchase = renew
        try:
            assert not is_replay(post(clients["t1"], key="lease"))
        finally:
            urls.during_purchase = urls.nothing
        [seconds] = answers
        assert seconds is not None
        assert is_replay(post(clients["t1"], key="lease"))


def replays_are_counted(clients: Clients) -> None:
    """Each tenant's in its own table, by a thread of ours."""
    counter.flush()
    before = {name: served(name) for name in SHOPS}
    post(clients["t1"])
    for _ in range(3):
        assert is_replay(post(clients["t1"]))
    counter.flush()
    assert counter.waiting == 0
    assert {name: served(name) - before[name] for name in SHOPS} == {"t1": 3, "t2": 0}


def served(name: str) -> int:
    with schema_context(name):
        return IdempotencyStatistics.served().recently


def an_outage_is_the_tenants(clients: Clients) -> None:
    """One tenant without a table: a line in the log, whatever the others do meanwhile."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    lines: list[str] = []
    logger, handler = logging.getLogger("django_idempotency"), Lines(logging.WARNING)
    rename("t2", "idempotencyrecord", "elsewhere")
    logger.addHandler(handler)
    try:
        for number in range(3):
            assert not is_replay(post(clients["t1"], key=f"outage-{number}"))
            answer = clients["t2"].post("/buy/", headers={"idempotency-key": "outage"})
            assert answer.status_code == 503, answer.content
    finally:
        logger.removeHandler(handler)
        rename("t2", "elsewhere", "idempotencyrecord")
    said = [line for line in lines if line.startswith("Database")]
    assert len(said) == 1, said
    assert said[0].startswith('Database "default", schema "t2": the table of the records is'), said


def rename(schema: str, before: str, after: str) -> None:
    with schema_context(schema), connection.cursor() as cursor:
        name = "django_idempotency_"
        cursor.execute(f"ALTER TABLE {schema}.{name}{before} RENAME TO {name}{after}")


def one_table_for_all_tenants_is_one_place(clients: Clients) -> None:
    """Where only the shared schema has it, a record is deleted from there."""
    apps = [app for app in SETTINGS.TENANT_APPS if app != "django_idempotency"]
    with settings(TENANT_APPS=apps), schema_context("t1"):
        there = location_of_records("default")
        assert location_of("default").schema == "t1"
    with schema_context("public"):
        assert there == location_of("default")


def forget_records() -> None:
    for name in SHOPS:
        with schema_context(name):
            Order.objects.all().delete()
            IdempotencyRecord.objects.all()._raw_delete("default")


STORIES: dict[str, Callable[[Clients], None]] = {
    story.__name__: story
    for story in (
        records_are_the_tenants,
        own_connections_speak_for_the_tenant,
        a_lost_lock_is_taken_back_in_its_tenant,
        copies_are_the_tenants,
        deleted_records_are_forgotten,
        copies_are_forgotten_from_anywhere,
        records_in_the_cache_alone_are_the_tenants,
        leases_are_renewed,
        replays_are_counted,
        an_outage_is_the_tenants,
        one_table_for_all_tenants_is_one_place,
    )
}
