"""What a view writes into the session is committed with its response (I2), and read again by a
duplicate: an order is made and the cart is empty, or neither."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection, connections

from django_idempotency.models import IdempotencyRecord
from tests.conftest import in_thread, row_locks
from tests.shop.models import Order
from tests.support import carts
from tests.support.adapters import usual_and_whole
from tests.support.carts import (
    SAID,
    SESSIONS,
    Visitor,
    after_commit,
    before_guard,
    before_store,
    close_shop,
    open_shop,
    use,
)
from tests.support.counting import counted
from tests.support.interruptions import Crash, crash
from tests.support.waiters import until_somebody_waits

pytestmark = [pytest.mark.urls(carts.__name__)]

ENGINES = ["db", "cached_db"]


@pytest.fixture(params=ENGINES)
def engine(request: Any) -> str:
    return str(request.param)


@pytest.fixture(
    params=usual_and_whole(
        [
            *(("/function/", False), ("/decorated-class/", True), ("/decorated-async/", False)),
            *(("/rest/", True), ("/decorated-rest/", True), ("/class/", False)),
        ],
        [
            *(("/function/", True), ("/decorated-function/", True), ("/class/", True)),
            *(("/async/", False), ("/decorated-rest/", False), ("/decorated-function/", False)),
        ],
    ),
    ids=str,
)
def where(request: Any, monkeypatch: Any) -> str:
    view, has_request_block = request.param
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", has_request_block)
    return str(view)


@pytest.fixture(autouse=True)
def shop(settings: Any, transactional_db: None) -> Iterator[None]:
    open_shop(settings, "session")
    yield
    close_shop()


@pytest.fixture
def visitor() -> Visitor:
    visitor = Visitor()
    visitor.page(add="vm")
    return visitor


class TestKilledWorkers:
    def test_after_the_commit_the_cart_is_empty(
        self, visitor: Visitor, where: str, engine: str, settings: Any
    ) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        visitor.lose(where)
        retry = visitor.post(where)
        assert (retry.status_code, retry["Idempotency-Replayed"]) == (302, "true")
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)
        assert visitor.page()["said"] == []

    def test_also_without_a_retry(self, visitor: Visitor, where: str, engine: str) -> None:
        visitor.lose(where)
        assert visitor.page()["cart"] == []

    def test_before_the_commit_the_cart_is_full(
        self, visitor: Visitor, where: str, engine: str, settings: Any
    ) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        visitor.page()
        before_store.append(crash)
        with pytest.raises(Crash):
            visitor.post(where)
        assert (visitor.page()["cart"], Order.objects.count()) == (["vm"], 0)
        assert visitor.post(where).status_code == 302
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)

    def test_without_the_option_the_cart_stays_full(self, visitor: Visitor, settings: Any) -> None:
        """Django saves it after the commit, and the worker is dead by then."""
        use(settings, save_session=False)
        visitor.lose("/function/")
        assert (visitor.page()["cart"], Order.objects.count()) == (["vm"], 1)


class TestOutcomes:
    """What becomes of the session is what becomes of the view's other writes; where the bare view's
    session would be saved, it is."""

    def test_a_success(self, visitor: Visitor, where: str, engine: str, settings: Any) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        visitor.page()
        first = visitor.post(where)
        assert first.status_code == 302
        assert first.cookies["sessionid"].value == visitor.client.cookies["sessionid"].value
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)
        assert visitor.page()["said"] == []
        assert visitor.post(where)["Idempotency-Replayed"] == "true"
        assert visitor.page()["said"] == []

    @pytest.mark.parametrize("outcome", ["403", "409"])
    def test_a_refusal_keeps_what_the_bare_view_would_keep(
        self, visitor: Visitor, where: str, outcome: str
    ) -> None:
        assert visitor.post(where, outcome=outcome).status_code == int(outcome)
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)

    @pytest.mark.parametrize("outcome", ["500", "503"])
    def test_an_error_of_the_server_undoes_it(
        self, visitor: Visitor, where: str, outcome: str
    ) -> None:
        assert visitor.post(where, outcome=outcome).status_code == int(outcome)
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == (["vm"], [], 0)

    def test_also_if_it_is_stored(self, visitor: Visitor, settings: Any) -> None:
        """Django saves no session with it, so the view's other writes are alone, as without."""
        use(settings, not_stored={429})
        assert visitor.post("/function/", outcome="500").status_code == 500
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == (["vm"], [], 1)

    def test_a_login_whose_404_is_not_stored(self, visitor: Visitor, settings: Any) -> None:
        """With DEBUG Django makes the page behind a decorator's end; what was written is undone,
        and the session is saved all the same."""
        settings.DEBUG = True
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        visitor = visitor.same_browser()
        answer = visitor.post("/decorated-function/", outcome="login 404")
        assert answer.status_code == 404
        assert visitor.page()["cart"] == []

    def test_a_success_that_is_not_stored_is_undone(
        self, visitor: Visitor, engine: str, settings: Any
    ) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        use(settings, not_stored={302})
        for asked in ("", "login", "flush"):
            assert visitor.post("/function/", key=asked or "k", outcome=asked).status_code == 302
            page = visitor.page()
            assert (page["cart"], page["user"], Order.objects.count()) == (["vm"], "", 0)

    def test_a_raised_404_keeps_the_session(
        self, visitor: Visitor, where: str, engine: str, settings: Any
    ) -> None:
        """Its other writes are undone, as with ATOMIC_REQUESTS, where Django saves it, too."""
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        assert visitor.post(where, outcome="404").status_code == 404
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 0)

    @pytest.mark.parametrize("asked", ["login", "login 404", "login 403"])
    def test_a_login(
        self, visitor: Visitor, where: str, engine: str, asked: str, settings: Any
    ) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        before = visitor.client.cookies["sessionid"].value
        wanted = int(asked[6:] or 302)
        assert visitor.post(where, outcome=asked).status_code == wanted
        assert visitor.client.cookies["sessionid"].value != before
        assert not Session.objects.filter(pk=before).exists()
        assert visitor.page()["user"] == ("" if wanted == 404 else "ada")

    def test_a_flush(self, visitor: Visitor, where: str, engine: str, settings: Any) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        before = visitor.client.cookies["sessionid"].value
        visitor.post(where, outcome="flush silent")
        assert not Session.objects.filter(pk=before).exists()
        assert visitor.client.cookies["sessionid"].value == ""

    def test_a_session_that_begins_with_the_request(self, where: str, settings: Any) -> None:
        use(settings, scope=lambda request: "one")
        scoped = {"/decorated-class/", "/decorated-async/", "/decorated-rest/"}
        if where in scoped | {"/decorated-function/"}:
            where = "/function/"  # their decorator says which scope
        visitor = Visitor()
        visitor.lose(where)
        assert Session.objects.count() == 1
        visitor = Visitor()
        visitor.post(where, key="k-2")
        assert visitor.page()["said"] == [SAID]

    @pytest.mark.parametrize("outcome", ["saved 404", "login 404"])
    def test_one_that_the_view_has_made_stays_although_its_writes_are_undone(
        self, engine: str, outcome: str, settings: Any
    ) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        use(settings, scope=lambda request: "one")
        visitor = Visitor()
        assert visitor.post("/function/", outcome=outcome).status_code == 404
        assert visitor.page()["said"] == [SAID]

    @pytest.mark.parametrize("outcome", ["flush 404", "flush 404 silent", "login 404"])
    def test_one_that_the_view_has_ended_does_not_come_back(
        self, visitor: Visitor, engine: str, outcome: str, settings: Any
    ) -> None:
        """Its key may be known to others: a raised 404 undoes the view's writes, not a logout."""
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        visitor.page()
        before = visitor.client.cookies["sessionid"].value
        assert visitor.post("/function/", outcome=outcome).status_code == 404
        assert not Session.objects.filter(pk=before).exists()
        visitor.client.cookies["sessionid"] = before
        assert visitor.page()["cart"] == []

    def test_one_that_ends_meanwhile_does_not_undo_what_was_not_done(
        self, visitor: Visitor, engine: str, settings: Any
    ) -> None:
        """Such as a count of wrong passwords: nobody gets rid of it by a logout in time (I2)."""
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        visitor.page()
        before_store.append(lambda: in_thread_if_it_can(Session.objects.all().delete))
        assert visitor.post("/function/", outcome="invalid").status_code == 400
        assert Order.objects.count() == 1

    def test_a_session_that_ends_meanwhile(self, visitor: Visitor, where: str, engine: str) -> None:
        """Its user has logged out in another tab."""
        before_store.append(lambda: in_thread_if_it_can(Session.objects.all().delete))
        assert visitor.post(where).status_code == 400
        assert not Order.objects.exists()
        assert not IdempotencyRecord.objects.filter(state="completed").exists()

    def test_what_a_middleware_changes_later_is_saved(self, visitor: Visitor, where: str) -> None:
        visitor.post(where, x_late="1")
        session = visitor.client.session
        assert (session["late"], "cart" in session) == (True, False)

    def test_by_then_another_request_may_have_changed_it(
        self, visitor: Visitor, where: str, engine: str, settings: Any
    ) -> None:
        """The first response is still on its way when a duplicate has been answered, and the next
        page has shown the message."""
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        seen = []
        after_commit.append(lambda: seen.append(visitor.page()["said"]))
        visitor.post(where)
        assert seen == [[SAID]]
        assert visitor.page()["said"] == []


class TestDuplicates:
    @row_locks
    @pytest.mark.parametrize("every_request", [False, True])
    @pytest.mark.parametrize("headers", [{}, {"x_loads": "1"}, {"x_changes": "1"}], ids=str)
    def test_one_that_waits_does_not_write_the_old_cart_back(
        self, visitor: Visitor, where: str, headers: Any, every_request: bool, settings: Any
    ) -> None:
        settings.SESSION_SAVE_EVERY_REQUEST = every_request
        if where in {"/function/", "/class/", "/rest/", "/async/"}:
            use(settings, in_flight="wait")
            rivals = []

            def duplicate() -> None:
                rivals.append(in_thread(lambda: visitor.post(where, **headers)))
                until_somebody_waits()

            before_store.append(duplicate)
            visitor.post(where, **headers)
            assert rivals[0].result()["Idempotency-Replayed"] == "true"
            page = visitor.page()
            assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)

    @row_locks
    def test_one_that_waits_for_a_refusal_knows_what_that_has_saved(
        self, visitor: Visitor, settings: Any
    ) -> None:
        use(settings, in_flight="wait")
        rivals = []

        def duplicate() -> None:
            call = partial(visitor.post, "/function/", outcome="saved 403", x_loads="1")
            rivals.append(in_thread(call))
            until_somebody_waits()

        before_store.append(duplicate)
        assert visitor.post("/function/", outcome="saved 403").status_code == 403
        assert rivals[0].result().status_code == 403
        assert Order.objects.count() == 1

    @row_locks
    def test_one_that_waits_for_a_page_that_asks_for_more_does_so_too(
        self, visitor: Visitor, settings: Any
    ) -> None:
        """The key was free again."""
        use(settings, in_flight="wait")
        rivals = []

        def duplicate() -> None:
            call = partial(visitor.post, "/function/", outcome="saved invalid", x_loads="1")
            rivals.append(in_thread(call))
            until_somebody_waits()

        before_store.append(duplicate)
        assert visitor.post("/function/", outcome="saved invalid").status_code == 200
        assert rivals[0].result().status_code == 200
        assert Order.objects.count() == 1

    def test_so_does_one_that_runs_after_it(self, visitor: Visitor, where: str) -> None:
        """It came before the first one had ended."""
        before_guard.append(lambda: visitor.post(where, outcome="403"))
        assert visitor.post(where, outcome="403", x_loads="1").status_code == 403
        assert Order.objects.count() == 1

    @pytest.mark.parametrize("headers", [{"x_loads": "1"}, {"x_changes": "1"}], ids=str)
    def test_one_that_finds_the_answer_does_not_write_the_old_cart_back(
        self, visitor: Visitor, where: str, headers: Any, settings: Any
    ) -> None:
        settings.SESSION_SAVE_EVERY_REQUEST = True
        before_guard.append(lambda: visitor.lose(where))
        assert visitor.post(where, **headers)["Idempotency-Replayed"] == "true"
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)

    @row_locks
    @pytest.mark.parametrize("headers", [{}, {"x_loads": "1"}, {"x_changes": "1"}], ids=str)
    def test_one_that_waits_for_a_killed_worker_runs(
        self, visitor: Visitor, headers: Any, settings: Any
    ) -> None:
        use(settings, in_flight="wait")
        rivals = []

        def duplicate_then_crash() -> None:
            rivals.append(in_thread(lambda: visitor.post("/function/", **headers)))
            until_somebody_waits()
            raise Crash

        before_store.append(duplicate_then_crash)
        with pytest.raises(Crash):
            visitor.post("/function/", **headers)
        assert rivals[0].result().status_code == 302
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)
        assert ("visited" in visitor.client.session) is ("x_changes" in headers)

    def test_one_that_is_refused_does_not_either(self, visitor: Visitor, settings: Any) -> None:
        """The first one ends between the refusal and the saving of the duplicate's session."""
        settings.SESSION_SAVE_EVERY_REQUEST = True
        old = visitor.client.session
        assert old["cart"] == ["vm"]
        visitor.post("/function/")
        refused = visitor.post("/function/", outcome="other")
        assert refused.status_code == 422
        assert visitor.page()["cart"] == []

    @pytest.mark.parametrize("headers", [{"x_loads": "1"}, {"x_changes": "1"}], ids=str)
    def test_a_replay_knows_what_the_first_one_has_saved(
        self, visitor: Visitor, where: str, headers: Any, settings: Any
    ) -> None:
        visitor.lose(where, **headers)
        assert visitor.post(where, **headers)["Idempotency-Replayed"] == "true"
        page = visitor.page()
        assert (page["cart"], page["said"]) == ([], [SAID])


class TestCachedCopies:
    """Sessions of the engine ``cached_db`` are read from the cache first."""

    @pytest.fixture(autouse=True)
    def _cached(self, settings: Any) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.cached_db"

    def test_nothing_is_in_the_cache_before_the_commit(
        self, visitor: Visitor, settings: Any
    ) -> None:
        seen = []

        def look(execute: Any, sql: str, *rest: Any) -> Any:
            result = execute(sql, *rest)
            if sql.startswith("UPDATE") and "django_session" in sql:
                seen.append([cache.get(key) for key in map(_name, Session.objects.all())])
            return result

        visitor.page()
        with connection.execute_wrapper(look):
            visitor.post("/function/")
        assert seen
        assert not any("cart" not in each for found in seen for each in found if each)

    def test_a_retry_drops_a_copy_that_another_page_has_made_meanwhile(
        self, visitor: Visitor, where: str
    ) -> None:
        """It read the session between its saving and the commit."""
        copies = {_name(each): each.get_decoded() for each in Session.objects.all()}
        visitor.lose(where)
        cache.set_many(copies)
        assert visitor.page()["cart"] == ["vm"]
        visitor.post(where)
        page = visitor.page()
        assert (page["cart"], page["said"]) == ([], [SAID])

    @pytest.mark.parametrize("outcome", ["saved 500", "saved failure", "saved 302"])
    def test_what_the_view_has_saved_is_undone_there_too(
        self, visitor: Visitor, where: str, outcome: str, settings: Any
    ) -> None:
        if "302" in outcome:
            if "decorated" in where:
                return  # its decorator says what is stored
            use(settings, not_stored={302})
        visitor.page()
        visitor.post(where, outcome=outcome)
        assert (visitor.page()["cart"], Order.objects.count()) == (["vm"], 0)

    def test_or_the_end_of_the_request_does(self, visitor: Visitor, where: str) -> None:
        copies = {_name(each): each.get_decoded() for each in Session.objects.all()}
        after_commit.append(lambda: cache.set_many(copies))
        visitor.post(where)
        assert visitor.page()["cart"] == []


def _name(session: Session) -> str:
    return f"django.contrib.sessions.cached_db{session.pk}"


class TestOtherEngines:
    """What has no commit in common with the record is saved by ``SessionMiddleware``, after it."""

    @pytest.mark.parametrize("engine", ["cache", "file", "signed_cookies"])
    def test_the_usual_way(self, engine: str, where: str, settings: Any, tmp_path: Any) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        settings.SESSION_FILE_PATH = str(tmp_path)
        visitor = Visitor()
        visitor.page(add="vm")
        assert visitor.post(where, key="k-1", outcome="500").status_code == 500
        assert visitor.page()["cart"] == ["vm"]
        assert visitor.post(where).status_code == 302
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)

    def test_a_lost_answer_loses_it(self, where: str, settings: Any) -> None:
        """There is an order, rather than an empty cart without one."""
        settings.SESSION_ENGINE = f"{SESSIONS}.cache"
        visitor = Visitor()
        visitor.page(add="vm")
        visitor.lose(where)
        assert (visitor.page()["cart"], Order.objects.count()) == (["vm"], 1)


class TestNonAtomic:
    """The view's effects are there already: the session is saved before the attempt completes."""

    @pytest.fixture(autouse=True, params=["db", "cache"])
    def _store(self, request: Any, settings: Any) -> None:
        changed = {"store": "cache"} if request.param == "cache" else {}
        use(settings, atomic=False, **changed)
        settings.IDEMPOTENCY["CACHE"] = "default"

    @pytest.mark.parametrize("engine", [*ENGINES, "cache"])
    def test_a_killed_worker(self, engine: str, settings: Any) -> None:
        settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
        visitor = Visitor()
        visitor.page(add="vm")
        visitor.lose("/function/")
        assert visitor.post("/function/")["Idempotency-Replayed"] == "true"
        page = visitor.page()
        assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)

    def test_a_session_that_ends_meanwhile(self, visitor: Visitor) -> None:
        """There is an order, which no rollback undoes, so its response is stored."""
        before_store.append(lambda: Session.objects.all().delete() and None)
        assert visitor.post("/function/").status_code == 400
        assert Order.objects.count() == 1


def cost(visitor: Visitor, path: str = "/function/", **arguments: Any) -> int:
    with counted() as count:
        assert visitor.post(path, **arguments).status_code == 302
    return count.statements


@pytest.mark.parametrize("engine", ENGINES)
def test_it_costs_no_statement(engine: str, settings: Any) -> None:
    """A first request saves the session once, earlier than without the option; a replay reads it
    once, for the scope, and again only if somebody asks for what is in it. After each of them
    ``cached_db`` reads its database."""
    settings.SESSION_ENGINE = f"{SESSIONS}.{engine}"
    costs = []
    for keeps in (False, True):
        use(settings, save_session=keeps)
        visitor = Visitor()
        visitor.page(add="vm")
        cost(visitor, key="warm-up")
        visitor.page()
        first, replay = cost(visitor), cost(visitor)
        without = cost(visitor, key="")
        costs.append([first, replay, without])
    reads = int(engine == "cached_db")
    assert [after - before for before, after in zip(*costs, strict=True)] == [0, reads, reads]


def in_thread_if_it_can(call: Any) -> None:
    """SQLite has one writer, which the view is."""
    if connection.vendor == "sqlite":
        call()
    else:
        in_thread(call).result()
