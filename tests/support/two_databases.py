"""A project with two databases and a replica: each function is a story that holds or fails.

``python -m tests.support.two_databases STORY`` runs one on SQLite files in the working folder, or
on databases of the server that ``IDEMPOTENCY_TEST_DATABASE`` names.
"""

import atexit
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from io import StringIO
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from tests.support.databases import DATABASE, settings_of


class ToBilling:
    """Sends the records, and what is sold, to ``billing``."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "billing" if model._meta.app_label in {"django_idempotency", "shop"} else None

    db_for_read = db_for_write


class ReadsFromReplica:
    """What Django's documentation shows: writes to the primary, reads from a replica."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def allow_relation(self, *args: Any, **hints: Any) -> bool:
        return True


class ToTenant:
    """Sends everything to the database of the request's tenant, and back to where it is from."""

    def db_for_write(self, model: Any, instance: Any = None, **hints: Any) -> str:
        return (instance and instance._state.db) or TENANT.get()

    db_for_read = db_for_write


TENANT = ContextVar("TENANT", default="default")


def tenants(get_response: Any) -> Any:
    """A middleware: the host name names the tenant."""

    def middleware(request: HttpRequest) -> Any:
        token = TENANT.set(request.get_host())
        try:
            return get_response(request)
        finally:
            TENANT.reset(token)

    return middleware


def database(name: str) -> dict[str, Any]:
    if DATABASE != "sqlite":
        server = settings_of(DATABASE)
        return server | {"NAME": f"{server['NAME']}_{name}"}
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{name}.sqlite3",
        "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL"},
    }


def set_up(**changes: Any) -> Any:
    """Configure the project; return a client of Ada's."""
    settings.configure(
        SECRET_KEY="only-for-tests-and-long-enough",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        DATABASES={name: database(name) for name in ("default", "billing", "replica")},
        INSTALLED_APPS=[
            *("django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"),
            *("django_idempotency", "tests.shop"),
        ],
        MIDDLEWARE=[
            f"{__name__}.tenants",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django_idempotency.middleware.IdempotencyMiddleware",
        ],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        **changes,
    )
    django.setup()
    for alias in ("default", "billing"):
        make(alias)
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(raise_request_exception=False)
    client.force_login(User.objects.db_manager("default").create_user("ada"))
    return client


def make(alias: str) -> None:
    """Make an empty database, where that is not just a file; it is removed at the end."""
    if DATABASE == "sqlite":
        return
    on_the_server(alias, "DROP DATABASE IF EXISTS {}")
    on_the_server(alias, "CREATE DATABASE {}")
    atexit.register(on_the_server, alias, "DROP DATABASE {}")


def on_the_server(alias: str, statement: str) -> None:
    from django.db import connections

    connections.close_all()
    wrapper = connections[alias]
    name = wrapper.ops.quote_name(wrapper.settings_dict["NAME"])
    with wrapper._nodb_cursor() as cursor:
        cursor.execute(statement.format(name))


def buy(request: HttpRequest) -> HttpResponse:
    """Write one order into each named database."""
    from tests.shop.models import Order

    aliases = json.loads(request.body)["in"]
    made = [Order.objects.using(alias).create(item="vm").pk for alias in aliases]
    return JsonResponse({"orders": made}, status=int(request.GET.get("status", 201)))


def buy_here(request: HttpRequest) -> HttpResponse:
    """Write one order into the tenant's database."""
    from tests.shop.models import Order

    return JsonResponse({"of": Order.objects.create(item="vm")._state.db}, status=201)


def charge_here(request: HttpRequest) -> HttpResponse:
    from django_idempotency.decorators import idempotent

    answer: HttpResponse = idempotent(buy_here, atomic=False)(request)
    return answer


def lose(request: HttpRequest) -> HttpResponse:
    """Write one order into the first database, while another attempt takes the record over."""
    from django.db.models import F

    from django_idempotency.decorators import idempotent
    from django_idempotency.models import IdempotencyRecord

    def view(request: HttpRequest) -> HttpResponse:
        IdempotencyRecord.objects.using("billing").update(attempt=F("attempt") + 1)
        return buy(request)

    answer: HttpResponse = idempotent(view)(request)
    return answer


urlpatterns = [
    path("lose/", lose),
    path("buy/", buy),
    path("buy-here/", buy_here),
    path("charge-here/", charge_here),
]


def post(client: Any, *aliases: str, key: str = "k", status: int = 201) -> Any:
    return client.post(
        f"/buy/?status={status}",
        {"in": aliases},
        content_type="application/json",
        headers={"idempotency-key": key},
    )


def count(model: str, alias: str) -> int:
    from django.apps import apps

    return int(apps.get_model(model)._base_manager.using(alias).count())


RECORD, ORDER = "django_idempotency.IdempotencyRecord", "shop.Order"


def replays_from_billing(client: Any) -> None:
    first, retry = post(client, "billing"), post(client, "billing")
    assert first.status_code == 201, first.content
    assert (retry.content, retry["Idempotency-Replayed"]) == (first.content, "true")
    assert (count(RECORD, "billing"), count(RECORD, "default")) == (1, 0)
    assert count(ORDER, "billing") == 1


def using() -> None:
    """I2: the records and the writes of the same database are one commit; others are not."""
    client = set_up(IDEMPOTENCY={"USING": "billing"})
    replays_from_billing(client)
    post(client, "billing", "default", key="fails", status=503)
    assert count(ORDER, "billing") == 1
    assert count(ORDER, "default") == 1


def blocks_on_both() -> None:
    """I2: Django's blocks commit one after the other, the first alias first. What the guard knows
    before that undoes both."""
    client = set_up(IDEMPOTENCY={"USING": "billing"})
    settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
    from django.db import connections

    for alias in ("default", "billing"):
        connections.settings[alias]["ATOMIC_REQUESTS"] = True
    headers = {"idempotency-key": "k"}
    data = {"in": ["default"]}
    first = client.post("/lose/", data, content_type="application/json", headers=headers)
    assert first.status_code == 500
    assert count(ORDER, "default") == 0


def router() -> None:
    """Without ``USING`` the router decides; the purge follows."""
    client = set_up(DATABASE_ROUTERS=[f"{__name__}.ToBilling"])
    replays_from_billing(client)
    from django_idempotency.test import advance, expire

    advance(timedelta(hours=1))
    assert post(client, "billing")["Idempotency-Replayed"] == "true"
    expire("k")
    printed = StringIO()
    call_command("purge_idempotency_records", stdout=printed)
    assert 'from database "billing"' in printed.getvalue()
    assert count(RECORD, "billing") == 0


def replica() -> None:
    """Records are read where they are written: a replica may lag behind."""
    from django.db import connections

    client = set_up(DATABASE_ROUTERS=[f"{__name__}.ReadsFromReplica"])
    from django.contrib.auth.models import User

    # Django's own lookup of the user would read the replica, which has no tables here.
    user = User.objects.using("default").get()
    with as_user(user), nothing_is_asked_of(connections["replica"]):
        first, retry = post(client, "default"), post(client, "default")
    assert (retry.content, retry["Idempotency-Replayed"]) == (first.content, "true")
    assert count(RECORD, "default") == 1


@contextmanager
def as_user(user: Any) -> Iterator[None]:
    from unittest.mock import patch

    with patch("django.contrib.auth.middleware.get_user", lambda request: user):
        yield


@contextmanager
def nothing_is_asked_of(connection: Any) -> Iterator[None]:
    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        raise AssertionError(f"the replica was asked {sql}")

    with connection.execute_wrapper(refuse):
        yield


def database_of_each_tenant() -> None:
    """I17: users of two tenants have one primary key, and send one key."""
    client = set_up(
        DATABASE_ROUTERS=[f"{__name__}.ToTenant"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        IDEMPOTENCY={
            "STORE": "cached_db",
            "CACHE": "default",
            "EXEMPT_PATHS": {"^/charge-here/": "the view has a guard of its own"},
        },
    )
    from django.contrib.auth.models import User

    from django_idempotency.models import IdempotencyRecord
    from django_idempotency.stores.cache.replay_cache import writer_of

    User.objects.using("default").get().save(using="billing", force_insert=True)

    def send(tenant: str, path: str) -> Any:
        answer = client.post(path, headers={"host": tenant, "idempotency-key": "k"})
        assert answer.json() == {"of": tenant}, answer.content
        writer_of("default").flush()
        return answer.headers.get("Idempotency-Replayed")

    both = ("default", "billing")
    assert [send(tenant, "/buy-here/") for tenant in both] == [None, None]
    assert [send(tenant, "/buy-here/") for tenant in both] == ["true", "true"]
    with nothing_is_asked_of_records():
        assert [send(tenant, "/buy-here/") for tenant in both] == ["true", "true"]
    IdempotencyRecord.objects.using("billing").get().delete()
    assert [send(tenant, "/buy-here/") for tenant in both] == ["true", None]
    for tenant in both:
        IdempotencyRecord.objects.using(tenant).get().delete()
    assert [send(tenant, "/charge-here/") for tenant in both] == [None, None]
    assert [send(tenant, "/charge-here/") for tenant in both] == ["true", "true"]
    assert [count(ORDER, tenant) for tenant in both] == [2, 3]


@contextmanager
def nothing_is_asked_of_records() -> Iterator[None]:
    from django.db import connections

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        assert "idempotencyrecord" not in sql, sql
        return execute(sql, *rest)

    with (
        connections["default"].execute_wrapper(refuse),
        connections["billing"].execute_wrapper(refuse),
    ):
        yield


ANYWHERE: dict[str, Callable[[], None]] = {
    story.__name__: story for story in (database_of_each_tenant, blocks_on_both)
}
"""Stories for every kind of database."""

STORIES: dict[str, Callable[[], None]] = {
    story.__name__: story for story in (using, router, replica)
}

if __name__ == "__main__":
    (STORIES | ANYWHERE)[sys.argv[1]]()
    print("holds")
