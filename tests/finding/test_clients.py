"""Which clients use keys wrongly, and what to tell them."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, reverse
from django.utils import timezone

from django_idempotency.finding.clients import Finding, Kind, findings
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.keys import short_digest
from tests.conftest import Caller, row_locks
from tests.support import statistics
from tests.support.admin import grant, remember, staff
from tests.support.counting import counted
from tests.support.large_table import fill, plan, reads_all

PAGE = "admin:django_idempotency_idempotencyrecord_clients"
PATH = "/decorated-rest/"

urlpatterns = [path("admin/", admin.site.urls), path("", include("tests.shop.urls"))]

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def installed(settings: Any) -> Iterator[None]:
    yield from statistics.installed(settings)


def found(**options: Any) -> list[Finding]:
    return findings("default", **options)


def scope() -> str:
    return IdempotencyRecord.objects.latest("pk").scope[:12]


class TestNewKeys:
    """As with a library that makes a key for each try."""

    def test_identical_requests_under_new_keys(self, caller: Caller) -> None:
        for key in ("try-a8fjz1m2hx-1", "try-p0qmx2zzkq-2", "try-k3jx9q2mzt-3"):
            caller.post(PATH, {"item": "vm"}, key=key)
        [finding] = found()
        first, second, third = IdempotencyRecord.objects.order_by("pk").values_list("pk", flat=True)
        assert finding == Finding(
            Kind.NEW_KEYS, scope(), 2, (f"POST {PATH}",), (third, second, first)
        )
        assert "under a new key" in str(finding.advice.title)

    def test_other_requests_are_none(self, caller: Caller) -> None:
        caller.post(PATH, {"item": "vm"}, key="first")
        caller.post(PATH, {"item": "disk"}, key="second")
        caller.post("/decorated-function/", {"item": "vm"}, key="third")
        assert found() == []

    def test_other_callers_are_none(self, caller: Caller) -> None:
        caller.post(PATH, {"item": "vm"}, key="first")
        Caller("grace.hopper").post(PATH, {"item": "vm"}, key="second")
        assert found() == []

    def test_later_requests_are_none(self) -> None:
        now = timezone.now()
        for seconds in (100, 61, 0):
            remember(f"key-{seconds}", created_at=now - timedelta(seconds=seconds))
        assert [each.times for each in found()] == [1]
        assert [each.times for each in found(within=timedelta(seconds=62))] == [2]
        assert [each.times for each in found(within=timedelta(seconds=1))] == []

    def test_only_the_newest_records_are_read(self) -> None:
        now = timezone.now()
        for number in range(6):
            remember(f"a-{number}-key", created_at=now, fingerprint="a")
        remember("another-key", fingerprint="b")
        assert [each.times for each in found(newest=4)] == [2]
        with counted() as count:
            found(newest=4)
        assert count.statements == 1


@row_locks
def test_it_reads_no_large_table_as_a_whole() -> None:
    fill(20_000)
    with CaptureQueriesContext(connection) as queries:
        found(newest=500)
    [sql] = [query["sql"] for query in queries]
    accesses = plan(sql)
    assert accesses
    assert [access for access in accesses if reads_all(access)] == []


class TestReusedKeys:
    def test_they_are_told_by_statistics(
        self, installed: None, caller: Caller, monkeypatch: Any
    ) -> None:
        with statistics.tables():
            for counter in statistics.fresh_counter(monkeypatch):
                caller.post(PATH, {"item": "vm"})
                for item in ("disk", "backup"):
                    assert caller.post(PATH, {"item": item}).status_code == 422
                counter.flush()
            view = "tests.shop.views.DecoratedRestView"
            assert found() == [Finding(Kind.REUSED_KEYS, scope(), 2, (view,))]

    def test_without_their_table_the_others_are_told(self, installed: None, caller: Caller) -> None:
        """The app is installed, and nobody has migrated yet. The page may be in a block of
        ATOMIC_REQUESTS, which goes on."""
        for key in ("first", "second"):
            caller.post(PATH, {"item": "vm"}, key=key)
        with transaction.atomic():
            assert [each.kind for each in found()] == [Kind.NEW_KEYS]
            assert scope()

    @pytest.mark.parametrize("by", ["--user", "--scope", "log line"])
    def test_they_are_erased_with_their_caller(
        self, installed: None, caller: Caller, monkeypatch: Any, by: str
    ) -> None:
        with statistics.tables():
            for counter in statistics.fresh_counter(monkeypatch):
                caller.post(PATH, {"item": "vm"})
                caller.post(PATH, {"item": "disk"})
                counter.count("pay", "mismatch", 0.001, "0123456789ab")
                counter.flush()
            of_caller = scope()
            arguments = {
                "--user": ["--user", "ada.lovelace"],
                "--scope": ["--scope", of_caller],
                "log line": [f"Key {short_digest('k-1')}, scope {of_caller}: mismatch"],
            }
            said = StringIO()
            options: Any = {"erase": True, "no_input": True, "stdout": said}
            call_command("idempotency_records", *arguments[by], **options)
            left = {each.scope for each in found()}
        assert said.getvalue().startswith("1 record erased")
        # A line is about one operation only.
        assert left == {"0123456789ab"} | ({of_caller} if by == "log line" else set())
        assert ("about reused keys: 1 erased" in said.getvalue()) is (by != "log line")

    def test_callers_are_bounded(self, installed: None, monkeypatch: Any) -> None:
        """A process tells so many apart in a day; the others count as one."""
        with statistics.tables():
            from django_idempotency.contrib.statistics import counting

            monkeypatch.setattr(counting, "MOST_CALLERS", 2)
            for counter in statistics.fresh_counter(monkeypatch):
                for number in (1, 2, 3, 4, 1):
                    counter.count("pay", "mismatch", 0.001, f"{number:012}")
                counter.flush()
            told = {each.scope: each.times for each in found()}
            assert told == {"000000000001": 2, "000000000002": 1, "": 2}


def test_weak_keys(caller: Caller) -> None:
    for number in range(6):
        caller.post(PATH, {"item": str(number)}, key=str(number))
    [finding] = found()
    assert finding == Finding(Kind.COUNTER, scope(), 6, (f"POST {PATH}",))


class TestCommand:
    def run(self, *arguments: str) -> str:
        told = StringIO()
        call_command("idempotency_clients", *arguments, stdout=told)
        return told.getvalue()

    def test_it_says_what_to_tell_the_client(self, caller: Caller) -> None:
        for number in range(6):
            caller.post(PATH, {"item": "vm"}, key=f"secret-{number}")
        Caller("grace.hopper").post(PATH, {"item": "vm"}, key="secret")
        told = self.run("--user", "ada.lovelace", "--user", "grace.hopper")
        assert told.startswith(
            "Sends an identical request again under a new key. Each of them runs"
        )
        assert "Tell the client: Make the key once" in told
        assert "Counts its keys." in told
        found = f"scope {IdempotencyRecord.objects.earliest('pk').scope[:12]} (ada.lovelace): 5: "
        assert f"{found}POST {PATH}; records " in told
        assert "grace" not in told
        assert "secret" not in told

    def test_nothing_is_found(self, db: None) -> None:
        assert self.run("--records", "7") == (
            "Nothing was found in the newest 7 records and the statistics.\n"
        )

    @pytest.mark.parametrize(
        "arguments", [("--user", "nobody"), ("--within", "soon"), ("--records", "0")]
    )
    def test_wrong_options(self, arguments: tuple[str, str]) -> None:
        with pytest.raises(CommandError, match=arguments[0]):
            self.run(*arguments)


class TestPage:
    def test_it_names_a_user_who_is_asked_for(self, caller: Caller, admin_client: Client) -> None:
        for key in ("first", "second"):
            caller.post(PATH, {"item": "vm"}, key=key)
        text = admin_client.get(reverse(PAGE)).content.decode()
        [link] = re.findall(rf'<a href="([^"]*)"><code>{scope()}</code></a></td>', text)
        listed = admin_client.get(unescape(link))
        assert [each.key for each in listed.context["cl"].result_list] == ["second", "first"]
        record = IdempotencyRecord.objects.latest("pk")
        change = reverse("admin:django_idempotency_idempotencyrecord_change", args=[record.pk])
        assert f'href="{change}"' in text
        text = admin_client.get(reverse(PAGE), {"user": "ada.lovelace"}).content.decode()
        assert f"<code>{scope()}</code></a> <strong>ada.lovelace</strong></td>" in text
        User.objects.create_user("grace.hopper")
        text = admin_client.get(reverse(PAGE), {"user": "grace.hopper"}).content.decode()
        assert "None of them" in text
        assert "no such user" in admin_client.get(reverse(PAGE), {"user": "\0"}).content.decode()

    def test_it_escapes_what_clients_send(self, admin_client: Client) -> None:
        for number in range(6):
            remember(f"<b>{number}", path="/<script>/", fingerprint="a")
        text = admin_client.get(reverse(PAGE)).content.decode()
        assert "POST /<wbr>&lt;script&gt;/" in text
        assert "<b>" not in text

    def test_nothing_was_found(self, admin_client: Client) -> None:
        assert "Nothing was found" in admin_client.get(reverse(PAGE)).content.decode()

    def test_only_those_who_may_see_records_see_it(self, client: Client) -> None:
        client.force_login(staff())
        assert client.get(reverse(PAGE)).status_code == 403

    def test_only_those_who_may_view_users_may_ask_whose_a_scope_is(
        self, caller: Caller, client: Client
    ) -> None:
        for key in ("first", "second"):
            caller.post(PATH, {"item": "vm"}, key=key)
        user = staff("view_idempotencyrecord")
        client.force_login(user)
        pages = [client.get(reverse(PAGE), {"user": name}) for name in ("ada.lovelace", "nobody")]
        for page in pages:
            text = page.content.decode()
            assert f"<code>{scope()}</code></a></td>" in text
            assert 'name="user"' not in text
            assert "no such user" not in text
        grant(user, "view_user")
        text = client.get(reverse(PAGE), {"user": "ada.lovelace"}).content.decode()
        assert "<strong>ada.lovelace</strong>" in text

    def test_it_takes_few_statements(self, admin_client: Client) -> None:
        admin_client.get(reverse(PAGE))
        with counted() as count:
            admin_client.get(reverse(PAGE))
        assert count.statements <= 12
