"""The admin shows records, changes nothing and keeps secrets."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils import timezone

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import State

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

LIST = "admin:django_idempotency_idempotencyrecord_changelist"
BODY = b"the body of a stored response"
HEADERS = '[["X-Secret", "a header of a stored response"]]'


def remember(key: str, **values: object) -> IdempotencyRecord:
    now = timezone.now()
    given = {
        "scope": "0123456789abcdef" * 4,
        "fingerprint": "a fingerprint",
        "state": State.COMPLETED,
        "method": "POST",
        "path": "/orders/",
        "response_status": 201,
        "response_headers": HEADERS,
        "response_body": BODY,
        "created_at": now,
        "completed_at": now,
        "expires_at": now + timedelta(days=1),
    }
    return IdempotencyRecord.objects.create(key=key, **given | values)


def detail(record: IdempotencyRecord, verb: str = "change") -> str:
    return reverse(f"admin:django_idempotency_idempotencyrecord_{verb}", args=[record.pk])


def listed(client, **query: str) -> list[str]:
    """Return the keys on the list page."""
    response = client.get(reverse(LIST), query)
    assert response.status_code == 200
    return [record.key for record in response.context["cl"].result_list]


class TestPages:
    def test_the_list_shows_the_newest_first(self, admin_client):
        remember("first")
        remember("second")
        assert listed(admin_client) == ["second", "first"]

    def test_the_list_shows_what_identifies_a_record(self, admin_client):
        remember("8e03978e", attempt=7, method="PATCH", path="/orders/5/")
        page = admin_client.get(reverse(LIST)).content.decode()
        for text in ("8e03978e", "01234567", "PATCH", "/orders/5/", "completed", "7", "201"):
            assert f">{text}<" in page

    def test_times_are_in_the_zone_and_format_of_the_project(self, admin_client, settings):
        settings.TIME_ZONE = "Asia/Tokyo"
        settings.LANGUAGE_CODE = "de"
        remember("one", created_at=datetime(2026, 3, 4, 23, 30, tzinfo=UTC), completed_at=None)
        page = admin_client.get(reverse(LIST)).content.decode()
        assert '<td class="field-created">05.03.2026 08:30</td>' in page
        assert '<td class="field-completed">-</td>' in page

    def test_a_long_key_is_cut_in_the_list_only(self, admin_client):
        record = remember("k" * 255)
        assert "k" * 41 not in admin_client.get(reverse(LIST)).content.decode()
        assert "k" * 255 in admin_client.get(detail(record)).content.decode()

    @pytest.mark.parametrize(
        ("state", "age", "text"),
        [
            (State.COMPLETED, -1, "completed"),
            (State.COMPLETED, 1, "completed (expired)"),
            (State.CLAIMED, -1, "claimed: in flight or interrupted"),
            (State.CLAIMED, 1, "claimed: in flight or interrupted (expired)"),
        ],
    )
    def test_states_are_explained(self, admin_client, state, age, text):
        record = remember("one", state=state, expires_at=timezone.now() - timedelta(hours=age))
        assert f">{text}<" in admin_client.get(reverse(LIST)).content.decode()
        assert f">{text}<" in admin_client.get(detail(record)).content.decode()

    def test_nothing_secret_is_shown(self, admin_client):
        record = remember("one")
        for address in (reverse(LIST), detail(record), detail(record, "history")):
            page = admin_client.get(address).content.decode()
            assert BODY.decode() not in page
            assert "X-Secret" not in page
            assert record.scope not in page
            assert "fingerprint" not in page

    @pytest.mark.parametrize(
        ("body", "size"), [(b"", "0\xa0bytes"), (b"\xff" * 1536, "1.5\xa0KB"), (None, "-")]
    )
    def test_the_size_of_the_body_is(self, admin_client, body, size):
        record = remember("one", response_body=body)
        page = admin_client.get(detail(record)).content.decode()
        assert f'<div class="readonly">{size}</div>' in page

    def test_why_a_response_is_missing(self, admin_client):
        record = remember("one", response_body=None, response_omitted="too_large")
        assert ">too large<" in admin_client.get(detail(record)).content.decode()
        record = remember("two")
        assert 'readonly">-<' in admin_client.get(detail(record)).content.decode()


class TestReadOnly:
    @pytest.mark.parametrize("verb", ["change", "delete"])
    def test_a_record_cannot_be_written(self, admin_client, verb):
        record = remember("one")
        response = admin_client.post(detail(record, verb), {"key": "two", "post": "yes"})
        assert response.status_code == 403
        assert IdempotencyRecord.objects.get().key == "one"

    def test_none_can_be_added(self, admin_client):
        add = reverse("admin:django_idempotency_idempotencyrecord_add")
        assert admin_client.get(add).status_code == 403
        assert admin_client.post(add, {"key": "one"}).status_code == 403

    def test_there_are_no_actions(self, admin_client, monkeypatch):
        """Not the admin's own, and none that a project gives to all its models."""
        monkeypatch.setitem(admin.site._actions, "wipe", lambda *args: None)
        record = remember("one")
        assert 'name="action"' not in admin_client.get(reverse(LIST)).content.decode()
        data = {"action": "delete_selected", "_selected_action": record.pk, "post": "yes"}
        admin_client.post(reverse(LIST), data)
        assert IdempotencyRecord.objects.exists()

    def test_the_detail_page_offers_no_buttons(self, admin_client):
        page = admin_client.get(detail(remember("one"))).content.decode()
        assert 'name="_save"' not in page
        assert "deletelink" not in page

    def test_looking_needs_the_view_permission(self, client):
        record = remember("one")
        user = User.objects.create_user("staff", is_staff=True)
        client.force_login(user)
        assert client.get(detail(record)).status_code == 403
        user.user_permissions.add(Permission.objects.get(codename="view_idempotencyrecord"))
        assert client.get(detail(record)).status_code == 200


class TestFilters:
    @pytest.fixture(autouse=True)
    def records(self):
        past = timezone.now() - timedelta(hours=1)
        remember("created", method="POST", response_status=201)
        remember("refused", method="PUT", response_status=422)
        remember("redirected", method="PATCH", response_status=302)
        remember("broken", method="DELETE", response_status=599)
        remember("running", method="DELETE", response_status=None, state=State.CLAIMED)
        remember("gone", method="POST", response_status=200, expires_at=past)

    @pytest.mark.parametrize(
        ("query", "keys"),
        [
            ({"state__exact": "claimed"}, {"running"}),
            ({"state__exact": "completed", "method": "DELETE"}, {"broken"}),
            ({"method": "PUT"}, {"refused"}),
            ({"method": "POST"}, {"created", "gone"}),
            ({"status": "2"}, {"created", "gone"}),
            ({"status": "3"}, {"redirected"}),
            ({"status": "4"}, {"refused"}),
            ({"status": "5"}, {"broken"}),
            ({"expired": "yes"}, {"gone"}),
            ({"expired": "no", "status": "2"}, {"created"}),
        ],
    )
    def test_they_narrow_the_list(self, admin_client, query, keys):
        assert set(listed(admin_client, **query)) == keys

    @pytest.mark.parametrize("query", [{"status": "9"}, {"expired": "maybe"}, {"method": ""}])
    def test_values_that_mean_nothing_are_ignored(self, admin_client, query):
        assert len(listed(admin_client, **query)) == 6


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

    def test_the_database_looks_into_the_unique_index(self, admin_client):
        records = admin_client.get(reverse(LIST), {"q": "Key-1"}).context["cl"].queryset
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_seqscan = off")  # so few rows are soon read
        plan = records.order_by().explain()
        index = "USING INDEX" if connection.vendor == "sqlite" else "idempotency_key_scope"
        assert index in plan


class TestCost:
    def test_the_list_costs_the_same_for_many_records(self, admin_client):
        remember("first")
        few = self.queries(admin_client)
        for number in range(20):
            remember(f"key {number}")
        assert len(self.queries(admin_client)) == len(few)

    def test_the_list_reads_neither_bodies_nor_headers(self, admin_client):
        remember("one")
        statements = self.queries(admin_client)
        assert not [sql for sql in statements if "response_body" in sql or "headers" in sql]

    def test_the_detail_page_reads_only_the_length_of_the_body(self, admin_client):
        record = remember("one")
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(detail(record))
        reading = [query["sql"] for query in queries if "response_body" in query["sql"]]
        assert len(reading) == 1
        assert "LENGTH(" in reading[0]

    @staticmethod
    def queries(client) -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            listed(client)
        return [query["sql"] for query in queries]


def test_records_of_another_database_are_read_there(admin_client, settings):
    settings.IDEMPOTENCY = {"USING": "default"}
    remember("one")
    assert listed(admin_client) == ["one"]
