"""Prepared statements on PostgreSQL: only where the project allows them."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.adapters import every_adapter, few_adapters
from tests.support.counting import connections_at_rest
from tests.support.databases import DATABASE

pytestmark = [
    pytest.mark.skipif(DATABASE != "postgresql", reason="about PostgreSQL"),
    pytest.mark.usefixtures("kept_claim_connections"),
]
TABLE = "django_idempotency_idempotencyrecord"


@pytest.fixture
def connected(request: Any, caller: Caller) -> Iterator[None]:
    """A connection with the options of the test, and the usual one afterwards."""
    usual = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = usual | request.param
    connection.close()
    yield
    connection.settings_dict["OPTIONS"] = usual
    connection.close()


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


@options(prepare_threshold=0)
@every_adapter
def test_claim_lock_and_store_are_prepared(adapter: str, caller: Caller, connected: None) -> None:
    first = caller.post(adapter, {"item": "vm"}, key="k")
    replay = caller.post(adapter, {"item": "vm"}, key="k")
    assert (replay.status_code, replay.content) == (first.status_code, first.content)
    assert replay["Idempotency-Replayed"] == "true"
    assert caller.post(adapter, {"item": "another"}, key="k").status_code == 422
    assert Order.objects.count() == 1
    assert len(prepared()) == 3


@options(prepare_threshold=0, server_side_binding=True)
@few_adapters
def test_beside_django_s_own_bound_parameters(
    adapter: str, caller: Caller, connected: None
) -> None:
    first = caller.post(adapter, {"item": "vm"}, key="k")
    assert caller.post(adapter, {"item": "vm"}, key="k").content == first.content
    assert Order.objects.count() == 1


@options()
@few_adapters
def test_nothing_is_prepared_unasked(adapter: str, caller: Caller, connected: None) -> None:
    """A connection pooler may give each transaction another session of the server."""
    for key in "abcdefgh":
        assert caller.post(adapter, {"item": "vm"}, key=key).status_code == 201
    assert prepared() == []


@options(prepare_threshold=0)
def test_django_s_own_cursors_stay_as_they_are(caller: Caller, connected: None) -> None:
    caller.post("/orders/", {"item": "vm"}, key="k")
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", ["a parameter in the text"])
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $1'")
        assert cursor.fetchone() == (0,)
