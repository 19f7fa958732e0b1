"""Locks of the operating system: they end with their process, and with nothing else."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from django_idempotency.stores.file_locks import FileLocks, file_locks, is_held_by_file

pytestmark = pytest.mark.once

HOLD = """
import sys
from django_idempotency.stores.file_locks import FileLocks
locks = FileLocks(sys.argv[1])
print(locks.acquire(7), locks.is_held(8), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "db-idempotency")


def test_one_of_two_gets_it(path: str) -> None:
    one, two = FileLocks(path), FileLocks(None)
    for locks in (one, two):
        assert not locks.is_held(7)
        assert locks.acquire(7)
        assert not locks.acquire(7)
        assert locks.acquire(8)
        assert locks.is_held(7)
        locks.release(7)
        assert not locks.is_held(7)
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
    assert locks.is_held(7)
    assert not locks.acquire(7)
    assert locks.acquire(8)
    holder.kill()
    holder.communicate()
    assert not locks.is_held(7)
    assert locks.acquire(7)


def test_a_forked_process_holds_nothing(path: str) -> None:
    database = SimpleNamespace(
        vendor="sqlite",
        settings_dict={"NAME": path.removesuffix("-idempotency")},
        is_in_memory_db=lambda: False,
    )
    assert file_locks(database).acquire(7)
    child = os.fork()
    if child == 0:  # pragma: no cover  (coverage does not follow)
        os._exit(0 if is_held_by_file(database, 7) and not file_locks(database)._ours else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert is_held_by_file(database, 7)
    file_locks(database).release(7)
    assert not is_held_by_file(database, 7)
