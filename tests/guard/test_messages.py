"""A message that a view leaves for the next page is seen once, whichever response is lost."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.messages.storage.cookie import CookieStorage

from django_idempotency.http.messages import RECEIPT
from django_idempotency.models import IdempotencyRecord
from tests.conftest import in_thread, row_locks
from tests.support import carts
from tests.support.adapters import usual_and_whole
from tests.support.carts import (
    SAID,
    STORAGES,
    Visitor,
    before_store,
    close_shop,
    open_shop,
    use,
)
from tests.support.interruptions import Crash, crash
from tests.support.waiters import until_somebody_waits

pytestmark = [pytest.mark.urls(carts.__name__)]


@pytest.fixture(params=STORAGES, autouse=True)
def storage(request: Any, settings: Any, transactional_db: None) -> Iterator[str]:
    open_shop(settings, request.param)
    yield request.param
    close_shop()


@pytest.fixture(
    params=usual_and_whole(
        ["/function/", "/decorated-async/", "/decorated-rest/"], ["/decorated-class/", "/rest/"]
    )
)
def where(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def visitor() -> Visitor:
    visitor = Visitor()
    visitor.page(add="vm")
    return visitor


def seen(visitor: Visitor) -> list[list[str]]:
    """What two pages in turn show."""
    return [visitor.page()["said"] for _ in range(2)]


class TestSeenOnce:
    def test_the_first_response_arrives(self, visitor: Visitor, where: str) -> None:
        visitor.post(where)
        assert seen(visitor) == [[SAID], []]
        assert visitor.post(where)["Idempotency-Replayed"] == "true"
        assert seen(visitor) == [[], []]

    def test_it_is_lost_after_the_commit(self, visitor: Visitor, where: str) -> None:
        visitor.lose(where)
        visitor.post(where)
        assert seen(visitor) == [[SAID], []]
        visitor.post(where)
        assert seen(visitor) == [[], []]

    def test_it_is_lost_on_its_way(self, visitor: Visitor, where: str) -> None:
        """The browser has dropped it with the first of two clicks."""
        visitor.drop(where)
        visitor.post(where)
        assert seen(visitor) == [[SAID], []]
        visitor.post(where)
        assert seen(visitor) == [[], []]

    def test_the_replay_is_lost_too(self, visitor: Visitor, where: str) -> None:
        visitor.drop(where)
        visitor.drop(where)
        visitor.post(where)
        assert seen(visitor) == [[SAID], []]

    def test_both_arrive_before_the_next_page(self, visitor: Visitor, where: str) -> None:
        visitor.post(where)
        visitor.post(where)
        assert seen(visitor) == [[SAID], []]

    def test_the_worker_dies_before_the_commit(self, visitor: Visitor, where: str) -> None:
        before_store.append(crash)
        with pytest.raises(Crash):
            visitor.post(where)
        assert visitor.page()["said"] == []
        visitor.post(where)
        assert seen(visitor) == [[SAID], []]

    @pytest.mark.parametrize("outcome", ["403", "404", "400"])
    def test_other_answers(self, visitor: Visitor, where: str, outcome: str) -> None:
        assert visitor.post(where, outcome=outcome).status_code == int(outcome)
        assert seen(visitor) == [[SAID], []]

    def test_a_page_that_asks_for_more_says_something_else(
        self, visitor: Visitor, where: str
    ) -> None:
        """Its messages are no messages of the operation, for which nothing was done."""
        assert visitor.post(where, outcome="invalid").status_code == 200
        assert seen(visitor) == [[SAID], []]
        visitor.drop(where)
        visitor.post(where)
        assert seen(visitor) == [[SAID], []]

    def test_two_operations(self, visitor: Visitor, where: str) -> None:
        visitor.post(where, key="k-1")
        visitor.drop(where, key="k-2")
        visitor.post(where, key="k-1")
        visitor.post(where, key="k-2")
        assert seen(visitor) == [[SAID, SAID], []]
        visitor.post(where, key="k-1")
        visitor.post(where, key="k-2")
        assert seen(visitor) == [[], []]

    @row_locks
    def test_two_clicks_at_once(self, visitor: Visitor, settings: Any) -> None:
        use(settings, in_flight="wait")
        rivals = []

        def click_again() -> None:
            second = visitor.same_browser()
            rivals.append((second, in_thread(lambda: second.post("/function/"))))
            until_somebody_waits()

        before_store.append(click_again)
        visitor.drop("/function/")
        second, answer = rivals[0]
        assert answer.result()["Idempotency-Replayed"] == "true"
        assert seen(second) == [[SAID], []]


class TestKept:
    """What is kept of a message, and where."""

    def test_what_is_safe_and_what_is_not(self, visitor: Visitor, where: str) -> None:
        visitor.drop(where, outcome="safe")
        visitor.post(where, outcome="safe")
        page = visitor.page()
        assert (page["said"], page["safe"]) == ([SAID, "<b>safe</b>"], [False, True])

    def test_levels_and_tags(self, visitor: Visitor, where: str, settings: Any) -> None:
        settings.MESSAGE_LEVEL = 30  # the view overrides it
        visitor.drop(where, outcome="level safe")
        visitor.post(where, outcome="level safe")
        assert visitor.page()["tags"] == ["success", "big info"]

    def test_a_message_from_before_the_view_is_not_the_views(
        self, visitor: Visitor, where: str, storage: str
    ) -> None:
        visitor.drop(where, x_says="hello")
        visitor.post(where, x_says="hello again")
        said = visitor.page()["said"]
        assert (said.count(SAID), said.count("hello again")) == (1, 1)
        assert ("hello" in said) is (storage == "session")

    def test_many_messages(self, visitor: Visitor, where: str, storage: str) -> None:
        """More than a cookie holds; the fallback puts the rest into the session."""
        visitor.drop(where, outcome="many")
        visitor.post(where, outcome="many")
        said = visitor.page()["said"]
        assert len(said) == len(set(said))
        assert said[-1] == SAID
        assert (len(said) < 61) is (storage == "cookie")
        assert visitor.page()["said"] == []

    def test_a_message_that_is_too_large_is_not_stored(
        self, visitor: Visitor, where: str, storage: str
    ) -> None:
        visitor.drop(where, outcome="huge")
        record = IdempotencyRecord.objects.get()
        assert len(record.response_headers) < 2_000
        visitor.post(where, outcome="huge")
        assert visitor.page()["said"][-1] == SAID

    def test_encrypted_as_the_response_is(
        self, visitor: Visitor, storage: str, settings: Any
    ) -> None:
        use(settings, codec="fernet")
        settings.IDEMPOTENCY["ENCRYPTION_KEYS"] = ["k" * 43 + "="]
        visitor.drop("/function/")
        record = IdempotencyRecord.objects.get()
        assert "Thanks" not in f"{record.response_headers}{bytes(record.response_body or b'')!r}"
        visitor.post("/function/")
        assert seen(visitor) == [[SAID], []]

    def test_no_message_no_receipt(self, visitor: Visitor, where: str, storage: str) -> None:
        assert RECEIPT not in visitor.post(where, outcome="silent").cookies
        answer = visitor.post(where, key="k-2")
        assert (RECEIPT in answer.cookies) is (storage != "session")
        record = IdempotencyRecord.objects.order_by("id").first()
        assert record is not None
        assert "messages" not in record.response_headers

    def test_the_receipt_goes_the_way_of_the_messages(
        self, visitor: Visitor, storage: str, settings: Any
    ) -> None:
        settings.SESSION_COOKIE_SECURE = True
        settings.SESSION_COOKIE_SAMESITE = "Strict"
        settings.SESSION_COOKIE_DOMAIN = "testserver.example"
        cookies = visitor.post("/function/", host="www.testserver.example").cookies
        if storage != "session":
            receipt, messages = cookies[RECEIPT], cookies["messages"]
            names = ("domain", "path", "secure", "samesite", "httponly", "max-age")
            assert [receipt[name] for name in names] == [messages[name] for name in names]

    @pytest.mark.parametrize("said", ["", ".....", "ü", "a" * 4000, ".".join("abcdefghijklm")])
    def test_whatever_the_receipt_says(self, visitor: Visitor, storage: str, said: str) -> None:
        visitor.client.cookies[RECEIPT] = said
        answer = visitor.post("/function/")
        if storage != "session":
            assert len(answer.cookies[RECEIPT].value.split(".")) <= 8


class OwnStorage(CookieStorage):
    """A project's."""


def test_a_storage_of_the_projects_own(visitor: Visitor, settings: Any, storage: str) -> None:
    settings.MESSAGE_STORAGE = f"{__name__}.OwnStorage"
    visitor.drop("/function/")
    visitor.post("/function/")
    assert seen(visitor) == [[SAID], []]


def test_without_their_middleware(visitor: Visitor, settings: Any, storage: str) -> None:
    visitor.drop("/function/")
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "messages" not in each]
    visitor = visitor.same_browser()
    assert visitor.post("/function/")["Idempotency-Replayed"] == "true"
