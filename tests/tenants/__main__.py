"""``python -m tests.tenants``: makes the database, runs all stories or those that are named, and
prints a line of JSON for each: its name, and what went wrong.
"""

import json
import os
import sys
import traceback
from typing import Any

import django
from django.core.management import call_command
from django.core.management.commands.migrate import Command as Migrate


def set_up() -> dict[str, Any]:
    on_the_server(REMOVE, "CREATE DATABASE {}")
    from django_tenants.utils import get_tenant_model

    from tests.tenants.stories import SHOPS, host

    call_command(Migrate(), run_syncdb=True, verbosity=0)
    for name in SHOPS:
        shop = get_tenant_model().objects.create(schema_name=name, name=name)
        shop.domains.create(domain=host(name))
    return {name: make_tables(name) for name in SHOPS}


def on_the_server(*statements: str) -> None:
    """Run statements about the database, outside of it."""
    from django.db import connections

    connections.close_all()
    settings = connections.settings["default"]
    name, settings["NAME"] = settings["NAME"], "postgres"
    with connections["default"]._nodb_cursor() as cursor:
        for statement in statements:
            cursor.execute(statement.format(f'"{name}"'))
    connections["default"].close()
    settings["NAME"] = name


REMOVE = "DROP DATABASE IF EXISTS {} WITH (FORCE)"


def make_tables(name: str) -> Any:
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django_tenants.utils import schema_context

    from tests.tenants.stories import host

    with schema_context(name):
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {name}")
        call_command(Migrate(), run_syncdb=True, verbosity=0)
        client = Client(raise_request_exception=False, headers={"host": host(name)})
        client.force_login(User.objects.create_user("ada"))
    return client


def run(name: str, clients: dict[str, Any]) -> str:
    from tests.tenants.stories import STORIES, forget_records

    try:
        STORIES[name](clients)
    except Exception:
        return traceback.format_exc()
    finally:
        forget_records()
    return ""


def main(names: list[str]) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.tenants.settings"
    django.setup()
    clients = set_up()
    from tests.tenants.stories import STORIES

    for name in names or STORIES:
        print(json.dumps([name, run(name, clients)]), flush=True)
    on_the_server(REMOVE)


if __name__ == "__main__":
    main(sys.argv[1:])
