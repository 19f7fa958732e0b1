"""The views of the pages about plain Django and DRF are guarded as the pages say."""

import json
import sys
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from django_idempotency.test import assert_idempotent
from tests.docs.pages import DOCS, blocks, text_of
from tests.shop import models
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE

JSON = "application/json"

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.fixture(params=[True, False], ids=["with middleware", "without"])
def use(request: Any, settings: Any, monkeypatch: Any) -> Any:
    """Make a page's code the URLconf, with and without the middleware."""
    if request.param:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    module = ModuleType("shop.models")
    vars(module).update(Order=models.Order)
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.models", module)

    def use_page(name: str) -> None:
        urlconf = ModuleType("page_of_docs")
        monkeypatch.setitem(sys.modules, "page_of_docs", urlconf)
        for code in blocks(text_of(DOCS / name), "python"):
            exec(compile(code, name, "exec"), vars(urlconf))
        settings.ROOT_URLCONF = "page_of_docs"

    return use_page


@pytest.mark.parametrize("path", ["/order/", "/reservation/"])
def test_plain_django(use: Any, client: Client, path: str) -> None:
    use("how-to/plain-django.md")
    key = {"idempotency-key": "k"}
    assert client.post(path, {"item": "vm"}, headers=key).status_code == 302  # to the login
    client.force_login(User.objects.create_user("ada"))
    assert_idempotent(client, path, {"item": "vm"}, creates=Order.objects.all())
    required = client.post("/reservation/", {"item": "vm"})
    assert (required.status_code, required.json()["code"]) == (400, "idempotency_key_missing")


def test_an_exempt_view(use: Any, client: Client) -> None:
    use("how-to/plain-django.md")
    client.force_login(User.objects.create_user("ada"))
    with pytest.raises(AssertionError, match="not guarded"):
        assert_idempotent(client, "/preview/")


@pytest.mark.parametrize("path", ["/orders/", "/orders/{}/repeat/", "/buy/"])
def test_rest_framework(use: Any, path: str) -> None:
    use("how-to/drf.md")
    client = APIClient()
    client.force_authenticate(User.objects.create_user("ada"))
    path = path.format(Order.objects.create(item="vm").pk)
    assert_idempotent(client, path, {"item": "vm"}, creates=Order.objects.all())
    with pytest.raises(AssertionError, match="not guarded"):
        assert_idempotent(client, "/orders/quote/")


@pytest.mark.parametrize("path", ["graphene", "strawberry"])
def test_graphql(path: str, use: Any, client: Client) -> None:
    use("how-to/graphql.md")
    client.force_login(User.objects.create_user("ada"))
    result = "{ number }" if path == "graphene" else ""
    document = {"query": f'mutation {{ placeOrder(item: "vm") {result} }}'}
    assert_idempotent(client, f"/{path}/", document, creates=Order.objects.all(), content_type=JSON)


def test_graphql_with_keys_in_the_document(use: Any, client: Client) -> None:
    use("how-to/graphql.md")
    client.force_login(User.objects.create_user("ada"))

    def post(path: str, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables})
        return client.post(path, body, JSON)

    buy = 'mutation { placeOrder(item: "vm") }'
    for _ in range(2):
        answer = post("/relay/", buy, input={"clientMutationId": "m-1"})
    assert (Order.objects.count(), "Idempotency-Replayed" in answer) == (1, True)
    assert "Idempotency-Replayed" not in post("/relay/", buy)


@pytest.mark.django_db(transaction=True)
def test_graphql_with_a_key_of_each_mutation(use: Any, client: Client) -> None:
    """One of them fails; the others are done, and a retry does that one alone."""
    use("how-to/graphql.md")
    client.force_login(User.objects.create_user("ada"))
    calls = " ".join(f'{key}: placeOrder(key: "{key}", item: "vm")' for key in "ab")

    def post(more: str) -> Any:
        body = json.dumps({"query": f"mutation {{ {calls} {more} }}"})
        return client.post("/keyed/", body, JSON).json()

    first = post('c: placeOrder(key: "a", item: "other")')
    assert [each["path"] for each in first["errors"]] == [["c"]]
    again = post('d: placeOrder(key: "d", item: "vm")')
    assert Order.objects.count() == 3
    assert "errors" not in again
