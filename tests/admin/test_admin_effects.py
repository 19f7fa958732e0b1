"""Effects in the admin: what an operation has staged, and what an operator decides about them."""

import re
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client, modify_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_idempotency.admin.effects import SHOWN
from django_idempotency.effects import after_commit
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.effects.runner import run_due
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.support import effects
from tests.support.admin import badges, grant, remember
from tests.support.effects import down, later, make_due, send, sent

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "admin:idempotency_effects_idempotencyeffect_changelist"
CHANGE_EFFECT = "admin:idempotency_effects_idempotencyeffect_change"
CHANGE_RECORD = "admin:django_idempotency_idempotencyrecord_change"
APP = "django_idempotency.effects"


@pytest.fixture(autouse=True)
def _the_world() -> Any:
    effects.reset()
    yield
    effects.reset()


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_user("operator", is_staff=True)
    grant(user, "view_idempotencyrecord", "view_idempotencyeffect", "resolve_idempotencyeffect")
    client.force_login(user)
    return user


def stage(effect: Any, *arguments: Any, record: int | None = None) -> list[str]:
    with transaction.atomic():
        keys = [after_commit(effect, each) for each in arguments]
    IdempotencyEffect.objects.filter(pk__in=keys).update(record_id=record)
    return keys


def fail(*arguments: Any, record: int | None = None) -> list[str]:
    """Stage effects that have failed for good."""
    keys = stage(later, *arguments, record=record)
    with down():
        for _ in range(3):
            run_due("default")
            make_due()
    return keys


def state_of(key: str) -> str:
    return IdempotencyEffect.objects.get(pk=key).state


def listed(client: Client, **query: str) -> list[str]:
    response = client.get(reverse(LIST), query)
    assert response.status_code == 200
    return [str(each.pk) for each in response.context["cl"].result_list]


def choose(client: Client, action: str, *keys: str) -> str:
    data = {"action": action, "_selected_action": keys, "index": "0"}
    response = client.post(reverse(LIST), data)
    assert response.status_code == 200, response
    return response.content.decode()


def confirm(client: Client, page: str) -> list[str]:
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page):
        fields.setdefault(name, []).append(unescape(value))
    response = client.post(reverse(LIST), fields, follow=True)
    return [str(message) for message in response.context["messages"]]


@pytest.mark.usefixtures("operator")
class TestPageOfARecord:
    def test_it_shows_what_the_operation_has_staged(self, client: Client) -> None:
        record = remember("k-1")
        (failed,) = fail("one", record=record.pk)
        stage(send, "two", record=record.pk)
        stage(later, "three", record=record.pk)
        stage(later, "of another", record=record.pk + 1)
        page = client.get(reverse(CHANGE_RECORD, args=[record.pk])).content.decode()
        assert badges(page) == ["completed", "failed", "done", "pending"]
        rows = [
            re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(<td>.*?)</tr>", page)
        ]
        cells = [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in rows]
        assert [(row[0].rpartition(".")[2], row[2], row[4]) for row in cells] == [
            ("later", "3", "Down"),
            ("send", "1", ""),
            ("later", "0", ""),
        ]
        assert [bool(row[3]) for row in cells] == [False, False, True]
        assert reverse(CHANGE_EFFECT, args=[failed]) in page
        assert "hunter2" not in page
        assert "of another" not in page

    def test_not_more_than_a_page_holds(self, client: Client) -> None:
        record = remember("k-1")
        stage(later, *range(SHOWN + 1), record=record.pk)
        page = client.get(reverse(CHANGE_RECORD, args=[record.pk])).content.decode()
        assert badges(page).count("pending") == SHOWN
        assert "The rest is not shown." in page

    def test_it_is_one_statement_and_none_without_the_app(
        self, client: Client, monkeypatch: Any
    ) -> None:
        record = remember("k-1")
        stage(later, "one", record=record.pk)
        page = reverse(CHANGE_RECORD, args=[record.pk])
        client.get(page)
        with CaptureQueriesContext(connection) as within:
            assert "pending" in badges(client.get(page).content.decode())
        monkeypatch.delitem(admin.site._registry, IdempotencyEffect)
        with (
            modify_settings(INSTALLED_APPS={"remove": APP}),
            CaptureQueriesContext(connection) as without,
        ):
            assert "pending" not in badges(client.get(page).content.decode())
        assert len(within) == len(without) + 1

    def test_without_effects_there_is_no_section(self, client: Client) -> None:
        page = client.get(reverse(CHANGE_RECORD, args=[remember("k-1").pk])).content.decode()
        assert "Effects</h2>" not in page


@pytest.mark.usefixtures("operator")
class TestList:
    def test_it_shows_what_is_not_decided_and_what_has_failed_first(self, client: Client) -> None:
        (failed,) = fail("failed")
        (pending,) = stage(later, "pending")
        stage(send, "done")
        assert listed(client) == [failed, pending]
        assert listed(client, state="failed") == [failed]
        assert listed(client, state="pending") == [pending]
        assert listed(client, state="done") == [failed, pending]

    def test_a_whole_key_finds_any(self, client: Client) -> None:
        (done,) = stage(send, "done")
        stage(later, "pending")
        assert listed(client, q=f" {done} ") == [done]
        assert listed(client, q="later") == []

    def test_arguments_are_shown_nowhere(self, client: Client) -> None:
        """They are other people's secrets."""
        (key,) = fail("hunter3")
        stored = IdempotencyEffect.objects.get().arguments
        pages = [client.get(reverse(LIST)), client.get(reverse(CHANGE_EFFECT, args=[key]))]
        for page in pages:
            assert "hunter3" not in page.content.decode()
            assert stored not in page.content.decode()
            assert "later" in page.content.decode()
        for guess in ("arguments__startswith", "name"):
            assert client.get(reverse(LIST), {guess: "a"}).status_code != 200

    def test_what_an_effect_lacks_is_a_dash(self, client: Client) -> None:
        (failed,) = fail("failed")
        (pending,) = stage(later, "pending")
        for address in (
            reverse(LIST),
            *(reverse(CHANGE_EFFECT, args=[key]) for key in (failed, pending)),
        ):
            page = client.get(address).content.decode()
            assert "None<" not in page
            assert re.search(r">-<|</span> -<", page)

    def test_an_effect_leads_to_its_record(self, client: Client) -> None:
        record = remember("k-1")
        stage(later, "one", record=record.pk)
        stage(later, "two")
        page = client.get(reverse(LIST)).content.decode()
        assert page.count(reverse(CHANGE_RECORD, args=[record.pk])) == 1

    def test_pages_are_bounded(self, client: Client, monkeypatch: Any) -> None:
        from django_idempotency.admin import effects as module

        monkeypatch.setattr(module, "LIMIT", 3)
        stage(later, *range(5))
        assert client.get(reverse(LIST)).context["cl"].result_count == 3


@pytest.mark.usefixtures("operator")
class TestDecisions:
    def test_it_asks_and_does_nothing_yet(self, client: Client) -> None:
        (failed,) = fail("one")
        (pending,) = stage(later, "two")
        page = choose(client, "run_again", failed, pending)
        assert "receiver that does not look at the key" in page
        going, staying = page.split("Effects that stay as they are")
        assert (failed in going, pending in staying) == (True, True)
        assert state_of(failed) == "failed"
        assert not LogEntry.objects.exists()

    def test_what_has_failed_runs_again_under_its_key(self, client: Client) -> None:
        (failed,) = fail("one")
        effects.keys.clear()
        assert confirm(client, choose(client, "run_again", failed)) == [
            "1 effect is pending again."
        ]
        row = IdempotencyEffect.objects.get()
        assert (row.state, row.tries) == ("pending", 3)
        run_due("default")
        assert (sent, effects.keys, state_of(failed)) == (["one"], [failed], "done")

    @pytest.mark.parametrize("make", [fail, lambda *each: stage(later, *each)])
    def test_what_is_given_up_never_runs(self, make: Any, client: Client) -> None:
        keys = make("one", "two")
        assert confirm(client, choose(client, "give_up", *keys)) == ["2 effects given up."]
        make_due()
        run_due("default")
        assert (sent, effects.states()) == ([], ["given_up"] * 2)
        assert None not in IdempotencyEffect.objects.values_list("purge_at", flat=True)
        assert "Effects about which you decide" not in choose(client, "run_again", *keys)

    def test_it_is_logged_about_the_effect(self, client: Client, operator: User) -> None:
        (first,), (second,) = fail("one"), fail("two")
        confirm(client, choose(client, "run_again", first))
        confirm(client, choose(client, "give_up", second))
        entries = LogEntry.objects.order_by("pk")
        assert [
            (each.user_id, each.action_flag, each.object_id, each.change_message)
            for each in entries
        ] == [
            (operator.pk, CHANGE, first, "Run again."),
            (operator.pk, CHANGE, second, "Given up."),
        ]
        assert {each.content_type.model for each in entries} == {"idempotencyeffect"}

    def test_what_has_changed_since_the_question_is_left_alone(self, client: Client) -> None:
        (key,) = stage(later, "one")
        page = choose(client, "give_up", key)
        run_due("default")
        assert confirm(client, page) == ["1 effect left alone: it has changed or is gone."]
        assert state_of(key) == "done"
        assert not LogEntry.objects.exists()

    def test_so_is_what_was_tried_since(self, client: Client) -> None:
        (key,) = stage(later, "one")
        page = choose(client, "give_up", key)
        with down():
            run_due("default")
        assert confirm(client, page) == ["1 effect left alone: it has changed or is gone."]
        assert state_of(key) == "pending"

    def test_what_changes_at_that_moment_too(self, client: Client, monkeypatch: Any) -> None:
        """The statement decides, not what was read before it."""
        from django_idempotency.admin import effects as module

        (key,) = fail("one")
        page = choose(client, "run_again", key)
        log, seen = module.rows.run_again, module._seen

        def meanwhile(effect: Any) -> str:
            IdempotencyEffect.objects.filter(pk=key).update(state="given_up")
            return seen(effect)

        monkeypatch.setattr(module, "_seen", meanwhile)
        assert log("default", []) == 0
        assert confirm(client, page) == ["1 effect left alone: it has changed or is gone."]
        assert not LogEntry.objects.exists()


class TestPermissions:
    def test_those_who_may_only_look_cannot_decide(self, client: Client) -> None:
        (key,) = fail("one")
        user = User.objects.create_user("auditor", is_staff=True)
        grant(user, "view_idempotencyeffect")
        client.force_login(user)
        assert 'name="action"' not in client.get(reverse(LIST)).content.decode()
        data = {"action": "run_again", "_selected_action": [key], "confirmed": "yes"}
        client.post(reverse(LIST), data | {"seen": f"{key}:failed:3"})
        assert state_of(key) == "failed"
        assert 'name="_save"' not in client.get(reverse(CHANGE_EFFECT, args=[key])).content.decode()

    def test_others_see_nothing(self, client: Client) -> None:
        (key,) = fail("one")
        client.force_login(User.objects.create_user("staff", is_staff=True))
        assert client.get(reverse(LIST)).status_code == 403
        assert client.get(reverse(CHANGE_EFFECT, args=[key])).status_code == 403

    def test_nobody_adds_edits_or_deletes(self, admin_client: Client) -> None:
        (key,) = fail("one")
        for name, arguments in (("add", []), ("delete", [key])):
            url = reverse(f"admin:idempotency_effects_idempotencyeffect_{name}", args=arguments)
            assert admin_client.get(url).status_code == 403
        page = admin_client.get(reverse(LIST)).content.decode()
        assert "delete_selected" not in page
        assert admin_client.post(reverse(CHANGE_EFFECT, args=[key]), {}).status_code == 403


def test_a_request_leads_to_its_effects(
    admin_client: Client, caller: Caller, after_write: Any
) -> None:
    after_write(lambda: effects.void(after_commit(later, "one")))
    assert caller.post("/decorated-rest/").status_code == 201
    (record,) = IdempotencyRecord.objects.all()
    page = admin_client.get(reverse(CHANGE_RECORD, args=[record.pk])).content.decode()
    assert badges(page) == ["completed", "pending"]
