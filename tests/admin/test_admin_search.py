"""Records are found by what an operator has: a key, a log line, a caller, a path, a status."""

import re
from html import unescape
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils import timezone

from django_idempotency.admin import listing, overview
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.keys import key_digest, short_digest
from django_idempotency.protocol.record import State
from tests.conftest import Caller
from tests.support.admin import LIST, listed, page, remember, staff

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

EFFECTS = "admin:idempotency_effects_idempotencyeffect_changelist"
RECORD = "admin:django_idempotency_idempotencyrecord_change"
SCOPE = "ab" * 32


def said(client: Any, **query: str) -> list[str]:
    """Return the sentences that stand in place of the list."""
    found = re.search(r'<div class="idempotency-nothing">(.*?)</div>', page(client, **query), re.S)
    assert found, "something was found"
    return [unescape(each) for each in re.findall(r"<p>(.*?)</p>", found[1], re.S)]


class TestWords:
    @pytest.fixture(autouse=True)
    def records(self):
        remember("paid", path="/orders/1/payments/", response_status=201, request_id="7f1c")
        remember("refused", path="/orders/", response_status=422, scope=SCOPE)
        remember("changed", path="/orders/1/", method="PUT", response_status=409)
        remember("running", path="/carts/", response_status=None, state=State.CLAIMED)

    @pytest.mark.parametrize(
        ("text", "keys"),
        [
            ("paid", {"paid"}),
            ('"paid"', {"paid"}),
            (short_digest("paid"), {"paid"}),
            (short_digest("paid").upper(), {"paid"}),
            (short_digest("paid")[:4], {"paid"}),
            (key_digest("paid"), {"paid"}),
            (SCOPE[:12], {"refused"}),
            (SCOPE, {"refused"}),
            (f"WARNING Key {short_digest('refused')}, scope {SCOPE[:12]}: mismatch", {"refused"}),
            (f"Key {short_digest('paid')}, scope {SCOPE[:12]}", set()),
            ("/orders/", {"paid", "refused", "changed"}),
            ("/orders/1/payments/?page=2", {"paid"}),
            ("https://example.com/orders/1/", {"paid", "changed"}),
            ("PUT /orders/", {"changed"}),
            ("status:422", {"refused"}),
            ("status:4xx", {"refused", "changed"}),
            ("status:4XX /orders/1/", {"changed"}),
            ("refused status:422", {"refused"}),
            ("paid status:422", set()),
            ('"/orders/"', set()),
            ("/nowhere/", set()),
            ("request:7f1c", {"paid"}),
            ("request:7f", set()),
        ],
    )
    def test_what_they_find(self, admin_client, text, keys):
        assert set(listed(admin_client, q=text)) == keys

    @pytest.mark.parametrize("text", ["status:many", "status:999", "user:nobody"])
    def test_what_means_nothing_finds_nothing_and_says_so(self, admin_client, text):
        assert listed(admin_client, q=text) == []
        assert len(said(admin_client, q=text)) == 1

    def test_a_line_of_the_log_is_taken_as_a_whole(self, admin_client):
        line = f"Key {short_digest('paid')}, scope -: executed, user:nobody status:none"
        assert listed(admin_client, q=line) == ["paid"]

    def test_a_line_about_no_record_says_so(self, admin_client):
        line = "Key -, scope -: refused (400) in orders, guard 0.1 ms, idempotency_key_invalid"
        assert listed(admin_client, q=line) == []
        assert "without a record: its key was not valid" in said(admin_client, q=line)[0]

    def test_lines_about_a_record_or_an_effect_lead_to_it(self, admin_client):
        record = IdempotencyRecord.objects.get(key="paid")
        effect = IdempotencyEffect.objects.create(
            key=uuid4(), record_id=record.pk, name="mail", arguments="[]", staged_at=timezone.now()
        )
        assert listed(admin_client, q=f"Record {record.pk}: not resumed") == ["paid"]
        assert listed(admin_client, q=f"Effect mail {effect.key}: failed") == ["paid"]
        assert listed(admin_client, q=f"Effect mail {uuid4()}: failed") == []
        assert listed(admin_client, q="Record 12345678: not resumed") == []
        lines = {"q": f"ERROR Effect mail {effect.key}: failed"}
        response = admin_client.get(reverse(EFFECTS), lines)
        assert [each.pk for each in response.context["cl"].result_list] == [effect.key]

    def test_a_record_leads_to_all_of_its_scope(self, admin_client):
        record = remember("later", scope=SCOPE)
        shown = admin_client.get(reverse(RECORD, args=[record.pk])).content.decode()
        link = re.search(r'href="([^"]*)">All records of this scope', shown)
        assert link
        response = admin_client.get(unescape(link[1]))
        found = [each.key for each in response.context["cl"].result_list]
        assert found == ["later", "refused"]

    def test_a_key_that_looks_like_a_digest_is_a_key(self, admin_client):
        remember(short_digest("paid"))
        assert listed(admin_client, q=short_digest("paid")) == [short_digest("paid")]

    def test_filters_narrow_what_is_found(self, admin_client):
        assert set(listed(admin_client, q="/orders/", method="PUT")) == {"changed"}
        assert set(listed(admin_client, q="/carts/", state="completed")) == set()

    @pytest.mark.parametrize(
        "text", ["/caf\u00e9:close/", "/caf%C3%A9:close/", "/caf%C3%A9%3Aclose/"]
    )
    def test_paths_may_be_encoded_or_not(self, admin_client, text):
        remember("closed", path=quote("/caf\u00e9:close/"))
        assert listed(admin_client, q=text) == ["closed"]
        assert listed(admin_client, q=text[:-1] + "d/") == []

    def test_so_may_be_paths_that_are_longer_than_what_is_kept(self, admin_client):
        remember("long", path=("/" + "a" * 300)[:255])
        assert listed(admin_client, q="/" + "a" * 300) == ["long"]

    @pytest.mark.parametrize("text", ["|7f1c.1|", "%7C7f1c.1%7C", '"|7f1c.1|"'])
    def test_so_may_be_ids_of_requests(self, admin_client, text):
        remember("traced", request_id=quote("|7f1c.1|"))
        assert listed(admin_client, q=f"request:{text}") == ["traced"]

    def test_a_key_is_found_by_its_index(self, admin_client):
        with CaptureQueriesContext(connection) as queries:
            listed(admin_client, q="paid")
        searched = [query["sql"] for query in queries if "'paid'" in query["sql"]]
        assert searched
        assert not [sql for sql in searched if re.search(r"id[`\"] >= ", sql)]


class TestWindows:
    """What no index finds is looked for a stretch at a time."""

    @pytest.mark.parametrize("text", [short_digest("old"), "/old/", "status:404"])
    def test_older_records_are_a_link_away(self, admin_client, monkeypatch, text):
        for module in (listing, overview):
            monkeypatch.setattr(module, "WIDTH", 10)
        remember("old", path="/old/", response_status=404)
        for number in range(15):
            remember(f"{number}")
        assert listed(admin_client, q=text) == []
        *_, older = said(admin_client, q=text)
        link = re.search(r'href="\?([^"]*)"', older)
        assert link, older
        query = dict(pair.split("=") for pair in unescape(link[1]).split("&"))
        assert listed(admin_client, **query | {"q": text}) == ["old"]


class TestEmptyStates:
    def test_a_table_without_records_says_where_they_come_from(self, admin_client):
        content = page(admin_client)
        assert "No records yet" in content
        assert "Idempotency-Key" in content
        assert "Action:" not in content

    def test_a_key_without_record(self, admin_client):
        remember("one")
        first, second = said(admin_client, q="two")
        assert "It may have expired" in first
        assert "digest" in second

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ({}, "No effect waits"),
            ({"q": "one"}, "No effect has this key"),
            ({"state": "failed"}, "Clear"),
        ],
    )
    def test_a_list_of_effects_without_any(self, admin_client, query, words):
        content = admin_client.get(reverse(EFFECTS), query).content.decode()
        assert words in content
        assert "Action:" not in content

    def test_filters_that_let_nothing_through(self, admin_client):
        remember("one")
        _, clear = said(admin_client, status="5")
        assert "Clear all filters" in clear

    def test_what_is_searched_for_is_text(self, admin_client):
        assert "<script>alert" not in page(admin_client, q="<script>alert(1)</script>")


@pytest.mark.urls("tests.shop.urls")
@pytest.mark.usefixtures("use_middleware")
class TestUsers:
    @pytest.fixture
    def caller(self, transactional_db: Any) -> Caller:
        return Caller("alice")

    @pytest.mark.parametrize("name", ["alice", '"alice"', "the primary key"])
    def test_a_user_leads_to_their_records(self, caller, admin_client, name):
        caller.post("/function/", key="of-alice")
        remember("of-somebody-else")
        name = str(caller.user.pk) if name == "the primary key" else name
        assert listed(admin_client, q=f"user:{name}") == ["of-alice"]
        assert listed(admin_client, q=f"user:{name} of-alice") == ["of-alice"]
        assert listed(admin_client, q=f'user:{name} "of-somebody-else"') == []
        assert "Keys of this user are looked for" in page(admin_client, q=f"user:{name}")

    def test_to_look_for_users_needs_the_permission_to_see_them(self, caller, client):
        caller.post("/function/", key="of-alice")
        client.force_login(staff("view_idempotencyrecord"))
        (refused,) = said(client, q="user:alice")
        assert "the permission to view users" in refused
        assert said(client, q="user:nobody") == [refused]

    def test_it_says_which_keys_no_user_leads_to(self, caller, admin_client, settings):
        settings.IDEMPOTENCY = {"SCOPE": "token"}
        caller.post("/rest/", key="of-a-token")
        assert listed(admin_client, q="user:alice") == ["of-a-token"]
        assert "Their other keys cannot be found" in page(admin_client, q="user:alice")


@pytest.mark.urls("tests.shop.urls")
@pytest.mark.usefixtures("use_middleware")
@pytest.mark.django_db(transaction=True)
class TestLogLines:
    """From the line of each outcome to its record: paste it, and follow the link."""

    def test_they_lead_to_the_record(self, admin_client, caplog):
        caplog.set_level("DEBUG", "django_idempotency")
        alice = Caller("alice")
        Caller("bob").post("/function/")
        caplog.clear()
        for amount in (1, 1, 2):
            alice.post("/function/", {"item": amount})
        record = IdempotencyRecord.objects.latest("pk")
        lines = [each.getMessage() for each in caplog.records if each.name == "django_idempotency"]
        assert [re.findall(r": (\w+)", line)[0] for line in lines] == [
            *("executed", "replayed", "mismatch"),
        ]
        for line in lines:
            response = admin_client.get(reverse(LIST), {"q": line})
            (found,) = response.context["cl"].result_list
            assert found.pk == record.pk
            assert f"/{record.pk}/change/" in response.content.decode()


def test_names_of_users_are_no_sql(admin_client):
    User.objects.create_user("o'brien")
    assert listed(admin_client, q="user:o'brien") == []
