"""Interrupted operations of non-atomic mode are resolved in the admin."""

from typing import Any, cast

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.forms import ChoiceField
from django.test import Client
from django.urls import reverse

from django_idempotency.admin.actions import DISCARD, EVICT
from django_idempotency.admin.resolving import ResolveForm
from django_idempotency.management.commands.resolve_idempotency_record import Command
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.resolution import ManualResolution, ResolutionOutcome
from django_idempotency.protocol.keys import short_digest
from tests.conftest import Caller
from tests.shop import effects
from tests.support.admin import grant
from tests.support.browser import browser_page, log_in
from tests.support.problems import code_of

PATH = "/effects/function/"


@pytest.fixture
def record(caller: Caller) -> int:
    effects.charges.clear()
    assert retried(caller).status_code == 500
    return int(IdempotencyRecord.objects.get().pk)


@pytest.fixture
def operator(transactional_db: None) -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    grant(user, "view_idempotencyrecord")
    grant(user, "resolve_idempotencyrecord")
    client = Client()
    client.force_login(user)
    return client


def retried(caller: Caller) -> Any:
    return caller.post(PATH, {"item": "vm", "outcome": "raise 500"})


def page(record: int) -> str:
    return reverse("admin:django_idempotency_idempotencyrecord_resolve", args=[record])


def resolve(client: Client, record: int, **given: Any) -> Any:
    return client.post(page(record), {"confirmed": "on", **given}, follow=True)


def test_the_record_leads_to_what_is_known(operator: Client, record: int) -> None:
    change = reverse("admin:django_idempotency_idempotencyrecord_change", args=[record])
    assert page(record) in operator.get(change).content.decode()
    shown = operator.get(page(record)).content.decode()
    assert "Attempt 1 started" in shown
    assert PATH in shown


@pytest.mark.once
def test_a_verb_means_one_thing_in_admin_command_and_permissions() -> None:
    """Whoever reads a log entry knows whether the record is still there."""
    fields = ResolveForm.base_fields
    decisions = {name for name, _ in cast(ChoiceField, fields["decision"]).choices}
    parser = Command().create_parser("manage.py", "resolve_idempotency_record")
    actions = next(each for each in parser._actions if each.dest == "action")
    assert decisions == {"rerun", "answer", "refuse"} == set(actions.choices or ()) - {"list"}
    assert all(hasattr(ManualResolution, name) for name in decisions)
    permissions = {name.partition("_")[0] for name, _ in IdempotencyRecord._meta.permissions}
    removals = {removal.name for removal in (DISCARD, EVICT)} | {"purge"}
    assert permissions == {*removals, "resolve", "view"}
    assert not removals & decisions


def test_an_operation_to_be_rerun_runs_again(operator: Client, record: int, caller: Caller) -> None:
    assert (
        "Rerun: the next retry runs."
        in resolve(operator, record, decision="rerun").content.decode()
    )
    assert retried(caller).status_code == 500
    assert effects.charges == ["vm"] * 2


def test_an_answer_replays_and_is_logged(operator: Client, record: int, caller: Caller) -> None:
    resolve(operator, record, decision="answer", status=201, body='{"id": 7}')
    answer = retried(caller)
    assert (answer.status_code, answer.json()) == (201, {"id": 7})
    assert effects.charges == ["vm"]
    (entry,) = LogEntry.objects.all()
    assert (entry.action_flag, entry.object_id) == (CHANGE, str(record))
    assert entry.change_message == "Answered with status 201."
    assert operator.get(page(record)).status_code == 404


@pytest.mark.parametrize("body", ["{id: 7}", "NaN", "[" * 5000])
def test_a_body_that_is_no_json_is_not_taken(operator: Client, record: int, body: str) -> None:
    shown = resolve(operator, record, decision="answer", status=201, body=body)
    assert "not valid JSON" in shown.content.decode()
    assert IdempotencyRecord.objects.get().state == "claimed"


def test_an_answer_may_have_no_body(operator: Client, record: int, caller: Caller) -> None:
    resolve(operator, record, decision="answer", status=204)
    answer = retried(caller)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Type" not in answer


def test_resolving_shows_no_key_to_those_who_may_not_see_records(
    record: int, client: Client
) -> None:
    user = User.objects.create_user("resolver", is_staff=True)
    grant(user, "resolve_idempotencyrecord")
    client.force_login(user)
    IdempotencyRecord.objects.update(key="a-key-of-a-caller")
    shown = client.get(page(record)).content.decode()
    assert "a-key-of-a-caller" not in shown
    assert short_digest("a-key-of-a-caller") in shown
    assert reverse("admin:django_idempotency_idempotencyrecord_change", args=[record]) not in shown
    assert resolve(client, record, decision="rerun").status_code == 200


def test_an_answer_is_stored_as_the_codec_says(
    operator: Client, record: int, caller: Caller, settings: Any
) -> None:
    settings.IDEMPOTENCY = {"CODEC": "fernet"}
    given = {"decision": "answer", "status": 201, "body": '{"card": "4111"}'}
    assert "ENCRYPTION_KEYS" in resolve(operator, record, **given).content.decode()
    assert not LogEntry.objects.exists()
    settings.IDEMPOTENCY |= {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    resolve(operator, record, **given)
    row = IdempotencyRecord.objects.get()
    assert row.response_codec.startswith("fernet:")
    assert b"4111" not in bytes(row.response_body)
    assert retried(caller).json() == {"card": "4111"}


def test_a_refusal_is_for_good(operator: Client, record: int, caller: Caller) -> None:
    resolve(operator, record, decision="refuse")
    assert code_of(retried(caller)) == "idempotency_operation_refused"
    assert effects.charges == ["vm"]


@pytest.mark.parametrize(
    "given",
    [
        {"decision": "rerun", "confirmed": ""},
        {"decision": "forget"},
        {"decision": "answer"},
        {"decision": "answer", "status": 500},
    ],
)
def test_half_a_decision_is_none(
    operator: Client, record: int, caller: Caller, given: dict[str, Any]
) -> None:
    resolve(operator, record, **given)
    assert code_of(retried(caller)) == "outcome_unknown"
    assert not LogEntry.objects.exists()


def test_it_needs_its_permission(record: int) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    grant(user, "view_idempotencyrecord")
    client = Client()
    client.force_login(user)
    assert client.get(page(record)).status_code == 403
    assert resolve(client, record, decision="rerun").status_code == 403
    change = reverse("admin:django_idempotency_idempotencyrecord_change", args=[record])
    assert page(record) not in client.get(change).content.decode()


def test_only_unknown_outcomes_are_resolved(operator: Client, caller: Caller) -> None:
    caller.post(PATH, key="completed")
    done = IdempotencyRecord.objects.get().pk
    assert operator.get(page(done)).status_code == 404
    assert operator.get(page(done + 1)).status_code == 404


def test_what_somebody_else_has_resolved_meanwhile_stays(
    operator: Client, record: int, caller: Caller, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        ManualResolution, "rerun", lambda resolution, pk: ResolutionOutcome.NOT_INTERRUPTED
    )
    assert "Nothing was changed" in resolve(operator, record, decision="rerun").content.decode()
    assert not LogEntry.objects.exists()


@pytest.mark.browser
@pytest.mark.once
def test_in_a_browser(live_server: Any, record: int, caller: Caller) -> None:
    User.objects.create_superuser("admin", password="secret")
    with browser_page() as window:
        log_in(window, live_server.url, "admin")
        window.goto(
            f"{live_server.url}/admin/django_idempotency/idempotencyrecord/{record}/change/"
        )
        window.get_by_role("link", name="Resolve this operation").click()
        window.get_by_text("Attempt 1 started").first.wait_for()
        window.get_by_label("Answer: the operation is done").check()
        window.get_by_label("Status").fill("201")
        window.get_by_label("Body (JSON)").fill('{"id": 7}')
        window.get_by_label("I know what the interrupted attempt has done.").check()
        window.get_by_role("button", name="Resolve").click()
        window.get_by_text("Answered with status 201.").first.wait_for()
    answer = retried(caller)
    assert (answer.status_code, answer.json()) == (201, {"id": 7})
    assert effects.charges == ["vm"]
