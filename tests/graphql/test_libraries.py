"""Mutations under a key, in the views of GraphQL libraries."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.graphql import idempotent_graphql
from django_idempotency.models import IdempotencyRecord
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.graphql_shop import VIEWS

pytestmark = pytest.mark.django_db(transaction=True)

urlpatterns = [
    *(path(f"{name}/", csrf_exempt(idempotent_graphql(view))) for name, view in VIEWS.items()),
    *(
        path(f"required/{name}/", csrf_exempt(idempotent_graphql(view, required=True)))
        for name, view in VIEWS.items()
    ),
    *(
        path(f"exempt/{name}/", csrf_exempt(idempotent_graphql(exempt=["login"])(view)))
        for name, view in VIEWS.items()
    ),
]

BUY = "mutation ($item: String!) { buy(item: $item) { id } }"
WITH_PRICE = "mutation ($item: String!) { buy(item: $item) { id price } }"
TWO = '{ one: buy(item: "vm") { id } two: buy(item: "nothing") { id } }'
QUERY = "{ orders }"


@pytest.fixture(autouse=True)
def _project(settings: Any, client: Client, django_user_model: Any) -> None:
    settings.ROOT_URLCONF = __name__
    client.force_login(django_user_model.objects.create_user("ada"))


@pytest.fixture
def library(request: Any, settings: Any, monkeypatch: Any) -> Any:
    """The name of a library, with its views guarded in one way or another."""
    around, name = request.param
    if around != "decorator":
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    if around == "atomic requests":
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    return name


AROUND = [
    (around, library)
    for around in ("decorator", "middleware", "atomic requests")
    for library in VIEWS
    # Django refuses the last one for async views.
    if around != "atomic requests" or not library.startswith("async")
]
everywhere = pytest.mark.parametrize("library", AROUND, indirect=True, ids=" ".join)
each_library = pytest.mark.parametrize("library", AROUND[: len(VIEWS)], indirect=True, ids=" ".join)


@pytest.fixture
def send(client: Client) -> Callable[..., Any]:
    def post(where: str, document: str = BUY, item: str = "vm", key: str | None = "k") -> Any:
        body = {"query": document, "variables": {"item": item}}
        headers = {} if key is None else {"idempotency-key": key}
        return client.post(f"/{where}/", json.dumps(body), "application/json", headers=headers)

    return post


def is_replay(response: Any) -> bool:
    return "Idempotency-Replayed" in response


@everywhere
def test_a_mutation_runs_once(library: str, send: Any) -> None:
    """I1, I6."""
    first, again = send(library), send(library)
    assert first.json() == {"data": {"buy": {"id": Order.objects.get().pk}}}
    assert (again.content, is_replay(again)) == (first.content, True)
    assert send(library, item="other").status_code == 422
    assert Order.objects.count() == 1


@everywhere
def test_queries_are_left_alone(library: str, send: Any) -> None:
    """They need no key, and are not stored under one."""
    answers = [send(f"required/{library}", QUERY, key=key) for key in ("k", None)]
    assert [each.json() for each in answers] == [{"data": {"orders": 0}}] * 2
    Order.objects.create(item="vm")
    assert send(library, QUERY).json() == {"data": {"orders": 1}}
    assert not IdempotencyRecord.objects.exists()
    missing = send(f"required/{library}", key=None)
    assert (missing.status_code, missing.json()["code"]) == (400, "idempotency_key_missing")
    malformed = send(library, key="a b\x7f")
    assert (malformed.status_code, malformed.json()["code"]) == (400, "idempotency_key_invalid")


@everywhere
def test_an_error_of_a_resolver_undoes_and_a_retry_runs(library: str, send: Any) -> None:
    """I2: what is not remembered did not happen, also beside a mutation that succeeded."""
    failed = send(library, f"mutation {TWO}")
    assert failed.status_code == 200
    assert failed.json()["data"] is None
    assert failed.json()["errors"][0]["path"] == ["two"]
    assert failed.json()["errors"][-1]["extensions"] == {"code": "IDEMPOTENCY_UNDONE"}
    assert not Order.objects.exists()
    again = send(library, f"mutation {TWO}")
    assert (is_replay(again), Order.objects.count()) == (False, 0)
    record = IdempotencyRecord.objects.get()
    assert (record.state, record.attempt) == ("claimed", 2)


@everywhere
def test_an_error_alone_is_sent_as_it_is(library: str, send: Any) -> None:
    failed = send(library, item="nothing")
    assert [each["path"] for each in failed.json()["errors"]] == [["buy"]]
    assert failed.json()["data"] == {"buy": None}
    assert not Order.objects.exists()


@each_library
def test_an_error_below_a_mutation_undoes_it_too(library: str, send: Any) -> None:
    """Its answer could not be replayed later without the error."""
    failed = send(library, WITH_PRICE, item="priceless")
    assert (failed.json()["data"], Order.objects.count()) == (None, 0)
    Order.objects.create(item="other")
    done = send(library, WITH_PRICE, item="vm", key="k-2")
    assert done.json()["data"]["buy"]["price"] == 7
    assert is_replay(send(library, WITH_PRICE, item="vm", key="k-2"))


@everywhere
@pytest.mark.parametrize("document", ["mutation {", "mutation { sell }", ""])
def test_a_request_that_was_not_executed_frees_its_key(
    library: str, document: str, send: Any
) -> None:
    """A client that has corrected it sends it again under the same key."""
    assert "vm" not in send(library, document).content.decode()
    assert send(library).json()["data"]["buy"]["id"]
    assert is_replay(send(library))


@everywhere
def test_mutations_can_be_exempt(library: str, send: Any) -> None:
    """A failed login must count, whatever the request says of keys (I2)."""
    document = "mutation ($item: String!) { ...F } fragment F on Mutation "
    document += "{ hidden: login(item: $item) { id } }"
    kept = 0 if library == "graphene" and connection.settings_dict["ATOMIC_REQUESTS"] else 1
    for attempts in (1, 2):
        answer = send(f"exempt/{library}", document, item="nothing")
        assert answer.json()["errors"][0]["path"] == ["hidden"]
        assert Order.objects.count() == attempts * kept  # as without a key
    assert not IdempotencyRecord.objects.exists()
    send(f"exempt/{library}", key="k-2")
    assert is_replay(send(f"exempt/{library}", key="k-2"))
