"""What completing a record changes: no index, and what lies close together in its row."""

import io
import re

import pytest
from django.core.management import call_command
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.database.dialects.sql import COMPLETE
from tests.conftest import Caller
from tests.support.adapters import few_adapters

TABLE = IdempotencyRecord._meta.db_table
USUALLY_UNCHANGED = {"purge_at", "outcome_open"}
"""It writes to them, but their old values."""

on_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="only PostgreSQL has HOT updates"
)


def changed() -> set[str]:
    names = set(re.findall(r"\{(\w+)\} = ", COMPLETE.partition(" WHERE ")[0]))
    assert names > USUALLY_UNCHANGED
    return names - USUALLY_UNCHANGED


def updates() -> tuple[int, int]:
    """Return how many updates the session has made lately, and how many of them were HOT.

    Within a transaction they only grow.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_get_xact_tuples_updated(%s::regclass), "
            "pg_stat_get_xact_tuples_hot_updated(%s::regclass)",
            [TABLE, TABLE],
        )
        found: tuple[int, int] = cursor.fetchone()
        return found


@on_postgresql
@few_adapters
def test_a_first_request_writes_no_index_when_it_completes(adapter: str, db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE}")  # or its last page has what other tests have left there
    caller, before = Caller("ada.lovelace"), updates()
    for number in range(5):
        assert caller.post(adapter, {"item": "vm"}, key=f"k-{number}").status_code == 201
    assert [now - then for now, then in zip(updates(), before, strict=True)] == [5, 5]


@on_postgresql
@pytest.mark.django_db
def test_pages_are_not_filled_so_that_their_records_have_room_for_a_response() -> None:
    statements = io.StringIO()
    call_command("sqlmigrate", "django_idempotency", "0001", stdout=statements)
    assert f'ALTER TABLE "{TABLE}" SET (fillfactor = ' in statements.getvalue()


@pytest.mark.django_db
def test_no_index_covers_what_completing_changes() -> None:
    """On each database: InnoDB and SQLite do not touch indexes of other columns either."""
    with connection.cursor() as cursor:
        indexes = connection.introspection.get_constraints(cursor, TABLE).values()
    indexed = [each for each in indexes if each["index"] or each["unique"] or each["primary_key"]]
    covered = {column for each in indexed for column in each["columns"] or ()}
    assert covered >= {"id", "key", "scope", "purge_at"}
    assert covered & changed() == set()


def test_what_completing_leaves_alone_comes_first() -> None:
    """PostgreSQL logs a row from the first changed byte to the last."""
    names = [field.name for field in IdempotencyRecord._meta.concrete_fields]
    unchanged = [name for name in names if name not in changed() | {"response_version"}]
    first, rest = names[: len(unchanged) + 1], names[len(unchanged) + 1 :]
    assert set(first) == {*unchanged, "response_version"}
    assert set(rest) == changed() - {"response_version"}
