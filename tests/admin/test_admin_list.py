"""The admin's list of records: filters, search and figures, at a cost that the table's size does
not change."""

import re
from datetime import timedelta
from html import unescape
from itertools import chain

import pytest
from django.contrib import admin
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils import timezone

from django_idempotency.admin import listing, overview
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import State
from django_idempotency.stores.database import statistics as table_statistics
from django_idempotency.stores.database.store import DatabaseStore
from django_idempotency.stores.database.transactions import write_transaction
from tests.conftest import Caller, row_locks
from tests.support.admin import LIST, badges, figures, in_flight, listed, page, remember, staff
from tests.support.counting import counted
from tests.support.large_table import PAGES, fill, plan, reads_all, statements, with_middle

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

TABLE = IdempotencyRecord._meta.db_table


def link(page: str, name: str) -> dict[str, str] | None:
    """Return the query of a link on a page."""
    found = re.search(rf'<a href="\?([^"]*)"[^>]*>{name}</a>', page)
    if found is None:
        return None
    return dict(pair.split("=") for pair in unescape(found[1]).split("&") if pair)


class TestFilters:
    @pytest.fixture(autouse=True)
    def records(self):
        now = timezone.now()
        remember("ancient", created_at=now - timedelta(days=8))
        remember("old", created_at=now - timedelta(days=2))
        remember("today", created_at=now - timedelta(hours=2))
        remember("created", method="POST", response_status=201)
        remember("refused", method="PUT", response_status=422)
        remember("redirected", method="PATCH", response_status=302)
        remember("broken", method="DELETE", response_status=599)
        remember("running", method="DELETE", response_status=None, state=State.CLAIMED)
        remember("gone", response_status=200, expires_at=now - timedelta(hours=1))

    @pytest.mark.parametrize(
        ("query", "keys"),
        [
            ({"state": "claimed"}, {"running"}),
            ({"state": "completed", "method": "DELETE"}, {"broken"}),
            ({"method": "PUT"}, {"refused"}),
            ({"method": "POST", "age": "hour"}, {"created", "gone"}),
            ({"status": "2", "age": "hour"}, {"created", "gone"}),
            ({"status": "3"}, {"redirected"}),
            ({"status": "4"}, {"refused"}),
            ({"status": "5"}, {"broken"}),
            ({"expired": "yes"}, {"gone"}),
            ({"expired": "no", "status": "2", "age": "hour"}, {"created"}),
            ({"age": "day", "status": "2"}, {"today", "created", "gone"}),
            ({"age": "older-day"}, {"ancient", "old"}),
            ({"age": "older-week"}, {"ancient"}),
            ({"age": "older-week", "state": "claimed"}, set()),
        ],
    )
    def test_they_narrow_the_list(self, admin_client, query, keys):
        assert set(listed(admin_client, **query)) == keys

    @pytest.mark.parametrize(
        "query",
        [
            {"status": "9"},
            {"expired": "maybe"},
            {"method": ""},
            {"state": "lost"},
            {"age": "century"},
            {"before": "-1"},
            {"before": "9" * 30},
        ],
    )
    def test_values_that_mean_nothing_are_ignored(self, admin_client, query):
        assert len(listed(admin_client, **query)) == 9

    @pytest.mark.parametrize("lookup", ["response_body__startswith", "state__exact", "scope"])
    def test_what_is_not_shown_cannot_be_guessed_by_filters(self, admin_client, lookup):
        assert admin_client.get(reverse(LIST), {lookup: "a"}).status_code == 400


class TestStates:
    def remember(self) -> IdempotencyRecord:
        remember("completed")
        remember("interrupted", state=State.CLAIMED, response_status=None)
        return remember("in flight", state=State.CLAIMED, response_status=None)

    @pytest.mark.django_db(transaction=True)
    @row_locks
    def test_locks_tell_what_is_in_flight(self, admin_client):
        """I3: claimed and locked is in flight, claimed and not locked is interrupted."""
        record = self.remember()
        with in_flight(record):
            assert badges(page(admin_client)) == ["in flight", "interrupted", "completed"]
            assert listed(admin_client, state="in_flight") == ["in flight"]
            assert listed(admin_client, state="interrupted") == ["interrupted"]
            assert figures(admin_client) == {"In flight": "1", "Interrupted": "1", "Completed": "1"}
        assert badges(page(admin_client)) == ["interrupted", "interrupted", "completed"]

    @pytest.mark.django_db(transaction=True)
    @row_locks
    def test_an_attempt_in_a_savepoint_is_in_flight_too(self, admin_client):
        record = self.remember()
        connections["rival"] = connections.create_connection("default")
        try:
            with write_transaction("rival"), write_transaction("rival"):
                assert DatabaseStore("rival").lock(record.pk)
                assert listed(admin_client, state="in_flight") == ["in flight"]
        finally:
            connections["rival"].close()
            del connections["rival"]

    @pytest.mark.django_db(transaction=True)
    @row_locks
    def test_looking_waits_for_nobody_and_leaves_no_lock(self, admin_client):
        record = self.remember()
        with in_flight(record):
            page(admin_client)
            with in_flight(IdempotencyRecord.objects.get(key="interrupted"), "another"):
                pass

    def test_in_a_transaction_nothing_is_locked_to_find_out(self, admin_client):
        """Where looking needs locks, they would stay until the transaction ends."""
        self.remember()
        known = connection.vendor == "postgresql"
        words = "interrupted" if known else "in flight or interrupted"
        assert badges(page(admin_client)) == [words, words, "completed"]
        expected = {"In flight": "0", "Interrupted": "2"} if known else {words.capitalize(): "2"}
        assert figures(admin_client) == expected | {"Completed": "1"}

    @pytest.mark.django_db(transaction=True)
    def test_only_states_that_can_be_told_apart_are_offered(self, admin_client):
        offered = set(re.findall(r"\?state=(\w+)", page(admin_client)))
        claimed = {"claimed"} if connection.vendor == "sqlite" else {"in_flight", "interrupted"}
        assert offered == claimed | {"open", "completed"}


class TestWindows:
    """What no index finds is looked for a stretch at a time."""

    @pytest.fixture(autouse=True)
    def records(self, monkeypatch):
        monkeypatch.setattr(listing, "WIDTH", 10)
        monkeypatch.setattr(overview, "WIDTH", 10)
        monkeypatch.setattr(listing, "LIMIT", 6)
        model_admin = admin.site._registry[IdempotencyRecord]
        monkeypatch.setattr(model_admin, "list_per_page", 5)
        monkeypatch.setattr(model_admin, "list_max_show_all", 0)
        for number in range(25):
            remember(f"{number}", method="PUT" if number % 10 == 0 else "POST")

    def windows(self, client: Client, **query: str) -> list[list[str]]:
        """Follow the link to older records until there is none."""
        found: list[list[str]] = []
        further: dict[str, str] | None = query
        while further is not None:
            more = page(client, **further).count('">2</a>')
            second = listed(client, **further, p="2") if more else []
            found.append(listed(client, **further) + second)
            further = link(page(client, **further), "Older records")
        return found

    def test_older_records_are_a_link_away(self, admin_client):
        assert self.windows(admin_client, method="PUT") == [["20"], ["10"], ["0"]]

    def test_no_record_is_left_out_where_counting_ends(self, admin_client):
        windows = self.windows(admin_client)
        assert [len(window) for window in windows] == [6, 6, 6, 6, 1]
        assert list(chain(*windows)) == [str(number) for number in reversed(range(25))]

    def test_there_is_a_way_back(self, admin_client):
        older = link(page(admin_client, method="PUT"), "Older records")
        assert link(page(admin_client, **older), "Newest records") == {"method": "PUT"}
        assert link(page(admin_client), "Newest records") is None

    def test_another_filter_starts_from_the_newest(self, admin_client):
        older = link(page(admin_client, method="PUT"), "Older records")
        assert link(page(admin_client, **older), "POST") == {"method": "POST"}

    def test_another_page_does_not(self, admin_client):
        older = link(page(admin_client), "Older records")
        assert link(page(admin_client, **older), "2") == older | {"p": "2"}

    def test_search_looks_everywhere(self, admin_client):
        assert listed(admin_client, q="3") == ["3"]
        assert 'name="before"' not in page(admin_client, before="9")

    def test_age_narrows_where_to_look(self, admin_client):
        past = timezone.now() - timedelta(days=2)
        old = IdempotencyRecord.objects.filter(key__in=[str(number) for number in range(20)])
        old.update(created_at=past)
        assert self.windows(admin_client, age="hour") == [["24", "23", "22", "21", "20"]]
        older = self.windows(admin_client, age="older-day", method="PUT")
        assert list(chain(*older)) == ["10", "0"]

    def test_claimed_records_are_found_however_old(self, admin_client):
        IdempotencyRecord.objects.filter(key="3").update(state=State.CLAIMED)
        assert self.windows(admin_client, state="claimed") == [[], [], ["3"]]

    @pytest.mark.django_db(transaction=True)
    @row_locks
    def test_so_are_those_that_are_known_to_be_interrupted(self, admin_client):
        claimed = IdempotencyRecord.objects.filter(key__in=["3", "13", "23"])
        claimed.update(state=State.CLAIMED)
        with in_flight(claimed.get(key="13")):
            assert self.windows(admin_client, state="interrupted") == [["23"], [], ["3"]]
            assert self.windows(admin_client, state="in_flight") == [[], ["13"], []]

    @pytest.mark.django_db(transaction=True)
    @row_locks
    def test_so_are_they_if_there_are_many(self, admin_client, monkeypatch):
        monkeypatch.setattr(overview.Overview, "limit", 2)
        wanted = [str(number) for number in reversed(range(10, 17))]
        IdempotencyRecord.objects.filter(key__in=wanted).update(state=State.CLAIMED)
        assert list(chain(*self.windows(admin_client, state="interrupted"))) == wanted

    def test_open_outcomes_have_an_index_on_postgresql(self, admin_client):
        records = IdempotencyRecord.objects.filter(key="3")
        records.update(state=State.CLAIMED, outcome_open=True)
        IdempotencyRecord.objects.filter(key="4").update(state=State.CLAIMED)
        at_once, later = [["3"]], [[], [], ["3"]]
        found = at_once if connection.vendor == "postgresql" else later
        assert self.windows(admin_client, state="open") == found

    def test_figures_say_how_far_they_reach(self, admin_client):
        IdempotencyRecord.objects.filter(key__in=["3", "23"]).update(state=State.CLAIMED)
        assert "1 in the newest 10 records" in figures(admin_client).values()


class TestFigures:
    def test_an_empty_table_has_figures_too(self, admin_client):
        assert set(figures(admin_client).values()) == {"0"}
        assert listed(admin_client, age="hour") == []

    def test_many_claimed_records_are_not_counted_to_the_end(self, admin_client, monkeypatch):
        monkeypatch.setattr(overview.Overview, "limit", 2)
        for number in range(4):
            remember(f"{number}", state=State.CLAIMED)
        assert "3 among the newest 3" in figures(admin_client).values()
        assert len(listed(admin_client)) == 4

    def test_many_records_are_estimated(self, admin_client, monkeypatch):
        monkeypatch.setattr(table_statistics, "COUNTED", 2)
        for number in range(4):
            remember(f"{number}")
        if connection.vendor == "postgresql":
            assert figures(admin_client)["Completed"].startswith(("about ", "more than "))
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE {TABLE}")
            assert figures(admin_client)["Completed"] == "about 4"
        elif connection.vendor == "sqlite":
            assert figures(admin_client)["Completed"] == "more than 10,000"


class TestSearch:
    @pytest.fixture(autouse=True)
    def records(self):
        for key in ("Key-1", "key-1", "Key-10", "a, b"):
            remember(key)

    @pytest.mark.parametrize(
        ("term", "keys"),
        [
            ("Key-1", ["Key-1"]),
            (" key-1 ", ["key-1"]),
            ('"Key-1"', ["Key-1"]),
            ("a, b", ["a, b"]),
            ("KEY-1", []),
            ("Key", []),
            ('"', []),
            ("ключ", []),
        ],
    )
    def test_it_finds_whole_keys_exactly(self, admin_client, term, keys):
        assert listed(admin_client, q=term) == keys


class TestCost:
    def test_the_list_reads_neither_bodies_nor_headers(self, admin_client):
        remember("one")
        with CaptureQueriesContext(connection) as queries:
            listed(admin_client)
        statements = [query["sql"] for query in queries]
        assert not [sql for sql in statements if "response_body" in sql or "headers" in sql]

    def test_the_page_of_a_record_reads_only_the_length_of_its_body(self, client):
        client.force_login(staff("view_idempotencyrecord"))
        record = remember("one")
        address = reverse("admin:django_idempotency_idempotencyrecord_change", args=[record.pk])
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        reading = [query["sql"] for query in queries if "response_body" in query["sql"]]
        assert len(reading) == 1
        assert "LENGTH(" in reading[0]


@pytest.fixture
def large_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is large for its bounds: 20,000 records, and the planner knows it."""
    for module, name, value in (
        (listing, "WIDTH", 1000),
        (overview, "WIDTH", 1000),
        (listing, "LIMIT", 200),
        (table_statistics, "COUNTED", 200),
    ):
        monkeypatch.setattr(module, name, value)
    fill(20_000)


@row_locks
@pytest.mark.django_db(transaction=True)
def test_no_page_reads_the_whole_table_or_needs_more_than_twelve_statements(client, large_table):
    Caller("caller")
    permissions = ("view_idempotencyrecord", "evict_idempotencyrecord", "view_user")
    client.force_login(staff(*permissions))
    for query in map(with_middle, PAGES):
        with counted() as count:
            listed(client, **query)
        assert count.statements <= 12, query
        asked = [sql for sql, _ in statements(client, query)]
        assert len(asked) >= 2
        for sql in asked:
            accesses = plan(sql)
            assert accesses, sql
            assert [access for access in accesses if reads_all(access)] == [], (query, sql)


@row_locks
@pytest.mark.django_db(transaction=True)
def test_the_test_of_plans_can_fail(large_table):
    assert any(map(reads_all, plan(f"SELECT COUNT(path) FROM {TABLE}")))
    assert any(map(reads_all, plan(f"SELECT id FROM {TABLE} WHERE response_status = 500")))


@pytest.mark.parametrize("precision", [0, 1, 7, 100])
@pytest.mark.parametrize("older", [0, 1, 20, 39, 40])
def test_where_an_age_begins_is_known_as_well_as_wanted(monkeypatch, precision, older):
    """However few places one statement looks at, and with gaps between the numbers."""
    monkeypatch.setattr(table_statistics, "PROBES", 3)
    now = timezone.now()
    created = [now - timedelta(days=2)] * older + [now] * (40 - older)
    records = [remember(f"{number}", created_at=time) for number, time in enumerate(created)]
    IdempotencyRecord.objects.filter(pk__in=[each.pk for each in records[5:15]]).delete()
    whole = table_statistics.table_statistics("default")
    low, high = table_statistics.since("default", whole, timedelta(days=1), precision)
    kept = [*records[:5], *records[15:]]
    assert high - low <= max(1, precision)
    assert all(each.pk >= low for each in kept if each.created_at == now)
    assert all(each.pk < high for each in kept if each.created_at != now)


def test_locks_of_nothing_are_no_question():
    with CaptureQueriesContext(connection) as queries:
        assert not DatabaseStore("default").locked([])
    assert len(queries) == 0
