"""The purge command: it removes what is expired and nobody holds, and says what it did."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import path
from django.utils import timezone

from django_idempotency.decorators import idempotent
from django_idempotency.management.commands import purge_idempotency_records
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import Claim, State
from django_idempotency.stores.database.file_locks import file_locks
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import row_locks
from tests.support.operations import rival
from tests.support.server import ROOT

rival_rows = pytest.mark.django_db(transaction=True)
sqlite_only = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's one lock")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def remember(key: str, *, expired: timedelta | None, state: State = State.COMPLETED):
    """Create a record that expired some time ago, or (``None``) has a day to live."""
    now = timezone.now()
    expires = now + timedelta(days=1) if expired is None else now - expired
    return IdempotencyRecord.objects.create(
        scope="a" * 64,
        key=key,
        fingerprint="f",
        state=state,
        method="POST",
        path="/orders",
        response_status=201 if state is State.COMPLETED else None,
        created_at=now,
        purge_at=expires,
        expires_at=expires,
    )


class Tombstone:
    """What a URLconf module is to Django."""

    urlpatterns = [path("kept/", idempotent(tombstone=timedelta(days=7))(lambda request: None))]


def purge(*arguments: str, stderr: io.StringIO | None = None, **options: object) -> str:
    output = io.StringIO()
    call_command(
        "purge_idempotency_records",
        *arguments,
        stdout=output,
        stderr=stderr or io.StringIO(),
        **options,
    )
    return output.getvalue()


def keys() -> set[str]:
    return set(IdempotencyRecord.objects.values_list("key", flat=True))


@contextmanager
def in_first_batch(action: Callable[[], None]) -> Iterator[None]:
    """Do something when a batch has removed its records, before its commit."""
    acted = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        result = execute(sql, *rest)
        if "DELETE" in sql and not acted:
            acted.append(sql)
            action()
        return result

    with connection.execute_wrapper(watch):
        yield


def claim(key: str) -> Claim:
    return Claim("a" * 64, key, "f", "POST", "/orders", timedelta(hours=24))


@pytest.mark.django_db
class TestWhatGoes:
    def test_expired_records_go_and_living_ones_stay(self):
        remember("old", expired=timedelta(seconds=1))
        remember("living", expired=None)
        purge()
        assert keys() == {"living"}

    def test_expired_claims_that_nobody_holds_go_too(self):
        remember("interrupted", expired=timedelta(hours=1), state=State.CLAIMED)
        remember("claimed now", expired=None, state=State.CLAIMED)
        purge()
        assert keys() == {"claimed now"}

    @pytest.mark.parametrize(
        ("older_than", "left"),
        [("0", set()), ("90", {"minute"}), ("30m", {"minute"}), ("12h", {"minute", "hour"})],
    )
    def test_older_than_spares_what_expired_lately(self, older_than, left):
        remember("minute", expired=timedelta(minutes=1))
        remember("hour", expired=timedelta(hours=1))
        remember("week", expired=timedelta(days=7))
        purge("--older-than", older_than)
        assert keys() == left

    def test_by_default_it_spares_the_longest_tombstone(self, settings):
        """A key within its tombstone is refused, also after a purge that nobody told of it."""
        settings.ROOT_URLCONF = Tombstone
        settings.IDEMPOTENCY = {"TOMBSTONE": timedelta(hours=1)}
        remember("in it", expired=timedelta(days=6))
        remember("after it", expired=timedelta(days=8))
        assert "1 expired records" in purge(dry_run=True)
        purge()
        assert keys() == {"in it"}
        settings.IDEMPOTENCY = {"POLICIES": {"^/x/": {"TOMBSTONE": timedelta(days=5)}}}
        settings.ROOT_URLCONF = "tests.shop.urls"
        purge()
        assert keys() == set()

    def test_a_person_may_say_otherwise(self, settings):
        settings.IDEMPOTENCY = {"TOMBSTONE": timedelta(days=7)}
        remember("in it", expired=timedelta(days=6))
        purge("--older-than", "0")
        assert keys() == set()

    def test_days_are_a_unit(self):
        remember("hour", expired=timedelta(hours=1))
        remember("week", expired=timedelta(days=7, minutes=1))
        purge("--older-than=7d")
        assert keys() == {"hour"}

    def test_options_may_be_given_from_code(self):
        remember("hour", expired=timedelta(hours=1))
        purge(older_than=7200, batch_size=1)
        assert keys() == {"hour"}

    def test_a_dry_run_only_counts(self):
        remember("old", expired=timedelta(hours=1))
        remember("older", expired=timedelta(days=1))
        remember("living", expired=None)
        assert purge("--dry-run", "--older-than=2h").startswith("1 expired records")
        assert purge("--dry-run").startswith("2 expired records")
        assert len(keys()) == 3

    def test_the_database_of_the_setting_is_purged(self, settings):
        settings.IDEMPOTENCY = {"USING": "default"}
        remember("old", expired=timedelta(hours=1))
        assert 'from database "default"' in purge()
        assert not keys()


@pytest.mark.django_db
class TestPace:
    @pytest.fixture(autouse=True)
    def records(self):
        for number in range(5):
            remember(f"old {number}", expired=timedelta(hours=2, seconds=number))

    def test_after_the_time_limit_no_batch_begins(self):
        report = purge("--batch-size=2", "--time-limit=0")
        assert re.search(r"Removed 2 .*batches: 1; left: 3; lag: 72\d\ds\)", report)
        assert keys() == {"old 0", "old 1", "old 2"}
        assert "Removed 2 " in purge("--batch-size=2", "--time-limit=0")
        assert "Removed 1 " in purge("--batch-size=2", "--time-limit=1h")

    def test_it_rests_between_batches(self, monkeypatch):
        rests = []
        monkeypatch.setattr(time, "sleep", rests.append)
        purge("--batch-size=2", "--pause=50ms")
        assert rests == [0.05] * 3

    def test_more_are_not_counted_than_a_person_needs(self, monkeypatch):
        monkeypatch.setattr(purge_idempotency_records, "COUNTED", 2)
        assert "left: more than 2;" in purge("--batch-size=1", "--time-limit=0")

    def test_lag_counts_from_when_records_may_go(self):
        report = purge("--older-than=1h", "--batch-size=1", "--time-limit=0")
        assert re.search(r"lag: 36\d\ds\)", report)


@pytest.mark.django_db
class TestReport:
    def test_one_line_for_cron(self):
        for number in range(5):
            remember(f"old {number}", expired=timedelta(hours=1))
        errors = io.StringIO()
        assert purge("--batch-size=2", stderr=errors) == (
            'Removed 5 expired records from database "default" (batches: 3; left: 0; lag: 0s). '
            "Removed 0 effects that have ended.\n"
        )
        assert errors.getvalue() == ""

    def test_silence_on_request(self):
        assert purge(verbosity=0) == ""

    def test_a_terminal_sees_progress(self):
        for number in range(3):
            remember(f"old {number}", expired=timedelta(hours=1))
        terminal = Terminal()
        purge("--batch-size=2", stderr=terminal)
        assert terminal.getvalue() == "\r2 records removed\r3 records removed\n"

    def test_nothing_to_remove_is_no_failure(self):
        terminal = Terminal()
        assert purge(stderr=terminal).startswith("Removed 0 expired records")
        assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("--older-than=7w", "--older-than: '7w' is not a duration. Give seconds, or"),
        ("--older-than=-5", "--older-than: '-5' is not a duration"),
        ("--pause=soon", "--pause: 'soon' is not a duration"),
        ("--time-limit=1y", "--time-limit: '1y' is not a duration"),
        ("--older-than=", "--older-than: '' is not a duration"),
        ("--older-than=9999d", "--older-than: '9999d' is too long. Give at most 3660d."),
        ("--batch-size=0", "--batch-size: '0' is not a number of records. Give a whole number"),
        ("--batch-size=many", "--batch-size: 'many' is not a number of records"),
        ("--batch-size=30001", "from 1 to 30000"),
        ("--database=nowhere", "there is no database 'nowhere' in DATABASES. Give one of: default"),
    ],
)
def test_bad_options_are_named(argument, complaint):
    with pytest.raises(CommandError) as raised:
        purge(argument)
    assert complaint in str(raised.value)
    assert raised.value.returncode != 0


@rival_rows
@row_locks
class TestRowLocks:
    def test_a_locked_record_is_left_and_counted(self):
        held = remember("held", expired=timedelta(hours=1), state=State.CLAIMED)
        remember("free", expired=timedelta(hours=1), state=State.CLAIMED)
        with rival() as store:
            assert store.lock(held.pk)
            report = purge()
            assert keys() == {"held"}
        assert "Removed 1 expired records" in report
        assert re.search(r"left: 1; lag: 36\d\ds\)", report)

    def test_it_goes_when_the_lock_is_gone(self):
        held = remember("held", expired=timedelta(hours=1), state=State.CLAIMED)
        with rival() as store:
            assert store.lock(held.pk)
            purge()
        purge()
        assert not keys()

    def test_locked_records_do_not_stop_the_batches_behind_them(self):
        held = remember("held", expired=timedelta(hours=2))
        for number in range(3):
            remember(f"free {number}", expired=timedelta(hours=1))
        with rival() as store:
            assert store.lock(held.pk)
            purge("--batch-size=1")
            assert keys() == {"held"}

    def test_rivals_claim_and_lock_while_a_batch_is_open(self):
        """I14: the purge locks what it removes, and nothing else."""
        remember("old", expired=timedelta(hours=1))
        living = remember("living", expired=None, state=State.CLAIMED)
        seen = []

        def work() -> None:
            with rival() as store:
                fresh = store.claim(claim("new"))
                seen.append((fresh.fresh, store.lock(living.pk) is not None))

        with in_first_batch(work):
            purge()
        assert seen == [(True, True)]
        assert keys() == {"living", "new"}


@pytest.mark.django_db
@sqlite_only
def test_what_is_held_beside_the_database_stays():
    """Outside of a transaction SQLite's records are held by locks of the operating system."""
    held = remember("held", expired=timedelta(hours=2), state=State.CLAIMED)
    for number in range(3):
        remember(f"free {number}", expired=timedelta(hours=1))
    assert file_locks(connection).acquire(held.pk)
    try:
        assert "Removed 3 " in purge("--batch-size=1")
        assert not DatabaseStore("default").evict(held.pk)
        assert not DatabaseStore("default").remove(held.pk, State.CLAIMED, 1)
    finally:
        file_locks(connection).release(held.pk)
    assert keys() == {"held"}
    assert DatabaseStore("default").remove(held.pk, State.CLAIMED, 1)


@rival_rows
@pytest.mark.processes
def test_two_at_once_share_the_work():
    """Real processes: each record goes once, and none is left."""
    now = timezone.now()
    IdempotencyRecord.objects.bulk_create(
        IdempotencyRecord(
            scope="a" * 64, key=f"{number}", fingerprint="f", state=State.COMPLETED, method="POST",
            path="/", created_at=now, purge_at=now, expires_at=now,
        )
        for number in range(2000)
    )  # fmt: skip
    connection.close()
    command = [sys.executable, "-m", "django", "purge_idempotency_records", "--batch-size=50"]
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.support.server_settings"}
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    reports = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    removed = [int(re.findall(r"Removed (\d+) ", report)[0]) for report in reports]
    assert sum(removed) == 2000
    assert not IdempotencyRecord.objects.exists()


@rival_rows
def test_it_runs_on_a_connection_that_nobody_has_used():
    remember("old", expired=timedelta(hours=1))

    def like_a_new_process() -> str:
        try:
            return purge()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(like_a_new_process).result().startswith("Removed 1 ")
    assert not keys()


@rival_rows
@sqlite_only
def test_sqlite_says_that_the_database_stayed_locked():
    remember("old", expired=timedelta(hours=1))
    with connection.cursor() as cursor:
        [timeout] = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute("PRAGMA busy_timeout = 1")
        try:
            with rival(), pytest.raises(CommandError) as raised:
                purge()
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {timeout}")
    assert 'Database "default": ' in str(raised.value)
    assert "It had removed 0 expired records by then." in str(raised.value)
    assert "run the command again" in str(raised.value)
    assert keys() == {"old"}
    purge()
    assert not keys()


@rival_rows
class TestDatabaseErrors:
    @pytest.fixture(autouse=True)
    def without_table(self):
        with connection.schema_editor() as editor:
            editor.delete_model(IdempotencyRecord)
        yield
        with connection.schema_editor() as editor:
            editor.create_model(IdempotencyRecord)

    @pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
    def test_they_are_reported(self, arguments):
        with pytest.raises(CommandError) as raised:
            purge(*arguments)
        assert 'Database "default": ' in str(raised.value)
        assert "It had removed 0 expired records by then." in str(raised.value)
        assert IdempotencyRecord._meta.db_table in str(raised.value)
        assert raised.value.returncode == 1
