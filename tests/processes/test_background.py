"""Threads of the package's own: they start when there is work, also after a fork or a failure."""

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from django_idempotency.operations.base import waiting_place
from django_idempotency.operations.lease import Renewer
from django_idempotency.stores.breaker import breaker_of
from django_idempotency.stores.cache.replay_cache import Writer
from tests.conftest import Caller
from tests.support.redis_server import RedisServer
from tests.support.threads import no_more_threads

pytestmark = pytest.mark.once

FAR = 2**41
"""Milliseconds since the epoch, in the future."""


class Lease:
    """It is lost as soon as somebody asks."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def renew(self) -> None:
        self.asked.set()


class TestThreadThatCannotStart:
    """It is started by the next work, and whoever brought the first notices nothing."""

    def test_renews_leases_later(self, caplog: Any) -> None:
        renewer, first, second = Renewer(), Lease(), Lease()
        with no_more_threads():
            renewer.keep(first, 0)
            renewer.keep(first, 0)
        renewer.keep(second, 0)
        assert first.asked.wait(30)
        assert second.asked.wait(30)
        assert [each.levelname for each in caplog.records] == ["WARNING"]
        assert "Thread idempotency-leases: can't start new thread" in caplog.text

    def test_writes_copies_later(self, redis: RedisServer, caplog: Any) -> None:
        writer = Writer("redis")
        with no_more_threads():
            writer.add(("first", b"value", FAR))
            writer.flush()
        assert redis.ask("DBSIZE") == "0\n"
        writer.add(("second", b"value", FAR))
        writer.flush()
        assert redis.ask("DBSIZE") == "2\n"
        assert "Thread idempotency-writer: can't start new thread" in caplog.text

    def test_makes_no_request_fail(self, redis: RedisServer, settings: Any, caller: Caller) -> None:
        """A first request is committed by then, and a replay has its answer."""
        settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
        with no_more_threads():
            first = caller.post("/decorated-rest/")
            replays = [caller.post("/decorated-rest/") for _ in range(2)]
        assert first.status_code == 201
        assert [each.content for each in replays] == [first.content] * 2

    def test_leaves_a_leased_request_alone(
        self, redis: RedisServer, settings: Any, caller: Caller
    ) -> None:
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}
        with no_more_threads():
            assert caller.post("/decorated-rest/").status_code == 201
            assert caller.post("/decorated-rest/").status_code == 201


class TestForks:
    def test_a_child_starts_with_nothing_and_a_thread_of_its_own(self) -> None:
        renewer = Renewer()
        lease = Lease()
        renewer.keep(lease, 3600)
        with renewer._changed, waiting_place(1):
            status = self.in_child(lambda: self.renews(renewer) and self.is_free())
        renewer.drop(lease)
        assert status == 0

    def test_a_child_asks_a_server_although_its_parent_was_at_it(self) -> None:
        name = "a server"
        with breaker_of(name)._lock:
            assert self.in_child(lambda: breaker_of(name).enter() == 0) == 0

    @staticmethod
    def renews(renewer: Renewer) -> bool:
        lease = Lease()
        renewer.keep(lease, 0)
        return not renewer._due.keys() - {lease} and lease.asked.wait(30)

    @staticmethod
    def is_free() -> bool:
        with waiting_place(1) as free:
            return free

    @staticmethod
    def in_child(works: Any) -> int:
        """Return 0 if it does; a child that hangs is ended by an alarm."""
        child = os.fork()
        if child == 0:  # pragma: no cover  (coverage does not follow)
            import signal

            signal.alarm(30)
            os._exit(0 if works() else 1)
        return os.waitpid(child, 0)[1]


WITHOUT_FORKS = """
import os, sys
del os.register_at_fork, os.fork
sys.modules["fcntl"] = None
import django
django.setup()
import pkgutil, importlib, django_idempotency
for each in pkgutil.walk_packages(django_idempotency.__path__, "django_idempotency."):
    importlib.import_module(each.name)
"""


@pytest.mark.processes
def test_every_module_can_be_imported_where_there_are_no_forks() -> None:
    """As on Windows."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_FORKS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
