"""Locks of the operating system: they end with their process, and with nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_idempotency.stores.database.file_locks import FileLocks, file_locks

pytestmark = pytest.mark.once

HOLD = """
import sys
from django_idempotency.stores.database.file_locks import FileLocks
locks = FileLocks(sys.argv[1])
print(locks.acquire(7), locks.is_locked(8), flush=True)
sys.stdin.read()
"""


def database(name: object) -> Any:
    """What is asked of a connection."""
    in_memory = ":memory:" in str(name)
    return SimpleNamespace(
        vendor="sqlite", settings_dict={"NAME": name}, is_in_memory_db=lambda: in_memory
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "db-idempotency")


def test_one_of_two_gets_it(path: str) -> None:
    one, two = FileLocks(path), FileLocks(None)
    for locks in (one, two):
        assert not locks.is_locked(7)
        assert locks.acquire(7)
        assert not locks.acquire(7)
        assert locks.acquire(8)
        assert locks.is_locked(7)
        locks.release(7)
        assert not locks.is_locked(7)
        assert locks.acquire(7)
    assert os.path.getsize(path) == 0


def test_other_processes_see_it_until_its_holder_is_killed(path: str) -> None:
    """I3: no lease to wait for."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True False\n"
    locks = FileLocks(path)
    assert locks.is_locked(7)
    assert not locks.acquire(7)
    assert locks.acquire(8)
    holder.kill()
    holder.communicate()
    assert not locks.is_locked(7)
    assert locks.acquire(7)


def test_a_forked_process_holds_nothing(path: str) -> None:
    ours = database(path.removesuffix("-idempotency"))
    assert file_locks(ours).acquire(7)
    child = os.fork()
    if child == 0:  # pragma: no cover  (coverage does not follow)
        os._exit(0 if file_locks(ours).is_locked(7) and not file_locks(ours)._ours else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert file_locks(ours).is_locked(7)
    file_locks(ours).release(7)
    assert not file_locks(ours).is_locked(7)


FORK = """
import os, sys
from types import SimpleNamespace
from django_idempotency.stores.database.file_locks import file_locks
database = SimpleNamespace(settings_dict={"NAME": sys.argv[1]}, is_in_memory_db=lambda: False)
assert file_locks(database).acquire(7)
if os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), 9)
"""


def test_a_child_does_not_keep_the_locks_of_its_dead_parent(path: str) -> None:
    """I3: a worker that was killed holds nothing, although a process that it forked lives on."""
    name = path.removesuffix("-idempotency")
    command = [sys.executable, "-c", FORK, name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as parent:  # type: ignore[call-overload]
        child = parent.stdout.readline()
        assert parent.wait() == -9
        os.kill(int(child), 0)
        assert not FileLocks(path).is_locked(7)
        parent.stdin.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have the locks of POSIX only")
def test_it_outlives_whoever_reads_the_file(path: str, tmp_path: Path) -> None:
    """A view that copies the data folder opens and closes the file in the same process."""
    locks = FileLocks(path)
    assert locks.acquire(7)
    shutil.copy(path, tmp_path / "backup")
    assert FileLocks(path).is_locked(7)


@pytest.mark.parametrize(
    "name", ["real/db", "real/../real/db", "linked/db", "file:{}/real/db?mode=rwc", "file:real/db"]
)
def test_all_paths_of_a_database_lead_to_one_lock(
    name: str, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    first, second = database(tmp_path / "real/db"), database(name.format(tmp_path))
    assert file_locks(first).acquire(7)
    assert file_locks(second).is_locked(7)
    file_locks(first).release(7)
    assert (tmp_path / "real/db-idempotency").exists()


def test_a_uri_may_be_quoted(tmp_path: Path) -> None:
    assert file_locks(database(f"file:{tmp_path}/my%20db")).acquire(7)
    assert (tmp_path / "my db-idempotency").exists()


def test_who_may_write_the_database_may_lock_its_records(tmp_path: Path) -> None:
    """A cron job of another user of the group would be kept out for ever."""
    name = tmp_path / "db"
    name.touch()
    name.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(name, 65534, 65534)
    assert file_locks(database(name)).acquire(7)
    wanted, file = name.stat(), Path(f"{name}-idempotency").stat()
    assert file.st_mode == wanted.st_mode
    assert (file.st_uid, file.st_gid) == (wanted.st_uid, wanted.st_gid)


def test_a_file_that_cannot_be_opened_is_an_error_and_no_attempt_in_flight(tmp_path: Path) -> None:
    """It would be in flight for ever."""
    (tmp_path / "db-idempotency").mkdir()
    locks = file_locks(database(tmp_path / "db"))
    with pytest.raises(ImproperlyConfigured, match=r"db-idempotency.*owner, group and mode"):
        locks.acquire(7)
    with pytest.raises(ImproperlyConfigured):
        locks.is_locked(7)
