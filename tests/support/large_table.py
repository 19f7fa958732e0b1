"""A large record table, and how the admin's statements read it.

Run by itself it fills a database with so many records, if it has none, and prints each statement
with its time and its plan::

    IDEMPOTENCY_TEST_NAME=large IDEMPOTENCY_TEST_DATABASE=postgresql \\
        python -m tests.support.large_table 5000000

The database must exist; it is not dropped.
"""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from django.db import connection

PAGES: list[dict[str, Any]] = [
    {},
    {"q": "key-7"},
    {"q": "0123456789ab"},
    {"q": "Key 0123456789ab, scope 0123456789ab: replayed"},
    {"q": "Key -, scope 0123456789ab", "before": "the middle"},
    {"q": "user:caller"},
    {"q": "user:caller 0123456789ab", "state": "completed"},
    {"q": "PUT /orders/ status:422"},
    {"q": "request:7f1c"},
    {"q": "/nowhere/", "age": "older-day"},
    {"q": "status:5xx", "state": "interrupted"},
    {"p": 2},
    {"before": "the middle"},
    {"state": "in_flight"},
    {"state": "interrupted"},
    {"state": "claimed"},
    {"state": "claimed", "method": "PUT"},
    {"state": "interrupted", "before": "the middle"},
    {"state": "open"},
    {"state": "completed"},
    {"method": "DELETE"},
    {"status": "4"},
    {"status": "5"},
    {"age": "hour"},
    {"age": "older-day"},
    {"age": "older-week", "status": "4"},
    {"expired": "yes"},
    {"expired": "no", "method": "PUT", "status": "2", "age": "day"},
]
"""The list in every way."""


def table() -> str:
    from django_idempotency.models import IdempotencyRecord

    return IdempotencyRecord._meta.db_table


def fill(count: int) -> None:
    """Add records of the past ten days, a second's worth at a time, and let the planner know."""
    columns = (
        "scope, {key}, fingerprint, state, attempt, method, path, response_version, "
        "response_status, response_headers, response_body, response_omitted, outcome_open, "
        "created_at, expires_at, purge_at"
    )
    body, numbers, quoted, now, past, analyze = {
        "postgresql": (
            "CONVERT_TO(REPEAT('x', 160), 'UTF8')",
            f"generate_series(1, {count}) AS n",
            '"key"',
            "STATEMENT_TIMESTAMP()",
            f"make_interval(secs => ({count} - n) * 864000.0 / {count})",
            "ANALYZE",
        ),
        "mysql": (
            "REPEAT('x', 160)",
            f"(SELECT seq AS n FROM seq_1_to_{count}) AS numbers",
            "`key`",
            "UTC_TIMESTAMP(6)",
            f"INTERVAL ({count} - n) * 864000 DIV {count} SECOND",
            "ANALYZE TABLE",
        ),
    }[connection.vendor]
    day = "INTERVAL '1 day'" if connection.vendor == "postgresql" else "INTERVAL 1 DAY"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table()} ({columns.format(key=quoted)}) "
            "SELECT 'a', CONCAT('key-', n), 'f', "
            "CASE WHEN n % 5000 = 1 THEN 'claimed' ELSE 'completed' END, 1, "
            "CASE WHEN n % 20 = 0 THEN 'PUT' ELSE 'POST' END, '/orders/', 1, "
            "CASE WHEN n % 25 = 0 THEN 422 ELSE 201 END, REPEAT('x', 60), "
            f"{body}, '', "
            f"n % 50000 = 1, {now} - {past}, {now} - {past} + {day}, {now} - {past} + {day} "
            f"FROM {numbers}"
        )
        cursor.execute(f"{analyze} {table()}")
        if connection.vendor == "mysql":
            cursor.fetchall()


def plan(sql: str) -> list[str]:
    """Return how the database reads the record table: one line per access."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"EXPLAIN {sql}")
            lines = [line.strip(" ->") for (line,) in cursor.fetchall() if table() in line]
            return [line.replace(table(), "record") for line in lines]
        cursor.execute(f"ANALYZE {sql}")  # MariaDB's EXPLAIN does not know where a LIMIT ends
        names = [column[0] for column in cursor.description]
        accesses = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [
        f"{each['type']} {each['key']} {each['r_rows']}"
        for each in accesses
        if each["table"] in {table(), "r"}
    ]


def reads_all(access: str) -> bool:
    """Whether a line of a plan means the whole table."""
    if connection.vendor == "postgresql":
        return "Seq Scan" in access
    from django_idempotency.admin import overview

    kind, _, read = access.split(" ")
    return kind == "ALL" or (read != "None" and float(read) > max(2000, 2 * overview.WIDTH))


def statements(client: Any, query: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Show a page of the list; yield what it asks the record table, and how long that took."""
    from django.test.utils import CaptureQueriesContext
    from django.urls import reverse

    address = reverse("admin:django_idempotency_idempotencyrecord_changelist")
    with CaptureQueriesContext(connection) as queries:
        response = client.get(address, query)
    assert response.status_code == 200, response
    for each in queries:
        if table() in each["sql"]:
            yield each["sql"], float(each["time"])


def with_middle(query: dict[str, Any]) -> dict[str, Any]:
    """Return a query that is about this table."""
    from django.db.models import Max, Min

    from django_idempotency.models import IdempotencyRecord

    if "before" not in query:
        return query
    ends = IdempotencyRecord.objects.aggregate(first=Min("pk"), last=Max("pk"))
    return {**query, "before": (ends["first"] + ends["last"]) // 2}


def main(count: int) -> None:
    """Fill the table up and print the plans, as lines of Markdown."""
    import django
    from django.core.management import call_command

    django.setup()
    from django.contrib.auth.models import User
    from django.test import Client
    from django.test.utils import setup_test_environment

    from django_idempotency.models import IdempotencyRecord

    call_command("migrate", verbosity=0)
    setup_test_environment()
    if not IdempotencyRecord.objects.exists():
        start = time.monotonic()
        fill(count)
        print(f"{count} records in {time.monotonic() - start:.0f} seconds")
    User.objects.get_or_create(username="caller")
    client = Client()
    client.force_login(
        User.objects.get_or_create(username="a", is_staff=True, is_superuser=True)[0]
    )
    for query in map(with_middle, PAGES):
        print(f"\n{query}")
        for sql, seconds in list(statements(client, query)):
            print(f"    {seconds * 1000:.0f} ms  {sql[:90]}")
            for access in dict.fromkeys(plan(sql)):
                print(f"        {'!!' if reads_all(access) else ''} {access}")


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.support.large_table_settings"
    main(int(sys.argv[1]))
