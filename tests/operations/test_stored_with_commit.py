"""A guard that ends inside Django's block of ``ATOMIC_REQUESTS``: its response is stored with
Django's COMMIT, or before whatever comes first (I2)."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from rest_framework.authtoken.models import Token

from django_idempotency.compat.request_block import LastStatement
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.errors import LostRecord
from django_idempotency.signals import SIGNALS
from django_idempotency.stores.cache.replay_cache import writer_of
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.support import behind_guard
from tests.support.redis_server import RedisServer

pytestmark = row_locks  # SQLite's guard leaves the block, if nothing was written in it
MARKER = "Idempotency-Replayed"
seen: list[str] = []


@pytest.fixture(autouse=True)
def _project(settings: Any, monkeypatch: Any) -> None:
    settings.ROOT_URLCONF = behind_guard.__name__
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    seen.clear()


@pytest.fixture(params=["/function/", "/rest/"])
def url(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def then(monkeypatch: Any) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Let something happen once, between the end of the guard and that of Django's block."""

    def install(action: Callable[[], None]) -> None:
        def once() -> None:
            monkeypatch.setattr(behind_guard, "after", lambda: None)
            action()

        monkeypatch.setattr(behind_guard, "after", once)

    yield install
    assert LastStatement not in {type(each.__self__) for each in bound_wrappers()}
    assert "_commit" not in vars(connection)


def bound_wrappers() -> list[Any]:
    return [each for each in connection.execute_wrappers if hasattr(each, "__self__")]


def items() -> set[str]:
    return set(Order.objects.values_list("item", flat=True))


def assert_replays(caller: Caller, url: str, first: Any) -> None:
    retry = caller.post(url, {"item": "vm"})
    assert (retry.status_code, retry.content, retry[MARKER]) == (201, first.content, "true")


def assert_runs(caller: Caller, url: str) -> None:
    """Nothing was stored, and nothing of the attempt before is left on the connection."""
    assert not Order.objects.exists()
    retry = caller.post(url, {"item": "vm"})
    assert (retry.status_code, MARKER in retry) == (201, False)
    assert items() == {"vm"}
    assert IdempotencyRecord.objects.get().state == "completed"


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_a_query_behind_the_guard_comes_after_the_store(
    url: str, caller: Caller, then: Any
) -> None:
    then(lambda: Order.objects.create(item="after") and None)
    with CaptureQueriesContext(connection) as queries:
        first = caller.post(url, {"item": "vm"})
    assert items() == {"vm", "after"}
    sent = [each["sql"] for each in queries.captured_queries]
    (stored,) = [at for at, sql in enumerate(sent) if "SET" in sql and "response_body" in sql]
    (written,) = [at for at, sql in enumerate(sent) if "INSERT" in sql and "'after'" in sql]
    assert stored < written
    assert_replays(caller, url, first)


def test_a_savepoint_behind_the_guard_does_not_hold_the_response(
    url: str, caller: Caller, then: Any
) -> None:
    def heal() -> None:
        with suppress(ValueError), transaction.atomic():
            raise ValueError

    then(heal)
    assert_replays(caller, url, caller.post(url, {"item": "vm"}))
    assert items() == {"vm"}


@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
def test_sql_that_ends_the_transaction_ends_it_for_both(
    url: str, sql: str, caller: Caller, then: Any
) -> None:
    """The writes are not committed without the response."""
    then(lambda: execute(sql))
    first = caller.post(url, {"item": "vm"})
    if sql == "COMMIT":
        assert items() == {"vm"}
        assert_replays(caller, url, first)
    else:
        assert_runs(caller, url)


def fail() -> None:
    raise ValueError


@pytest.mark.parametrize(
    "end", [fail, lambda: transaction.set_rollback(True), lambda: connection.close()]
)
def test_what_undoes_the_block_forgets_the_response(
    url: str, end: Callable[[], None], caller: Caller, then: Any
) -> None:
    then(end)
    caller.post(url, {"item": "vm"})
    assert_runs(caller, url)


def take_over() -> None:
    IdempotencyRecord.objects.update(attempt=F("attempt") + 1)


@pytest.fixture
def outcomes() -> Iterator[list[str]]:
    found: list[str] = []

    def receiver(event: Any, **kwargs: Any) -> None:
        found.append(str(event.outcome))

    for signal in SIGNALS.values():
        signal.connect(receiver)
    yield found
    for signal in SIGNALS.values():
        signal.disconnect(receiver)


class TestRecordOfAnother:
    """I12: the store matches no row."""

    @pytest.fixture(autouse=True)
    def _lost(self, after_write: Any) -> None:
        def lose() -> None:
            transaction.on_commit(lambda: seen.append("hook"))
            take_over()

        after_write(lose)

    def test_nothing_is_committed(self, url: str, caller: Caller, outcomes: list[str]) -> None:
        assert caller.post(url, {"item": "vm"}).status_code == 500
        assert outcomes == ["interrupted"]
        assert_runs(caller, url)
        assert seen == []

    def test_an_error_that_is_caught_commits_nothing(
        self, url: str, caller: Caller, then: Any
    ) -> None:
        def catch() -> None:
            with suppress(LostRecord):
                execute("SELECT 1")

        then(catch)
        caller.post(url, {"item": "vm"})
        assert_runs(caller, url)


def test_the_outcome_is_told_when_it_is_committed(
    url: str, caller: Caller, then: Any, outcomes: list[str]
) -> None:
    then(lambda: seen.extend(outcomes))
    assert caller.post(url, {"item": "vm"}).status_code == 201
    assert (seen, outcomes) == ([], ["executed"])


def test_hooks_run_when_rivals_see_the_response(
    url: str, caller: Caller, after_write: Any, then: Any
) -> None:
    def look() -> None:
        seen.append(
            in_thread(IdempotencyRecord.objects.values_list("state", flat=True).get).result()
        )

    after_write(lambda: transaction.on_commit(look))
    then(lambda: transaction.on_commit(lambda: seen.append("later")))
    assert caller.post(url, {"item": "vm"}).status_code == 201
    assert seen == ["completed", "later"]


@pytest.mark.skipif(connection.vendor == "mysql", reason="constraints are checked at once")
def test_an_error_of_the_commit_is_that_error(url: str, caller: Caller, after_write: Any) -> None:
    after_write(lambda: Token.objects.create(key="k", user_id=10**6) and None)
    caller._client.raise_request_exception = True
    with pytest.raises(DatabaseError, match=r"authtoken_token|FOREIGN KEY"):
        caller.post(url, {"item": "vm"})
    assert_runs(caller, url)


@pytest.mark.processes
def test_its_copy_is_made_when_it_is_committed(
    url: str, caller: Caller, then: Any, redis: RedisServer, settings: Any
) -> None:
    settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
    then(fail)
    assert caller.post(url, {"item": "vm"}).status_code == 500
    first = caller.post(url, {"item": "vm"})
    writer_of("redis").flush()
    with CaptureQueriesContext(connection) as queries:
        assert_replays(caller, url, first)
    assert not [each for each in queries.captured_queries if "idempotency" in each["sql"]]


class Interruption(BaseException):
    """As a time limit, or the end of a worker, raises one."""


@pytest.mark.django_db(transaction=True)
def test_an_interruption_stays_what_it_is_and_leaves_no_closed_session() -> None:
    """A worker that is to end must not see an error of the database instead."""

    def send(commits: bool) -> None:
        connection.connection.close()
        raise Interruption

    def hook() -> None: ...

    @transaction.atomic
    def write() -> None:
        execute("SELECT 1")
        transaction.on_commit(hook)
        LastStatement(connections["default"], hook, send, lambda: None)

    with pytest.raises(Interruption):
        write()
    execute("SELECT 1")
