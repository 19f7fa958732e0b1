"""The admin shows records, edits nothing and keeps secrets."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from textwrap import dedent

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils import timezone

from django_idempotency.admin import IdempotencyRecordAdmin, presentation
from django_idempotency.admin.presentation import indented
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.codecs import Codec, Keyring, Owner, encode
from django_idempotency.protocol.keys import short_digest
from django_idempotency.protocol.record import State, StoredResponse
from django_idempotency.stores.database.rows import columns
from tests.support.admin import BODY, LIST, badges, grant, listed, remember, staff

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


UNLOCKED = "interrupted" if connection.vendor == "postgresql" else "in flight or interrupted"
"""What is known of a claimed record inside the transaction of a test."""


def detail(record: IdempotencyRecord, verb: str = "change") -> str:
    return reverse(f"admin:django_idempotency_idempotencyrecord_{verb}", args=[record.pk])


class TestPages:
    def test_the_list_shows_the_newest_first(self, admin_client):
        remember("first")
        remember("second")
        assert listed(admin_client) == ["second", "first"]

    def test_the_list_shows_what_identifies_a_record(self, admin_client):
        remember("8e03978e", attempt=7, method="PATCH", path="/orders/5/")
        page = admin_client.get(reverse(LIST)).content.decode()
        for text in ("8e03978e", "7", "201"):
            assert f">{text}<" in page.replace("</span> ", "></span>>")
        assert 'title="PATCH /orders/5/"' in page
        assert badges(page) == ["completed"]

    def test_times_have_seconds_and_the_zone_of_the_project(self, admin_client, settings):
        """In every language the same, to be compared with logs."""
        settings.TIME_ZONE = "Asia/Tokyo"
        settings.LANGUAGE_CODE = "de"
        created = datetime(2026, 3, 4, 23, 30, 7, tzinfo=UTC)
        record = remember("one", created_at=created, completed_at=None)
        page = admin_client.get(reverse(LIST)).content.decode()
        assert "<span>2026-03-05</span> <span>08:30:07 JST</span>" in page
        page = admin_client.get(detail(record)).content.decode()
        assert '<time datetime="2026-03-04T23:30:07+00:00">2026-03-05 08:30:07 JST</time> (' in page

    @pytest.mark.parametrize(
        ("away", "words"),
        [
            (timedelta(days=3, minutes=1), "in 3\xa0days"),
            (timedelta(days=-2, hours=-1), "2\xa0days ago"),
            (timedelta(seconds=-61), "1\xa0minute ago"),
        ],
    )
    def test_expiry_is_in_words_too(self, admin_client, away, words):
        expires = timezone.now() + away
        remember("one", expires_at=expires)
        page = admin_client.get(reverse(LIST)).content.decode()
        [time] = re.findall(r'"field-expiry">.*?(<time .*?</time>)', page)
        assert f">{words} <" in time
        assert f'datetime="{expires.isoformat()}"' in time

    def test_times_without_zone_are_those_of_the_project(self, admin_client, settings):
        settings.USE_TZ = False
        settings.TIME_ZONE = "Asia/Tokyo"
        remember(
            "one",
            created_at=datetime(2026, 3, 4, 23, 30),
            completed_at=None,
            expires_at=datetime(2026, 3, 5, 23, 30),
        )
        page = admin_client.get(reverse(LIST)).content.decode()
        assert "<span>2026-03-04</span> <span>23:30:00 JST</span>" in page

    def test_the_middle_of_a_long_key_is_left_out_in_the_list_only(self, admin_client):
        """The button that copies has all of it."""
        key = "k" * 120 + "not in the middle" + "k" * 118
        record = remember(key)
        page = admin_client.get(reverse(LIST)).content.decode()
        assert ">kkkkkkkk\N{HORIZONTAL ELLIPSIS}kkkkk<" in page
        assert page.count("not in the middle") == page.count(f'data-copy="{key}"') == 1
        assert (
            f'<code class="idempotency-code">{key}<'
            in admin_client.get(detail(record)).content.decode()
        )

    def test_a_hostile_key_is_text(self, admin_client):
        hostile = '"><script>alert(1)</script>'
        record = remember(hostile, path=f"/{hostile}")
        for address in (reverse(LIST), detail(record)):
            assert "<script>alert" not in admin_client.get(address).content.decode()

    def test_a_record_has_the_digests_of_its_log_lines(self, admin_client):
        record = remember("one")
        page = admin_client.get(detail(record)).content.decode()
        for digest in (short_digest("one"), record.scope[:12]):
            assert f'<code class="idempotency-code">{digest}<' in page

    @pytest.mark.parametrize(
        ("took", "attempt", "words"),
        [
            (timedelta(milliseconds=17.4), 1, "17 ms"),
            (timedelta(seconds=41.44), 2, "41.4 s, 2 attempts"),
            (timedelta(seconds=3600), 1, "1\xa0h"),
            (timedelta(days=2, seconds=61.6), 3, "2\xa0d 1\xa0min 2\xa0s, 3 attempts"),
        ],
    )
    def test_how_long_it_took(self, admin_client, took, attempt, words):
        now = timezone.now()
        record = remember("one", created_at=now - took, completed_at=now, attempt=attempt)
        page = admin_client.get(detail(record)).content.decode()
        assert f'<div class="readonly">{words}</div>' in page

    @pytest.mark.parametrize(
        ("state", "age", "text"),
        [
            (State.COMPLETED, -1, "completed"),
            (State.COMPLETED, 1, "completed (expired)"),
            (State.CLAIMED, -1, UNLOCKED),
            (State.CLAIMED, 1, f"{UNLOCKED} (expired)"),
        ],
    )
    def test_states_are_explained_in_words(self, admin_client, state, age, text):
        record = remember("one", state=state, expires_at=timezone.now() - timedelta(hours=age))
        for address in (reverse(LIST), detail(record)):
            assert badges(admin_client.get(address).content.decode()) == [text]

    def test_nothing_secret_is_shown(self, client):
        """I10: who may look at records may not look into responses."""
        client.force_login(staff("view_idempotencyrecord"))
        record = remember("one")
        for address in (reverse(LIST), detail(record), detail(record, "history")):
            page = client.get(address).content.decode()
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

    def test_what_a_claimed_record_lacks_is_empty(self, admin_client):
        record = remember("one", state=State.CLAIMED, completed_at=None, response_status=None)
        page = admin_client.get(detail(record)).content.decode()
        assert 'readonly">None<' not in page

    def test_why_a_response_is_missing(self, admin_client):
        record = remember("one", response_body=None, response_omitted="too_large")
        assert ">too large<" in admin_client.get(detail(record)).content.decode()
        record = remember("two")
        assert "omitted" not in admin_client.get(detail(record)).content.decode()


@pytest.mark.once
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

    def test_an_action_that_the_class_lists_is_offered(self, rf, admin_user):
        def report(*args: object) -> None:
            """Does nothing."""

        class More(IdempotencyRecordAdmin):
            actions = (*IdempotencyRecordAdmin.actions, report)

        request = rf.get("/")
        request.user = admin_user
        offered = More(IdempotencyRecord, admin.site).get_actions(request)
        assert list(offered) == ["discard", "evict", "report"]

    def test_actions_of_the_project_are_not_offered(self, admin_client, monkeypatch):
        """Nor the admin's own deletion: they know nothing of locks."""
        monkeypatch.setitem(admin.site._actions, "wipe", lambda *args: None)
        record = remember("one")
        page = admin_client.get(reverse(LIST)).content.decode()
        assert 'value="wipe"' not in page
        assert 'value="delete_selected"' not in page
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


class TestResponses:
    """What is stored is shown to those with a permission of its own."""

    def shown(self, client, **values: object) -> str:
        """Return the text of the body on a record's page."""
        page = client.get(detail(remember("one", **values))).content.decode()
        blocks = re.findall(r'aria-label="(\w+)">(.*?)</pre>', page, re.DOTALL)
        return unescape(dict(blocks)["Body"])

    def test_the_permission_is_asked(self, client):
        user = staff("view_idempotencyrecord")
        client.force_login(user)
        record = remember("one")
        assert "you need the permission" in client.get(detail(record)).content.decode()
        grant(user, "view_response")
        page = client.get(detail(record)).content.decode()
        assert "you need the permission" not in page
        assert BODY.decode() in page
        assert "X-Secret: a header of a stored response" in page

    def test_json_is_indented_and_nothing_else_of_it_changes(self, admin_client):
        body = b'{"a":[1.10,{"b":"]}, \\""},[],{}],"a":{}, "d": 12345678901234567890e-400}'
        assert self.shown(admin_client, response_body=body) == dedent(
            """\
            {
              "a": [
                1.10,
                {
                  "b": "]}, \\""
                },
                [],
                {}
              ],
              "a": {},
              "d": 12345678901234567890e-400
            }"""
        )

    @pytest.mark.parametrize("body", [b'{"a": ', b"[" * 3000, b'"text"', b"<p>html</p>", b""])
    def test_what_is_not_a_json_document_is_shown_as_it_is(self, admin_client, body):
        assert self.shown(admin_client, response_body=body) == body.decode()

    def test_markup_is_not_markup(self, admin_client):
        body = b"<script>alert(1)</script>"
        headers = json.dumps([["X-Name", "<script>alert(2)</script>"]])
        record = remember("one", response_body=body, response_headers=headers)
        assert "<script>alert" not in admin_client.get(detail(record)).content.decode()

    def test_binary_bodies_are_named(self, admin_client):
        record = remember("one", response_body=b"\xff\x00")
        assert "Not text" in admin_client.get(detail(record)).content.decode()

    def test_long_bodies_are_cut(self, admin_client, monkeypatch):
        monkeypatch.setattr(presentation, "SHOWN", 5)
        assert self.shown(admin_client, response_body=b"123456") == "12345"
        page = admin_client.get(detail(IdempotencyRecord.objects.get())).content.decode()
        assert "The rest is not shown." in page

    def test_nested_brackets_do_not_become_a_page_of_spaces(self, admin_client):
        """A client of the API chooses what is in a body that the view echoes."""
        nested = b"[" * 900 + b"1" + b"]" * 900
        record = remember("one", response_body=b"[" + b",".join([nested] * 500) + b"]")
        page = admin_client.get(detail(record)).content
        assert len(page) < presentation.SHOWN + 100_000
        assert b"The rest is not shown." in page

    def test_nor_is_more_made_than_is_shown(self):
        pieces = indented("[" * 900 + "]" * 900, 100)
        assert 100 < len(pieces) < 400

    def test_very_long_bodies_are_not_even_read(self, admin_client, monkeypatch):
        monkeypatch.setattr(presentation, "READ", 5)
        record = remember("one", response_body=b"one to six")
        with CaptureQueriesContext(connection) as queries:
            page = admin_client.get(detail(record)).content.decode()
        assert "one to six" not in page
        reading = [query["sql"] for query in queries if "response_body" in query["sql"]]
        assert len(reading) == 1
        assert "LENGTH(" in reading[0]

    def test_compressed_responses_are_opened(self, admin_client):
        stored = encode(StoredResponse(201, body=b'"one"'), Codec.ZLIB, Keyring(), Owner("", ""))
        assert self.shown(admin_client, **columns(stored)) == '"one"'

    @pytest.mark.parametrize(
        "values",
        [
            {"response_codec": "fernet:00000000"},
            {"state": State.CLAIMED, "response_status": None, "response_body": None},
            {"response_body": None, "response_omitted": "too_large"},
            {"response_version": 99},
        ],
    )
    def test_where_there_is_none_the_page_says_so(self, admin_client, values):
        page = admin_client.get(detail(remember("one", **values))).content.decode()
        assert page.count('<div class="readonly">-</div>') >= 2
        assert "<pre" not in page


def test_records_of_another_database_are_read_there(admin_client, settings):
    settings.IDEMPOTENCY = {"USING": "default"}
    remember("one")
    assert listed(admin_client) == ["one"]


class Replicas:
    """Reads records somewhere else."""

    def db_for_read(self, model: type, **hints: object) -> str | None:
        return "replica" if model is IdempotencyRecord else None


def test_replicas_are_not_asked(admin_client, settings):
    """They know no locks, and may be late."""
    record = remember("one")
    settings.DATABASE_ROUTERS = [f"{__name__}.Replicas"]
    assert listed(admin_client) == ["one"]
    assert BODY.decode() in admin_client.get(detail(record)).content.decode()
