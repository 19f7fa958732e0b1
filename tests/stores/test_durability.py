"""Keys for other systems come from records that a crash of the database server does not lose."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import TestCase
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.operations.base import Started
from django_idempotency.stores.database import store as durability
from django_idempotency.stores.database.dialects import dialect_of
from django_idempotency.stores.database.store import DatabaseStore
from proof import servers
from tests.conftest import Caller
from tests.support import holding
from tests.support.losses import run
from tests.support.operations import CREATED, a_claim, an_operation

ROOT = Path(__file__).parents[2]
postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="elsewhere no commit leaves the disk behind"
)


def position(name: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_current_wal_{name}_lsn() - '0/0'::pg_lsn")
        return cursor.fetchone()[0]


@csrf_exempt
async def view(request: HttpRequest) -> HttpResponse:
    operation: Any = request.idempotency  # type: ignore[attr-defined]
    return HttpResponse(await operation.aderive_key("charge"))


urlpatterns = [path("derive/", view)]


@postgresql
@pytest.mark.usefixtures("waiting_commits")
class TestClaims:
    def test_are_on_disk_before_a_key_leaves(self) -> None:
        operation = an_operation()
        assert operation.begin() == Started()
        claimed = position("insert")
        key = operation.derive_key("charge")
        assert position("flush") >= claimed
        assert operation.derive_key("charge") == key
        assert operation.finish(CREATED)

    def test_are_on_disk_before_a_view_runs_outside_of_a_transaction(self) -> None:
        """I11: what it does elsewhere would outlive them. The start of its attempt is committed
        after them, so they need not be waited for."""
        claimed = DatabaseStore("default").claim(a_claim())
        assert claimed is not None
        written = position("insert")
        _, lock = holding.an_operation()
        assert lock.take(claimed, timedelta(0)) is not None
        assert lock.start() is not None
        assert position("flush") >= written
        lock.release()

    def test_whatever_the_project_says_about_its_own_commits(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
            try:
                with transaction.atomic():
                    cursor.execute(dialect_of(connection).flush_sql)
                    cursor.execute("SHOW synchronous_commit")
                    assert cursor.fetchone() == ("on",)
                cursor.execute("SHOW synchronous_commit")
                assert cursor.fetchone() == ("off",)
            finally:
                cursor.execute("RESET synchronous_commit")

    def test_once_per_attempt(self, monkeypatch: Any) -> None:
        flushed: list[str] = []
        monkeypatch.setattr("django_idempotency.stores.database.store.flush", flushed.append)
        operation = an_operation()
        assert operation.begin() == Started()
        operation.derive_key("charge")
        operation.derive_key("refund")
        assert operation.finish(CREATED)
        assert flushed == ["default"]

    def test_or_no_key_leaves(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(durability, "_FLUSHES", 0)
        operation = an_operation()
        assert operation.begin() == Started()
        with pytest.raises(RuntimeError) as caught:
            operation.derive_key("charge")
        operation.fail(caught.value)
        assert "survive a crash" in str(caught.value)

    def test_an_ordinary_user_may_do_it(self) -> None:
        with transaction.atomic():
            run("CREATE ROLE nobody_special")
            run("SET LOCAL ROLE nobody_special")
            run(dialect_of(connection).flush_sql)
            run("RESET ROLE")
            transaction.set_rollback(True)


@pytest.mark.urls(__name__)
def test_async_views_await_it(caller: Caller, use_middleware: None) -> None:
    from django.test import AsyncClient

    client = AsyncClient()
    client.cookies = caller._client.cookies
    headers = {"idempotency-key": "k"}
    answer = async_to_sync(client.post)("/derive/", headers=headers)
    assert len(answer.content) == 36


class TestInTestCases(TestCase):
    def test_nothing_is_written_beside_the_test(self) -> None:
        operation = an_operation()
        assert operation.begin() == Started()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durability, "_FLUSHES", 0)
            assert len(operation.derive_key("charge")) == 36
        assert operation.finish(CREATED)


@postgresql
@pytest.mark.processes
@pytest.mark.skipif(bool(servers.missing("postgresql")), reason="no server of our own")
def test_a_retry_after_a_crash_of_the_server_derives_the_same_key() -> None:
    """Four operations, each with a crash after its key has left."""
    command = [sys.executable, "-m", "tests.support.derive_and_crash"]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert len(found) == 4
    assert all(before == after for before, after in found)
