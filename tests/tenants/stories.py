"""Each function is a story that holds or fails.

``python -m tests.tenants.stories`` makes the database, runs all of them, and prints a line of JSON
for each: its name, and what went wrong.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import django
from django.core.management import call_command
from django.core.management.commands.migrate import Command as Migrate

SHOPS = ("t1", "t2")

Clients = dict[str, Any]
"""Of one user of each tenant; they have the same primary key."""


def set_up() -> Clients:
    make_database()
    from django_tenants.utils import get_tenant_model

    call_command(Migrate(), run_syncdb=True, verbosity=0)
    for name in SHOPS:
        shop = get_tenant_model().objects.create(schema_name=name, name=name)
        shop.domains.create(domain=host(name))
    return {name: make_tables(name) for name in SHOPS}


def make_database() -> None:
    from django.db import connections

    settings = connections.settings["default"]
    name, settings["NAME"] = settings["NAME"], "postgres"
    with connections["default"]._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
    connections["default"].close()
    settings["NAME"] = name


def make_tables(name: str) -> Any:
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django_tenants.utils import schema_context

    with schema_context(name):
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {name}")
        call_command(Migrate(), run_syncdb=True, verbosity=0)
        client = Client(raise_request_exception=False, headers={"host": host(name)})
        client.force_login(User.objects.create_user("ada"))
    return client


def host(name: str) -> str:
    return f"{name}.example.com"


def post(client: Any, path: str = "/buy/", key: str = "k") -> Any:
    response = client.post(path, headers={"idempotency-key": key})
    assert response.status_code == 201, response.content
    return response


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


def records(name: str) -> Any:
    from django_tenants.utils import schema_context

    from django_idempotency.models import IdempotencyRecord

    with schema_context(name):
        return list(IdempotencyRecord.objects.order_by("key"))


def records_are_the_tenants(clients: Clients) -> None:
    each_gets_its_own(clients, "/buy/")
    assert [len(records(name)) for name in SHOPS] == [1, 1]


def own_connections_speak_for_the_tenant(clients: Clients) -> None:
    """I11: what is held beside the view is the tenant's record, on a connection used before."""
    for key in ("k", "k-2"):
        each_gets_its_own(clients, "/charge/", key=key)


STORIES: dict[str, Callable[[Clients], None]] = {
    story.__name__: story
    for story in (
        records_are_the_tenants,
        own_connections_speak_for_the_tenant,
    )
}


def forget_everything() -> None:
    from django.core.cache import caches
    from django_tenants.utils import schema_context

    from django_idempotency.models import IdempotencyRecord
    from tests.shop.models import Order

    for name in SHOPS:
        with schema_context(name):
            Order.objects.all().delete()
            IdempotencyRecord.objects.all()._raw_delete("default")
    caches["local"]._cache.clear()


def run(story: Callable[[Clients], None], clients: Clients) -> str:
    try:
        story(clients)
    except Exception:
        return traceback.format_exc()
    finally:
        forget_everything()
    return ""


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.tenants.settings"
    django.setup()
    made = set_up()
    for name in sys.argv[1:] or STORIES:
        print(json.dumps([name, run(STORIES[name], made)]), flush=True)
