"""Fixtures shared by the tests."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.commands import flush
from django.db import connection, connections, transaction
from django.test import AsyncClient, Client
from django_redis.pool import ConnectionFactory
from hypothesis import settings as hypothesis_settings
from rest_framework.authtoken.models import Token

from django_idempotency.operations.lease import renewer
from django_idempotency.stores.breaker import breaker_of
from django_idempotency.stores.cache.replay_cache import writer_of
from django_idempotency.stores.database import connections as claim_connections
from django_idempotency.stores.database import connections as own_connections
from tests.shop import views
from tests.support.adapters import MIDDLEWARE, Adapter
from tests.support.counting import COUNTING, connections_at_rest
from tests.support.databases import DATABASE
from tests.support.redis_server import RedisServer, caches, running_redis
from tests.support.sessions import open_transactions, terminate


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("django_idempotency")
    group.addoption("--quick", action="store_true", help="no servers, processes and browsers")
    group.addoption("--whole", action="store_true", help="with repetitions that are left out else")


def pytest_configure(config: pytest.Config) -> None:
    # A busy machine is no bug: no test depends on how long it takes.
    examples = 100 if config.getoption("whole") else 25
    hypothesis_settings.register_profile("tests", deadline=None, max_examples=examples)
    hypothesis_settings.load_profile("tests")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this run does not ask for; begin with the files that wait for processes."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        assert " at 0x" not in item.nodeid, f"in each process it has another name: {item.nodeid}"
        (left_out if _is_left_out(item, config) else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept
    slow = {item.path for item in items if _needs_processes(item)}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
    """What a failed test has left locked would make the end of it wait for ever."""
    error = call.excinfo
    if call.when == "call" and error is not None and not error.errisinstance(pytest.skip.Exception):
        with suppress(Exception):  # it may have had no database
            for session, *_ in open_transactions():
                terminate(session)


def pytest_collection_finish() -> None:
    # What was imported and collected stays: the garbage collector need not look at it again.
    gc.collect()
    gc.freeze()


def _is_left_out(item: pytest.Item, config: pytest.Config) -> bool:
    """What does not depend on the database runs on SQLite only."""
    if DATABASE != "sqlite" and item.get_closest_marker("once"):
        return True
    if config.getoption("quick") and (item.get_closest_marker("broad") or _needs_processes(item)):
        return True
    return bool(item.get_closest_marker("whole")) and not config.getoption("whole")


def _needs_processes(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    marked = any(item.get_closest_marker(name) for name in ("processes", "browser"))
    return marked or not fixtures.isdisjoint({"redis_server", "fragile_redis"})


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix() -> None:
    """The settings name a database per process: servers that tests start read them, too."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """No commit of the tests waits for the disk.

    Killed processes lose nothing by this; a host that loses power would. Servers that tests start,
    and poolers before them, need no options for it: it is a default of the database.
    """
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock():
            commits_wait(False)


@pytest.fixture
def waiting_commits(transactional_db: None) -> Iterator[None]:
    """Commits wait for the disk, as PostgreSQL's do by default."""
    commits_wait(True)
    yield
    commits_wait(False)


def commits_wait(wait: bool) -> None:
    """Whether commits on new connections to PostgreSQL's test database wait for the disk."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit = {'on' if wait else 'off'}")
    connection.close()


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """Empty the tables after a test in a way that costs little.

    PostgreSQL's TRUNCATE makes new files for every table and waits for the disk. Content types and
    permissions stay, so they need not be made again, which is what ``post_migrate`` would do.
    """

    def sql_flush(self: Any, style: Any, tables: Any, **options: Any) -> list[str]:
        gone = [table for table in tables if table not in _KEPT]
        deletes = [f"DELETE FROM {self.quote_name(table)}" for table in gone]
        if self.connection.vendor == "mysql":
            return ["SET FOREIGN_KEY_CHECKS = 0", *deletes, "SET FOREIGN_KEY_CHECKS = 1"]
        return deletes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection.ops), "sql_flush", sql_flush)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *args, **options: None)
        yield


_KEPT = frozenset({"django_content_type", "auth_permission"})


class Caller:
    """Somebody who sends requests, with a session and a token."""

    asgi = False
    """Whether requests go through the ASGI handler. Their thread is the test's all the same."""

    def __init__(self, name: str) -> None:
        self._client = Client(raise_request_exception=False)
        with transaction.atomic():  # one commit, not one for each row
            self.user = User.objects.create_user(name)
            self.token = Token.objects.create(user=self.user)
            self._client.force_login(self.user)
        self._async_client = AsyncClient(raise_request_exception=False)
        self._async_client.cookies = self._client.cookies

    def post(self, path: str, data: Any = None, key: str | None = "k-1", **extra: Any) -> Any:
        """POST JSON (or what ``content_type`` says) under a key."""
        return self.send("post", path, data, key, **extra)

    def send(
        self, method: str, path: str, data: Any = None, key: str | None = "k-1", **extra: Any
    ) -> Any:
        headers = {"authorization": f"Token {self.token.key}"} | extra.pop("headers", {})
        if key is not None:
            headers["idempotency-key"] = key
        extra.setdefault("content_type", "application/json")
        client = self._async_client if self.asgi else self._client
        send = getattr(client, method)
        if self.asgi:
            send = async_to_sync(send)
        return send(path, data or {}, headers=headers, **extra)

    def get(self, path: str, **extra: Any) -> Any:
        return self._client.get(path, **extra)


def request_of(response: Any) -> Any:
    """Return Django's request of a test client's response."""
    return getattr(response, "wsgi_request", None) or response.asgi_request


@pytest.fixture
def caller(transactional_db: None) -> Iterator[Caller]:
    """No test may leave a transaction open, whatever its requests met."""
    yield Caller("ada.lovelace")
    assert not connection.in_atomic_block
    assert connection.get_autocommit()


def let_go() -> None:
    """End what works for a test in the background: copies that wait, leases of its attempts."""
    writer_of("redis").flush()
    for lease in list(renewer._due):
        renewer.drop(lease)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: Any) -> Iterator[RedisServer]:
    """A server for all tests that leave it running."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_server: RedisServer, settings: Any) -> Iterator[RedisServer]:
    """An empty Redis, behind the cache alias ``redis``."""
    redis_server.ask("FLUSHALL")
    # django-redis keeps pools by URL, and another test's counts nothing.
    ConnectionFactory._pools.clear()
    settings.CACHES = caches(redis_server.url, **COUNTING)
    yield redis_server
    let_go()


@pytest.fixture
def fragile_redis(tmp_path: Path, settings: Any) -> Iterator[RedisServer]:
    """A Redis that a test may stop and pause, behind the cache alias ``redis``."""
    breaker_of.cache_clear()
    with running_redis(tmp_path) as server:
        settings.CACHES = caches(server.url)
        yield server
        let_go()
    breaker_of.cache_clear()


@pytest.fixture
def kept_claim_connections(monkeypatch: Any) -> Iterator[None]:
    """With ATOMIC_REQUESTS claims have connections of their own, and with atomic=False locks. They
    are kept here, as they are outside of tests: there they would keep the test database from being
    dropped."""
    monkeypatch.setattr(claim_connections, "is_under_test", lambda: False)
    own_connections._pools.clear()
    yield
    for each in connections_at_rest():
        each.close()
    own_connections._pools.clear()


@pytest.fixture
def stranger(transactional_db: None) -> Caller:
    return Caller("stranger")


@pytest.fixture
def use_middleware(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


@pytest.fixture
def adapter(request: Any, settings: Any, monkeypatch: Any) -> str:
    """Set the project up for an adapter; return its path."""
    wanted: Adapter = request.param
    monkeypatch.setattr(Caller, "asgi", wanted.asgi)
    if wanted.middleware:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", wanted.atomic_requests)
    assert connection.settings_dict["ATOMIC_REQUESTS"] is wanted.atomic_requests
    return wanted.path


@pytest.fixture
def after_write(monkeypatch: Any) -> Callable[[Callable[[], None]], None]:
    """Let something happen in the view once, between its write and its answer."""

    def install(action: Callable[[], None]) -> None:
        def once() -> None:
            monkeypatch.setattr(views, "after_write", views.nothing)
            action()

        monkeypatch.setattr(views, "after_write", once)

    return install


def in_thread(function: Callable[[], Any]) -> "Rival":
    return Rival(function)


class Rival(threading.Thread):
    """Runs a function on connections of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        finally:
            connections.close_all()

    def result(self) -> Any:
        self.join(60)
        assert not self.is_alive(), "the rival hangs"
        if self._error is not None:
            raise self._error
        return self._result


row_locks = pytest.mark.skipif(
    settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"),
    reason="SQLite has no row locks; its duplicates wait instead",
)
