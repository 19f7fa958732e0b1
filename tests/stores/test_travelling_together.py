"""On MariaDB and MySQL transaction control travels with the lock and the store."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.base import Started
from django_idempotency.operations.errors import LostRecord, LostWrites
from django_idempotency.protocol.record import StoredResponse
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller, in_thread
from tests.shop.models import Order
from tests.support.adapters import few_adapters
from tests.support.databases import DATABASE
from tests.support.operations import CREATED, a_claim, an_operation

pytestmark = [
    pytest.mark.skipif(DATABASE != "mariadb", reason="about MariaDB and MySQL"),
    pytest.mark.django_db(transaction=True),
]
BOTH = "SAVEPOINT idempotency_lock; SELECT"
"""How a lock begins that takes the transaction's beginning along."""


@pytest.fixture
def one_by_one() -> Iterator[None]:
    """A connection whose driver sends one statement at a time, and the usual one afterwards."""
    usual = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = usual | {"multi_statements": False}
    connection.close()
    yield
    connection.settings_dict["OPTIONS"] = usual
    connection.close()


@pytest.fixture
def behind_a_proxy() -> Iterator[None]:
    """As behind ProxySQL, which tells the driver only about what it has read itself."""
    connection.ensure_connection()
    session: Any = connection.connection
    switch, told = session.autocommit, [session.get_autocommit()]

    def autocommit(on: bool) -> None:
        if told != [bool(on)]:
            with session.cursor() as cursor:
                cursor.execute(f"SET autocommit = {on:d}")
            told[0] = bool(on)

    assert switch is not None
    session.get_autocommit, session.autocommit = (lambda: told[0]), autocommit
    yield
    connection.close()


def is_in_autocommit() -> bool:
    """What the server says, and nothing may be left open."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@autocommit, @@in_transaction")
        return bool(cursor.fetchone() == (1, 0))


def orders_of_others() -> int:
    return int(in_thread(Order.objects.count).result())


def watching(call: Callable[[str], None]) -> Any:
    """An execute wrapper that calls something before each statement."""

    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        call(sql)
        return execute(sql, *rest)

    return connection.execute_wrapper(wrapper)


def test_a_view_runs_with_autocommit_off() -> None:
    """I2."""
    operation = an_operation()
    assert operation.begin() == Started()
    assert not connection.connection.get_autocommit()
    Order.objects.create(item="vm")
    assert orders_of_others() == 0
    operation.fail(ValueError())
    assert is_in_autocommit()
    assert orders_of_others() == 0


def test_what_is_sent_before_the_lock_belongs_to_the_transaction() -> None:
    """I2: an execute wrapper of the project sends its own statement first."""

    def write(sql: str) -> None:
        if sql.startswith(BOTH):
            Order.objects.create(item="of the wrapper")

    operation = an_operation()
    with watching(write):
        assert operation.begin() == Started()
        assert not connection.connection.get_autocommit()
        assert orders_of_others() == 0
    operation.fail(ValueError())
    assert orders_of_others() == 0
    assert is_in_autocommit()


def test_a_lock_that_is_not_sent_leaves_nothing_behind() -> None:
    def refuse(sql: str) -> None:
        if sql.startswith(BOTH):
            raise ValueError("not now")

    wrappers = list(connection.execute_wrappers)
    with watching(refuse), pytest.raises(ValueError, match="not now"):
        an_operation().begin()
    assert connection.execute_wrappers == wrappers
    Order.objects.create(item="vm")
    assert orders_of_others() == 1


def test_a_session_that_is_killed_before_the_lock_runs_nothing() -> None:
    """I2: neither on this connection nor on another one."""
    connection.ensure_connection()
    session: Any = connection.connection
    number = session.thread_id()

    def kill(sql: str) -> None:
        if sql.startswith(BOTH):
            in_thread(lambda: _run(f"KILL {number}")).result()

    with watching(kill), pytest.raises(OperationalError):
        an_operation().begin()
    assert not connection.in_atomic_block
    assert is_in_autocommit()
    retry = an_operation()
    assert retry.begin() == Started()
    assert retry.finish(CREATED) is True


def test_a_store_that_matches_no_row_commits_nothing() -> None:
    operation = an_operation()
    assert operation.begin() == Started()
    Order.objects.create(item="vm")
    IdempotencyRecord.objects.update(attempt=7)
    with pytest.raises(LostRecord):
        operation.finish(CREATED)
    assert orders_of_others() == 0
    assert is_in_autocommit()


def test_a_session_that_is_killed_before_the_store_has_committed_nothing() -> None:
    """I2: the error at the commit is what it was."""
    operation = an_operation()
    assert operation.begin() == Started()
    Order.objects.create(item="vm")
    number = connection.connection.thread_id()
    in_thread(lambda: _run(f"KILL {number}")).result()
    with pytest.raises(OperationalError):
        operation.finish(CREATED)
    assert orders_of_others() == 0
    retry = an_operation()
    assert retry.begin() == Started()
    assert retry.finish(CREATED) is True


@pytest.mark.parametrize("status", [201, 404])
def test_a_transaction_that_has_ended_unseen_stores_no_success(status: int) -> None:
    """I2: a procedure rolls back; what follows is another transaction."""
    operation = an_operation()
    assert operation.begin() == Started()
    Order.objects.create(item="before")
    session: Any = connection.connection
    session.rollback()
    Order.objects.create(item="after")
    if status == 201:
        with pytest.raises(LostWrites, match="has ended"):
            operation.finish(CREATED)
    else:
        assert operation.finish(StoredResponse(404)) is True
    assert orders_of_others() == 0
    assert is_in_autocommit()


def test_nothing_is_sent_in_autocommit() -> None:
    """I2: the driver knows when a procedure has switched it on."""
    operation = an_operation()
    assert operation.begin() == Started()
    with connection.cursor() as cursor:
        cursor.cursor.execute("SET autocommit = 1")
    with pytest.raises(DatabaseError, match="has ended"):
        Order.objects.create(item="vm")
    operation.fail(ValueError())
    assert orders_of_others() == 0


def test_hooks_and_the_query_log_see_a_commit(caller: Caller, use_middleware: None) -> None:
    caller.post("/rest/", {"item": "warm"}, key="warm-up")
    with CaptureQueriesContext(connection) as captured:
        assert caller.post("/rest/", {"item": "vm"}, key="k").status_code == 201
    sent = [each["sql"] for each in captured]
    (begin,) = [number for number, sql in enumerate(sent) if sql == "BEGIN"]
    assert sent[begin + 1].startswith(f"START TRANSACTION; SET autocommit = 0; {BOTH}")
    assert sent[-2].startswith("RELEASE SAVEPOINT idempotency_lock; UPDATE")
    assert sent[-2].endswith("SET autocommit = (ROW_COUNT() = 1)")
    assert sent[-1] == "COMMIT"


def test_hooks_run_when_it_is_committed() -> None:
    seen: list[int] = []
    operation = an_operation()
    assert operation.begin() == Started()
    Order.objects.create(item="vm")
    transaction.on_commit(lambda: seen.append(orders_of_others()))
    assert operation.finish(CREATED) is True
    assert seen == [1]
    assert "_commit" not in vars(connection)


def test_only_one_commit_is_left_out() -> None:
    operation = an_operation()
    operation.begin()
    operation.finish(CREATED)
    with transaction.atomic():
        Order.objects.create(item="vm")
    assert orders_of_others() == 1


def test_a_lock_outlives_a_savepoint_of_its_caller() -> None:
    """To release a savepoint is to release those that were set after it."""
    store = DatabaseStore("default")
    claimed = store.claim(a_claim())
    assert claimed is not None
    with transaction.atomic():
        with transaction.atomic():
            locked = store.lock(claimed.id, a_claim().retention)
        assert locked is not None
        assert store.complete(locked, CREATED, a_claim().retention)


@few_adapters
@pytest.mark.parametrize("driver", ["one_by_one", "behind_a_proxy"])
def test_other_drivers_and_proxies(adapter: str, driver: str, caller: Caller, request: Any) -> None:
    caller.post(adapter, {"item": "warm"}, key="warm-up")
    request.getfixturevalue(driver)
    first, retry = (caller.post(adapter, {"item": "vm"}, key="k") for _ in range(2))
    assert (first.status_code, retry.content) == (201, first.content)
    assert retry["Idempotency-Replayed"] == "true"
    assert in_thread(Order.objects.filter(item="vm").count).result() == 1
    assert is_in_autocommit()


def _run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
