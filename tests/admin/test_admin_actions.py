"""What the admin does to records: it asks first, never touches what is locked, and logs."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client
from django.urls import path, reverse
from django.utils import timezone

from django_idempotency.admin import actions
from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.protocol.keys import short_digest
from django_idempotency.protocol.record import State
from django_idempotency.stores.base import Busy, Outage
from django_idempotency.stores.database.step_log import StepLog
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import row_locks
from tests.shop.urls import urlpatterns as shop
from tests.support.admin import LIST, in_flight, remember, staff

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

PURGE = "admin:django_idempotency_idempotencyrecord_purge"


class Tombstone:
    """What a URLconf module is to Django."""

    urlpatterns = [
        *shop,
        path("tombstone/", idempotent(tombstone=timedelta(hours=12))(lambda request: None)),
    ]


KEPT = "1 record kept: it is in flight, its outcome is unknown, or the cache does not answer."


@pytest.fixture
def operator(client: Client) -> User:
    """Somebody who may do everything to records, and nothing else."""
    user = staff(
        "view_idempotencyrecord",
        "evict_idempotencyrecord",
        "discard_idempotencyrecord",
        "purge_idempotencyrecord",
    )
    client.force_login(user)
    return user


def interrupted(key: str, **values: Any) -> IdempotencyRecord:
    unfinished = {"response_status": None, "response_body": None, "completed_at": None}
    return remember(key, state=State.CLAIMED, **unfinished, **values)


def choose(client: Client, action: str, *records: IdempotencyRecord) -> str:
    """Choose records and an action in the list; return the page that asks."""
    data = {"action": action, "_selected_action": [each.pk for each in records], "index": "0"}
    response = client.post(reverse(LIST), data)
    assert response.status_code == 200, response
    return response.content.decode()


def confirm(client: Client, page: str, **others: str) -> list[str]:
    """Send the form of the page that asks; return the messages."""
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page):
        fields.setdefault(name, []).append(unescape(value))
    response = client.post(reverse(LIST), fields | others, follow=True)
    return [str(message) for message in response.context["messages"]]


def keys() -> set[str]:
    return set(IdempotencyRecord.objects.values_list("key", flat=True))


@pytest.mark.usefixtures("operator")
class TestEvict:
    def test_it_asks_and_does_nothing_yet(self, client):
        page = choose(client, "evict", remember("one"), interrupted("two"))
        assert "runs again, also if the operation succeeded" in page
        assert page.count("<li><span") == 2
        assert keys() == {"one", "two"}
        assert not LogEntry.objects.exists()

    def test_chosen_records_go_and_others_stay(self, client):
        page = choose(client, "evict", remember("one"), interrupted("two"))
        remember("three")
        assert confirm(client, page) == ["2 records removed."]
        assert keys() == {"three"}

    def test_each_leaves_a_log_entry_that_names_no_key(self, client, operator):
        """I10: nor the scope. The digests are those of the log, so that one search finds both."""
        record = remember("a-key-to-keep", method="PUT", path="/orders/7/")
        confirm(client, choose(client, "evict", record))
        entry = LogEntry.objects.get()
        assert (entry.user, entry.action_flag) == (operator, DELETION)
        assert (entry.object_id, entry.object_repr) == (
            str(record.pk),
            "PUT /orders/7/ (completed)",
        )
        key = short_digest("a-key-to-keep")
        assert entry.change_message == f"Evicted: key {key}, scope 0123456789ab."

    def test_only_those_on_the_page_can_be_chosen(self, client):
        """Not "all that match", whatever the form says."""
        record = remember("one")
        remember("two")
        page = choose(client, "evict", record)
        confirm(client, page, select_across="1")
        assert keys() == {"two"}

    @pytest.mark.parametrize("change", [{"attempt": 2}, {"state": State.COMPLETED}])
    def test_what_has_changed_since_it_was_shown_stays(self, client, change):
        page = choose(client, "evict", interrupted("one"))
        IdempotencyRecord.objects.update(**change)
        assert confirm(client, page) == ["1 record not removed: it has changed or is gone."]
        assert keys() == {"one"}
        assert not LogEntry.objects.exists()

    def test_what_is_gone_is_gone(self, client):
        page = choose(client, "evict", remember("one"), remember("two"))
        IdempotencyRecord.objects.filter(key="one").delete()
        messages = confirm(client, page)
        assert messages == [
            "1 record removed.",
            "1 record not removed: it has changed or is gone.",
        ]

    @pytest.mark.parametrize("chosen", ["-1", "9" * 30])
    def test_nonsense_removes_nothing(self, client, chosen):
        remember("one")
        data = {"action": "evict", "_selected_action": [chosen], "confirmed": "yes"}
        client.post(reverse(LIST), data)
        assert keys() == {"one"}


@pytest.mark.usefixtures("operator")
class TestDiscard:
    def test_interrupted_records_go_and_completed_ones_stay(self, client):
        page = choose(client, "discard", interrupted("one"), remember("two"))
        going, staying = page.split("Records to keep")
        assert ("one" in going, "two" in staying) == (True, True)
        assert confirm(client, page) == ["1 record removed."]
        assert keys() == {"two"}
        assert LogEntry.objects.get().change_message.startswith("Discarded: key ")

    def test_a_forged_form_discards_no_completed_record(self, client):
        record = remember("one")
        data = {
            "action": "discard",
            "_selected_action": record.pk,
            "seen": f"{record.pk}:{record.state}:{record.attempt}",
            "confirmed": "yes",
        }
        client.post(reverse(LIST), data)
        assert keys() == {"one"}

    def test_if_nothing_can_go_there_is_nothing_to_confirm(self, client):
        assert 'type="submit" value="Yes' not in choose(client, "discard", remember("one"))


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("action", ["evict", "discard"])
class TestUnknownOutcomes:
    """I11: outside of a transaction an interrupted attempt may have had effects."""

    def test_they_stay(self, client, action):
        record = interrupted("one")
        StepLog("default").start(record.pk, 1)
        going, staying = choose(client, action, record, interrupted("two")).split("Records to keep")
        assert (">one<" in going, ">one<" in staying) == (False, True)

    def test_also_if_the_attempt_began_since(self, client, action):
        record = interrupted("one")
        page = choose(client, action, record)
        StepLog("default").start(record.pk, 1)
        assert confirm(client, page) == [KEPT]
        assert keys() == {"one"}

    def test_resolved_ones_go_with_their_steps(self, client, action):
        record = interrupted("one")
        StepLog("default").start(record.pk, 1)
        StepLog("default").end(record.pk, 1)
        confirm(client, choose(client, action, record))
        assert not keys()
        assert not IdempotencyStep.objects.exists()


@row_locks
@pytest.mark.usefixtures("operator")
@pytest.mark.django_db(transaction=True)
class TestLocks:
    @pytest.mark.parametrize("action", ["evict", "discard"])
    def test_what_is_in_flight_stays(self, client, action):
        """I1, I12: the attempt could not store its response."""
        record = interrupted("one")
        page = choose(client, action, record, interrupted("two"))
        with in_flight(record):
            messages = confirm(client, page)
        assert messages == [
            "1 record removed.",
            KEPT,
        ]
        assert keys() == {"one"}

    def test_it_is_shown_before_asking(self, client):
        record = interrupted("one")
        with in_flight(record):
            page = choose(client, "evict", record, interrupted("two"))
        going, staying = page.split("Records to keep")
        assert ("in flight" in staying, "interrupted" in going) == (True, True)


@pytest.mark.parametrize("error", [Busy(), Outage("no cache")])
def test_a_store_that_cannot_leaves_the_record(client, operator, monkeypatch, error):
    def busy(*args: object) -> bool:
        raise error

    page = choose(client, "evict", remember("one"))
    monkeypatch.setattr(DatabaseStore, "remove", busy)
    assert confirm(client, page) == [KEPT]


class TestPurge:
    def remember(self) -> None:
        for number in range(3):
            remember(f"old {number}", expires_at=timezone.now() - timedelta(hours=2, minutes=1))
        remember("living")

    def test_it_asks_first(self, client, operator):
        self.remember()
        page = " ".join(client.get(reverse(PURGE)).content.decode().split())
        assert "Expired records: 3. The oldest has been waiting for 2 h 1 min" in page
        assert len(keys()) == 4

    def test_expired_records_go(self, client, operator):
        self.remember()
        response = client.post(reverse(PURGE), follow=True)
        assert [str(each) for each in response.context["messages"]] == ["Purged 3 expired records."]
        assert keys() == {"living"}
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_repr) == (operator, "Purged 3 expired records.")

    def test_nothing_expired_is_nothing_to_confirm(self, client, operator):
        page = client.get(reverse(PURGE)).content.decode()
        assert "Expired records: 0." in page
        assert 'type="submit" value="Yes' not in page

    def test_tombstones_are_kept(self, client, operator, settings):
        settings.IDEMPOTENCY = {"TOMBSTONE": timedelta(hours=12)}
        self.remember()
        client.post(reverse(PURGE))
        assert len(keys()) == 4

    def test_so_are_those_of_single_views(self, client, operator, settings):
        """A key within its tombstone is refused, whoever has purged."""
        settings.ROOT_URLCONF = Tombstone
        self.remember()
        client.post(reverse(PURGE))
        assert len(keys()) == 4

    def test_it_stops_after_some_time(self, client, operator, monkeypatch):
        monkeypatch.setattr(actions, "PURGE_SECONDS", -1)
        monkeypatch.setattr(actions, "BATCH", 2)
        self.remember()
        client.post(reverse(PURGE))
        assert len(keys()) == 2


@pytest.mark.once
class TestPermissions:
    """Each action has its own."""

    @pytest.mark.parametrize(
        ("permission", "offered"),
        [
            ("evict_idempotencyrecord", {"evict"}),
            ("discard_idempotencyrecord", {"discard"}),
            ("purge_idempotencyrecord", {"purge"}),
            ("change_idempotencyrecord", set()),
            ("view_response", set()),
        ],
    )
    def test_what_is_offered(self, client, permission, offered):
        client.force_login(staff("view_idempotencyrecord", permission))
        remember("one")
        page = client.get(reverse(LIST)).content.decode()
        found = set(re.findall(r'<option value="(\w+)"', page))
        found |= {"purge"} if reverse(PURGE) in page else set()
        assert found == offered

    @pytest.mark.parametrize("action", ["evict", "discard"])
    def test_a_forged_form_changes_nothing(self, client, action):
        client.force_login(staff("view_idempotencyrecord"))
        record = interrupted("one")
        data = {
            "action": action,
            "_selected_action": record.pk,
            "seen": f"{record.pk}:claimed:1",
            "confirmed": "yes",
        }
        client.post(reverse(LIST), data)
        assert keys() == {"one"}

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_the_purge_is_refused(self, client, method):
        client.force_login(staff("view_idempotencyrecord", "evict_idempotencyrecord"))
        assert getattr(client, method)(reverse(PURGE)).status_code == 403


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["evict", "purge"])
def test_under_atomic_requests_each_batch_and_record_commits_alone(
    client, operator, monkeypatch, action
):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    record = remember("one", expires_at=timezone.now() - timedelta(hours=1))
    page = choose(client, "evict", record)
    depths = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        if "DELETE" in sql and IdempotencyRecord._meta.db_table in sql:
            depths.append(len(connection.atomic_blocks))
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        if action == "evict":
            confirm(client, page)
        else:
            client.post(reverse(PURGE))
    # An eviction and its log entry are one block; inside are the store's and Django's own.
    assert depths[0] == {"evict": 3, "purge": 1}[action]
