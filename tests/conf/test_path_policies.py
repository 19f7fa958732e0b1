"""Policies by path: for views that nobody can decorate."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.urls import resolve

from django_idempotency.conf.policy import Policy
from django_idempotency.conf.settings import SettingError, configuration
from django_idempotency.contract.endpoints import endpoints, protection_of
from django_idempotency.contract.facts import facts, response_headers
from django_idempotency.contract.guide import guide_to
from django_idempotency.contract.tables import for_markdown
from django_idempotency.models import IdempotencyRecord
from django_idempotency.openapi import describe
from django_idempotency.test import assert_idempotent
from tests.conftest import Caller
from tests.support.adapters import some_adapters
from tests.support.checking import check, only
from tests.support.counting import counted

KEY_MISSING = "idempotency_key_missing"


def policy_behind(path: str) -> Policy:
    policy = protection_of(resolve(path).func, "POST", path).policy
    assert policy is not None
    return policy


def use(settings: Any, **policies: Any) -> None:
    settings.IDEMPOTENCY = {"POLICIES": {f"^/{path}/": each for path, each in policies.items()}}


@some_adapters
def test_every_adapter_follows_them(adapter: str, caller: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY = {
        "POLICIES": {f"^{adapter}$": {"REQUIRED": True, "REPLAY_HEADER": "X-By-Path"}}
    }
    refused = caller.post(adapter, key=None)
    assert (refused.status_code, refused.json()["code"]) == (400, KEY_MISSING)
    assert caller.post(adapter).status_code == 201
    assert "X-By-Path" in caller.post(adapter)
    settings.IDEMPOTENCY = {"POLICIES": {f"^{adapter}else": {"REQUIRED": True}}}
    assert caller.post(adapter, key=None).status_code == 201
    assert "Idempotency-Replayed" in caller.post(adapter)


@pytest.mark.once
@pytest.mark.usefixtures("use_middleware")
class TestWhichHolds:
    def test_the_first_match(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {
            "POLICIES": {"^/rest/": {"REQUIRED": True}, "": {"REQUIRED": False}}
        }
        assert caller.post("/rest/", key=None).status_code == 400
        assert caller.post("/class/", key=None).status_code == 201
        settings.IDEMPOTENCY = {
            "POLICIES": {"": {"REQUIRED": False}, "^/rest/": {"REQUIRED": True}}
        }
        assert caller.post("/rest/", key=None).status_code == 201

    def test_the_setting_where_they_say_nothing(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {
            "RETENTION": timedelta(days=2),
            "RETRY_AFTER": 7,
            "POLICIES": {"^/rest/": {"RETRY_AFTER": 9}},
        }
        here, there = policy_behind("/rest/"), policy_behind("/class/")
        assert (here.retention, here.retry_after) == (timedelta(days=2), 9)
        assert (there.retention, there.retry_after) == (timedelta(days=2), 7)

    def test_the_decorator_is_nearer(self, caller: Caller, settings: Any) -> None:
        """It says itself that a key is required, and nothing of the header."""
        use(settings, required={"REQUIRED": False, "REPLAY_HEADER": "X-By-Path"})
        assert caller.post("/required/", key=None).status_code == 400
        caller.post("/required/")
        assert "X-By-Path" in caller.post("/required/")

    def test_a_header_of_its_own(self, caller: Caller, settings: Any) -> None:
        use(settings, rest={"HEADER": "X-Operation", "STATUS_HEADER": "X-Status"})
        own = {"headers": {"X-Operation": "k-1"}, "key": None}
        assert caller.post("/rest/", **own).status_code == 201
        assert "Idempotency-Replayed" in caller.post("/rest/", **own)
        # The other one is not this path's header, and this path's is no other's.
        assert "X-Status" not in caller.post("/rest/", key="k-1")
        assert "Idempotency-Replayed" not in caller.post("/class/", **own)
        caller.post("/class/", key="k-2")
        assert "Idempotency-Replayed" in caller.post("/class/", key="k-2")

    def test_paths_are_those_of_paths(self, caller: Caller, settings: Any) -> None:
        """``request.path_info``: with its slash, without a prefix that the server cut off."""
        use(settings, rest={"REQUIRED": True})
        assert caller.post("/rest/", key=None, SCRIPT_NAME="/shop").status_code == 400

    def test_a_path_that_is_not_guarded_stays_so(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"PATHS": ["^/api/"], "POLICIES": {"^/rest/": {"REQUIRED": True}}}
        assert caller.post("/rest/", key=None).status_code == 201

    def test_an_attempt_outside_of_a_transaction(self, caller: Caller, settings: Any) -> None:
        use(settings, rest={"ATOMIC": False})
        assert caller.post("/rest/", {"outcome": "crash"}).status_code == 500
        assert caller.post("/rest/", {"outcome": "crash"}).json()["code"] == "outcome_unknown"

    def test_without_a_key_other_paths_pay_nothing(self, caller: Caller, settings: Any) -> None:
        with counted() as bare:
            caller.post("/class/", key=None)
        use(settings, rest={"REQUIRED": True})
        with counted() as guarded:
            caller.post("/class/", key=None)
        assert guarded.statements == bare.statements
        assert not IdempotencyRecord.objects.exists()


@pytest.mark.once
@pytest.mark.usefixtures("use_middleware")
class TestWhatIsSaid:
    def test_the_list_and_documents_show_them(self, settings: Any) -> None:
        use(settings, rest={"REQUIRED": True, "RETENTION": timedelta(days=3)})
        protection = protection_of(resolve("/rest/").func, "POST", "/rest/")
        assert protection.policy is not None
        assert facts(protection.policy)["required"] is True
        operation: dict[str, Any] = {}
        describe(operation, protection.policy, {})
        assert operation["parameters"][0]["required"] is True
        assert "3 days" in operation["description"]


BAD: list[tuple[object, str, str]] = [
    (["^/api/"], "POLICIES", "must map regular expressions to dicts"),
    ({"(": {}}, "POLICIES", "'(' is not a regular expression"),
    ({"^/a/": ["REQUIRED"]}, "POLICIES", "must map '^/a/' to a dict"),
    ({"^/a/": {"RETENTOIN": 1}}, 'POLICIES["^/a/"]["RETENTOIN"]', "no such setting"),
    ({"^/a/": {"PATHS": [""]}}, 'POLICIES["^/a/"]["PATHS"]', "no such setting"),
    ({"^/a{2}/": {"RETENTION": 1}}, 'POLICIES["^/a{2}/"]["RETENTION"]', "timedelta, not 1"),
    ({"^/a/": {"SCOPE": "no.such"}}, 'POLICIES["^/a/"]["SCOPE"]', "cannot be imported"),
]


@pytest.mark.once
class TestMistakes:
    @pytest.mark.parametrize(("given", "name", "text"), BAD, ids=str)
    def test_each_is_named(self, given: object, name: str, text: str) -> None:
        with override_settings(IDEMPOTENCY={"POLICIES": given}):
            with pytest.raises(SettingError) as caught:
                configuration()
            assert list(caught.value.problems) == [name]
            assert text in caught.value.problems[name]
            assert text in only("E001").msg

    def test_errors_know_what_a_policy_may_say(self, settings: Any) -> None:
        use(settings, a={"RETENTOIN": 1})
        assert 'no such setting (did you mean "RETENTION"?)' in only("E001").msg
        assert only("E001").msg.startswith('IDEMPOTENCY["POLICIES"]["^/a/"]["RETENTOIN"]: there')
        use(settings, a={"RETENTION": 1})
        assert only("E001").hint == (
            'Correct IDEMPOTENCY["POLICIES"]["^/a/"]["RETENTION"], or remove it to get its default.'
        )
        use(settings, a={"SECRET": "0123456789abcdef"})
        assert "no such setting; choose from ANONYMOUS, ATOMIC, CODEC, " in only("E001").msg

    def test_a_store_that_only_they_name_is_checked(self, settings: Any) -> None:
        use(settings, rest={"STORE": "cached_db"})
        assert "E010" in {each.id.removeprefix("django_idempotency.") for each in check()}


@pytest.mark.once
@pytest.mark.usefixtures("use_middleware")
class TestNoMarker:
    """A client that compares whole responses gets replays that nothing tells from the first."""

    @pytest.fixture(autouse=True)
    def no_marker(self, settings: Any) -> None:
        use(settings, rest={"REPLAY_HEADER": None})

    def test_a_replay_has_the_headers_of_the_first_response(self, caller: Caller) -> None:
        first, retry = caller.post("/rest/"), caller.post("/rest/")
        assert dict(retry.items()) == dict(first.items())
        assert retry.content == first.content
        assert IdempotencyRecord.objects.count() == 1

    def test_helpers_for_tests_do_without(self, caller: Caller) -> None:
        assert_idempotent(
            caller._client,
            "/rest/",
            {"item": "vm"},
            content_type="application/json",
            headers={"authorization": f"Token {caller.token.key}"},
        )

    def test_nothing_speaks_of_one(self) -> None:
        policy = policy_behind("/rest/")
        assert list(response_headers(policy)) == []
        assert "None" not in repr(guide_to(lambda endpoint: True, [], policy).promises[0].terms)
        outcomes = guide_to(lambda endpoint: True, [], policy).promises[0].outcomes
        assert "None" not in repr(outcomes)

    def test_the_table_says_so(self) -> None:
        rows = [row for row in for_markdown(endpoints()).splitlines() if "POST /rest/" in row]
        assert "no marker" in rows[0]


def key_alone(request: Any) -> str:
    """Whatever else the request is."""
    return ""


@pytest.mark.once
@pytest.mark.usefixtures("use_middleware")
class TestAnotherContract:
    """What pretix's API documentation promises under "Idempotency", by settings alone."""

    OWN: dict[str, Any] = {
        "HEADER": "X-Idempotency-Key",
        "SCOPE": "token",
        "FINGERPRINT": "tests.conf.test_path_policies.key_alone",
        "REPLAY_HEADER": None,
    }

    @pytest.fixture(autouse=True)
    def project(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"PATHS": ["^/rest"], "POLICIES": {"^/rest": self.OWN}}

    def send(self, caller: Caller, path: str, key: str = "foo", **data: str) -> Any:
        return caller.post(path, data, key=None, headers={"X-Idempotency-Key": key})

    def test_a_key_makes_one_operation(self, caller: Caller) -> None:
        first, retry = self.send(caller, "/rest/"), self.send(caller, "/rest/")
        assert (retry.status_code, retry.content) == (201, first.content)
        assert dict(retry.items()) == dict(first.items())
        assert self.send(caller, "/rest/", "bar").content != first.content
        assert caller.post("/rest/", key=None).content != first.content

    def test_path_and_body_are_ignored(self, caller: Caller) -> None:
        first = self.send(caller, "/rest/")
        assert self.send(caller, "/rest/", item="other").content == first.content
        assert self.send(caller, "/rest-function/").content == first.content

    def test_another_token_has_keys_of_its_own(self, caller: Caller, stranger: Caller) -> None:
        first = self.send(caller, "/rest/")
        assert self.send(stranger, "/rest/").content != first.content

    def test_outside_the_api_there_are_no_keys(self, caller: Caller) -> None:
        first = self.send(caller, "/class/")
        assert self.send(caller, "/class/").content != first.content

    def test_a_conflict_may_be_retried(self, caller: Caller) -> None:
        assert self.send(caller, "/rest/", outcome="409").status_code == 409
        assert self.send(caller, "/rest/").status_code == 201


def test_the_default_policy_is_kept_as_it_is() -> None:
    with override_settings(IDEMPOTENCY={"POLICIES": {"^/a/": {}}}):
        assert configuration().policy_for("/a/") == Policy()
