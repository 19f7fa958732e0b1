"""The views of the pages about plain Django and DRF are guarded as the pages say."""

import sys
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.test import APIClient

from django_idempotency.test import assert_idempotent
from tests.docs.pages import DOCS, blocks, text_of
from tests.shop import models
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE

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


def test_graphql(use: Any, client: Client, monkeypatch: Any) -> None:
    """Errors are not remembered, although their status is 200; data are."""
    use("how-to/graphql.md")
    page: Any = sys.modules["page_of_docs"]
    page.urlpatterns = [path("graphql/", csrf_exempt(page.GraphQLView.as_view()))]
    answers = iter([{"errors": [{"message": "locked"}]}, {"data": {"order": 1}}])

    def execute(document: object) -> object:
        Order.objects.create(item=f"{document}")
        return next(answers)

    monkeypatch.setattr(page, "execute", execute)
    client.force_login(User.objects.create_user("ada"))
    tries = [
        client.post("/graphql/", "{}", "application/json", headers={"idempotency-key": "k"})
        for _ in range(3)
    ]
    assert [each.status_code for each in tries] == [200, 200, 200]
    assert ["errors" in each.json() for each in tries] == [True, False, False]
    assert ["Idempotency-Replayed" in each for each in tries] == [False, False, True]
    assert Order.objects.count() == 1
