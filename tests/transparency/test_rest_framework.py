"""I15: exception handlers, pages and forms of Django REST framework."""

import re
from typing import Any

import pytest
from django.test import Client
from rest_framework.views import exception_handler

from django_idempotency.adapters.drf import IdempotencyError
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.transparency.project import MARKER, handled


def noting_handler(error: Exception, context: Any) -> Any:
    handled.append(error)
    response = exception_handler(error, context)
    if response is not None and isinstance(error, IdempotencyError):
        response.data = {"error": error.problem.code}
    return response


class TestDrfExceptionHandler:
    @pytest.fixture(autouse=True)
    def _handler(self, settings: Any) -> None:
        name = f"{__name__}.noting_handler"
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": name}

    @pytest.mark.parametrize("name", ["missing", "forbidden", "invalid"])
    @pytest.mark.parametrize("adapter", ["/drf/", "/decorated-drf/"])
    def test_gets_what_the_view_raises_once(
        self, adapter: str, name: str, caller: Caller, use_middleware: None
    ) -> None:
        first, retry = caller.post(adapter + name), caller.post(adapter + name)
        assert (retry.status_code, retry.content) == (first.status_code, first.content)
        assert len(handled) == (2 if name == "forbidden" else 1)

    @pytest.mark.parametrize("middleware", [False, True])
    def test_gets_our_problems(self, middleware: bool, caller: Caller, settings: Any) -> None:
        if middleware:
            settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        caller.post("/drf-errors/", {"item": "a"})
        for status, key in ((422, "k-1"), (400, "not a key")):
            response = caller.post("/drf-errors/", {"item": "b"}, key=key)
            [error] = handled
            assert isinstance(error, IdempotencyError)
            assert response.status_code == error.problem.status == error.status_code == status
            assert response.json() == {"error": error.problem.code}
            handled.clear()

    @row_locks
    def test_gets_conflicts_with_the_time_to_wait(self, caller: Caller, after_write: Any) -> None:
        rivals = []
        after_write(lambda: rivals.append(in_thread(lambda: caller.post("/drf-errors/")).result()))
        assert caller.post("/drf-errors/").status_code == 201
        [rival], [error] = rivals, handled
        assert (rival.status_code, rival["Retry-After"]) == (409, "1")
        assert rival.json() == {"error": "idempotency_in_flight"}
        assert isinstance(error, IdempotencyError)
        assert error.problem.retry_after == error.wait == 1


def masked(page: bytes) -> bytes:
    """A page without what differs from request to request: numbers and CSRF tokens."""
    page = re.sub(rb'(csrfmiddlewaretoken"|csrfToken": ?)( value=)?"\w+"', b"", page)
    return re.sub(rb"\d+", b"0", page.replace(b"guarded-", b""))


@pytest.mark.parametrize(
    ("catalogue", "middleware"),
    [("/catalogue/", True), ("/guarded-catalogue/", False), ("/guarded-catalogue/", True)],
)
class TestCatalogue:
    """Pages, links and the browsable API."""

    @pytest.fixture
    def guarded(self, catalogue: str, middleware: bool, caller: Caller, settings: Any) -> Client:
        if middleware:
            settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        Order.objects.bulk_create(Order(item=f"item {number}") for number in range(5))
        return caller._client

    @pytest.fixture
    def bare(self, guarded: Client, caller: Caller, settings: Any) -> Client:
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        client = Client()
        client.force_login(caller.user)
        client.get("/catalogue/")
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        return client

    @pytest.mark.parametrize("accept", ["application/json", "text/html"])
    def test_pages_are_the_same(
        self, accept: str, catalogue: str, guarded: Client, bare: Client
    ) -> None:
        headers = {"accept": accept, "idempotency-key": "k-1"}
        page = guarded.get(f"{catalogue}?page=2", headers=headers)
        expected = bare.get("/catalogue/?page=2", headers=headers)
        assert b"item 2" in page.content
        assert masked(page.content) == masked(expected.content)

    def test_the_form_of_the_browsable_api(
        self, catalogue: str, guarded: Client, bare: Client
    ) -> None:
        def submit(client: Client, path: str) -> Any:
            headers = {"accept": "text/html", "idempotency-key": "k-1"}
            return client.post(path, {"item": "vm"}, headers=headers)

        expected = submit(bare, "/catalogue/")
        first, retry = submit(guarded, catalogue), submit(guarded, catalogue)
        assert masked(first.content) == masked(expected.content)
        for name in ("Allow", "Vary", "Content-Type"):
            assert first[name] == expected[name]
        assert guarded.get(first["Location"]).json()["item"] == "vm"
        # The page holds forms, and those a CSRF token: it is not stored.
        assert (first.status_code, retry.status_code) == (201, 409)
        assert retry.json()["original_status"] == 201
        assert Order.objects.filter(item="vm").count() == 2


@pytest.mark.parametrize("path", ["/inherits/", "/decorated-inherits/"])
def test_handlers_that_extend_inherited_ones(
    path: str, use_middleware: None, caller: Caller
) -> None:
    first, retry = caller.post(path), caller.post(path)
    assert retry[MARKER] == "true"
    assert retry.content == first.content
