"""Prepared statements on PostgreSQL: wherever names are sure to last."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from django.db import connection

from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import every_adapter, few_adapters
from tests.support.counting import connections_at_rest
from tests.support.databases import DATABASE

compat = pytest.importorskip("django_idempotency.compat.psycopg")
pytestmark = [
    pytest.mark.skipif(DATABASE != "postgresql", reason="about PostgreSQL"),
    pytest.mark.usefixtures("kept_claim_connections"),
]
TABLE = "django_idempotency_idempotencyrecord"


@pytest.fixture(autouse=True)
def _trusting() -> Iterator[None]:
    compat.trust()
    yield
    compat.trust()


@pytest.fixture
def connected(request: Any, caller: Caller) -> Iterator[None]:
    """A connection with the options of the test, and the usual one afterwards."""
    usual = connection.settings_dict["OPTIONS"]
    connection.close()
    connection.settings_dict["OPTIONS"] = usual | request.param
    yield
    connection.close()
    cast(Any, connection).close_pool()
    connection.settings_dict["OPTIONS"] = usual


def prepared() -> list[str]:
    """What our connections have prepared about records."""
    statements = []
    for each in (connection, *connections_at_rest()):
        with each.cursor() as cursor:
            cursor.execute("SELECT statement FROM pg_prepared_statements")
            statements += [text for (text,) in cursor.fetchall() if TABLE in text]
    return statements


def options(**given: Any) -> Any:
    return pytest.mark.parametrize("connected", [given], indirect=True)


def connect_directly(caller: Caller, adapter: str) -> None:
    """The first statement on a connection learns that no pooler stands between, and the second one
    is prepared."""
    for key in ("warm-up", "prepares"):
        assert caller.post(adapter, {"item": "vm"}, key=key).status_code == 201


@options()
@every_adapter
def test_claim_lock_and_store_are_prepared(adapter: str, caller: Caller, connected: None) -> None:
    connect_directly(caller, adapter)
    first = caller.post(adapter, {"item": "vm"}, key="k")
    replay = caller.post(adapter, {"item": "vm"}, key="k")
    assert (replay.status_code, replay.content) == (first.status_code, first.content)
    assert replay["Idempotency-Replayed"] == "true"
    assert caller.post(adapter, {"item": "another"}, key="k").status_code == 422
    assert Order.objects.count() == 3
    assert len(prepared()) == 3


@options(prepare_threshold=None)
@few_adapters
def test_nothing_is_prepared_where_the_project_forbids_it(
    adapter: str, caller: Caller, connected: None
) -> None:
    for key in "abcdefgh":
        assert caller.post(adapter, {"item": "vm"}, key=key).status_code == 201
    assert prepared() == []


@options(prepare_threshold=0)
@every_adapter
def test_only_the_claim_where_psycopg_deallocates(
    adapter: str, caller: Caller, connected: None
) -> None:
    """psycopg forgets all that is prepared when a savepoint is rolled back. Then a store by name
    would be the end of the view's transaction."""
    connect_directly(caller, adapter)
    assert caller.post(adapter, {"item": "vm"}, key="k").status_code == 201
    assert len(prepared()) == 1


@options(server_side_binding=True)
@few_adapters
def test_beside_django_s_own_bound_parameters(
    adapter: str, caller: Caller, connected: None
) -> None:
    connect_directly(caller, adapter)
    first = caller.post(adapter, {"item": "vm"}, key="k")
    assert caller.post(adapter, {"item": "vm"}, key="k").content == first.content
    assert Order.objects.count() == 3


def execute(sql: str) -> None:
    for each in (connection, *connections_at_rest()):
        with each.cursor() as cursor:
            cursor.execute(sql)


def deallocate() -> None:
    execute("DISCARD ALL")


@options()
@few_adapters
def test_a_project_may_deallocate_between_requests(
    adapter: str, caller: Caller, connected: None
) -> None:
    """The claim notices, and then the lock and the store have other names, too, wherever they are
    sent. If it goes on like that, nothing is sent by name any more."""
    connect_directly(caller, adapter)
    for key in range(compat._FORGIVEN + 2):
        deallocate()
        assert caller.post(adapter, {"item": "vm"}, key=f"k-{key}").status_code == 201
    assert Order.objects.count() == compat._FORGIVEN + 4
    assert prepared() == []


def reset(session: Any) -> None:
    """As PgBouncer does, and as ``psycopg_pool`` lets a project do."""
    session.execute("DISCARD ALL")
    session.commit()


@options(pool={"min_size": 1, "max_size": 4, "reset": reset})
@few_adapters
def test_a_pool_that_resets_its_connections(adapter: str, caller: Caller, connected: None) -> None:
    """With ``ATOMIC_REQUESTS`` the claim, on another connection, would not notice that the lock's
    name is gone."""
    pytest.importorskip("psycopg_pool")
    for key in range(4):
        assert caller.post(adapter, {"item": "vm"}, key=f"k-{key}").status_code == 201
        connection.close()


@options()
@few_adapters
def test_a_table_may_change_between_requests(adapter: str, caller: Caller, connected: None) -> None:
    """A plan must not change the type of its result, so there are new plans."""
    connect_directly(caller, adapter)
    change = f"ALTER TABLE {TABLE} ALTER COLUMN response_status TYPE"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_typeof(response_status)::text FROM " + TABLE)
        (usual,) = cursor.fetchone()
    try:
        for key, kind in (("a", "bigint"), ("b", usual)):
            with connection.cursor() as cursor:
                cursor.execute(f"{change} {kind}")
            assert caller.post(adapter, {"item": "vm"}, key=key).status_code == 201
            assert caller.post(adapter, {"item": "vm"}, key=key)["Idempotency-Replayed"] == "true"
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"{change} {usual}")
    assert compat._unprepared == set()


@options()
@few_adapters
def test_a_view_may_deallocate(
    adapter: str, caller: Caller, connected: None, monkeypatch: Any
) -> None:
    """I2: its response is stored under another name, or the error would undo its writes."""
    connect_directly(caller, adapter)
    monkeypatch.setattr(views, "after_write", lambda: execute("DEALLOCATE ALL"))
    for key in "abc":
        assert caller.post(adapter, {"item": "vm"}, key=key).status_code == 201
    assert Order.objects.count() == 5


@options()
@few_adapters
def test_a_view_that_deallocates_through_the_driver_fails_once(
    adapter: str, caller: Caller, connected: None, monkeypatch: Any
) -> None:
    """I2: nobody sees that. Its writes are undone, and its retry runs without prepared
    statements."""
    connect_directly(caller, adapter)
    monkeypatch.setattr(views, "after_write", deallocate_through_the_driver)
    answers = [caller.post(adapter, {"item": "vm"}, key="k").status_code for _ in "12"]
    assert answers == [500, 201]
    assert Order.objects.count() == 3


def deallocate_through_the_driver() -> None:
    connection.connection.execute("DEALLOCATE ALL")


@options()
def test_django_s_own_cursors_stay_as_they_are(caller: Caller, connected: None) -> None:
    caller.post("/orders/", {"item": "vm"}, key="k")
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", ["a parameter in the text"])
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $1'")
        assert cursor.fetchone() == (0,)
