"""Records are found by what people have: a key, a log line, a user."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token
from rest_framework_simplejwt.models import TokenUser

from django_idempotency.conf.policy import Policy
from django_idempotency.effects.rows import NewRow, insert
from django_idempotency.finding import search
from django_idempotency.finding.callers import caller_of, user_named
from django_idempotency.finding.search import Query, find, query_of, resolved
from django_idempotency.http.principal import scope_of
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.keys import SCOPE, key_digest, keyed_digest, name_in_logs
from tests.conftest import Caller

PATH = "/decorated-rest/"


def found(query: Query | str, limit: int = 100) -> list[str]:
    query = query_of(query) if isinstance(query, str) else query
    return [each.key for each in find("default", query, limit)]


@pytest.fixture
def keys(caller: Caller) -> list[str]:
    """Records of one caller, the newest first."""
    keys = [f"key-{number}" for number in range(7)]
    for key in keys:
        assert caller.post(PATH, key=key).status_code == 201
    return keys[::-1]


@pytest.fixture(params=[1, 3, 100])
def width(request: Any, monkeypatch: Any) -> int:
    monkeypatch.setattr(search, "WIDTH", request.param)
    return int(request.param)


class TestSearch:
    @pytest.mark.parametrize("spelled", ["key-3", ' "key-3" '])
    def test_a_whole_key(self, keys: list[str], spelled: str) -> None:
        assert found(spelled) == ["key-3"]

    @pytest.mark.parametrize("digits", [4, 12, 64])
    def test_the_digest_of_a_key(self, keys: list[str], width: int, digits: int) -> None:
        assert found(key_digest("key-3")[:digits].upper()) == ["key-3"]

    @pytest.mark.parametrize("digits", [12, 64])
    def test_the_scope(self, keys: list[str], width: int, digits: int) -> None:
        scope = IdempotencyRecord.objects.values_list("scope", flat=True)[0]
        assert found(scope[:digits]) == keys

    def test_a_log_line(self, keys: list[str], width: int) -> None:
        record = IdempotencyRecord.objects.get(key="key-3")
        line = f"INFO {name_in_logs(record.key, record.scope)}: conflict (409) in orders:create"
        assert found(line) == ["key-3"]
        assert found(line.replace(record.scope[:12], "-")) == ["key-3"]
        assert found(line.replace(record.scope[:12], "0123456789ab")) == []

    def test_a_line_about_a_record_or_an_effect(self, keys: list[str], width: int) -> None:
        record = IdempotencyRecord.objects.get(key="key-3")
        effect = uuid4()
        arguments = NewRow(str(effect), record.pk, "shop.mail", "", None)
        insert("default", [arguments])
        assert found(f"ERROR Effect shop.mail {effect} has failed (try 1 of 3)") == ["key-3"]
        assert found(f"Effect shop.mail {uuid4()} has failed for good") == []
        assert found(f"Record {record.pk}: POST /orders/, completed") == ["key-3"]

    def test_one_key_of_several_callers(self, keys: list[str], width: int) -> None:
        """A digest leads to the key, and that to all of them."""
        IdempotencyRecord.objects.filter(key="key-0").update(key="key-6", scope="0" * 64)
        assert found(key_digest("key-6")[:12]) == ["key-6", "key-6"]
        assert found("key-6") == ["key-6", "key-6"]
        assert found(name_in_logs("key-6", "0" * 64)) == ["key-6"]

    def test_a_key_that_looks_like_a_digest_is_a_key(self, keys: list[str]) -> None:
        key = key_digest("key-3")
        IdempotencyRecord.objects.filter(key="key-0").update(key=key)
        assert found(key) == [key]

    def test_what_there_is_not(self, keys: list[str], width: int) -> None:
        for text in ("key-99", "0" * 12, "", "Key -, scope -: refused (400)", "\0", "é" * 300):
            assert found(text) == [], text

    def test_no_more_than_wanted(self, keys: list[str], width: int) -> None:
        scope = IdempotencyRecord.objects.values_list("scope", flat=True)[0]
        assert found(scope, limit=4) == keys[:4]

    def test_it_says_how_far_it_has_come(self, keys: list[str], monkeypatch: Any) -> None:
        monkeypatch.setattr(search, "WIDTH", 3)
        told: list[tuple[int, int]] = []
        list(find("default", query_of("0" * 12), 1, lambda *far: told.append(far)))
        whole = told[-1][1]
        assert told == [(min(3 * (step + 1), whole), whole) for step in range(len(told))]
        assert told[-1] == (whole, whole)

    def test_only_a_key_is_indexed(self, keys: list[str]) -> None:
        assert resolved("default", query_of("key-3")).is_indexed
        assert not resolved("default", query_of(key_digest("key-3")[:12])).is_indexed


class TestCallers:
    """Each scope is compared with what the guard makes of a request."""

    @pytest.fixture
    def user(self, db: None) -> Any:
        return get_user_model().objects.create_user("ada", password="secret")

    def scope_of(self, **attributes: Any) -> str:
        from django_idempotency.conf.settings import configuration

        class Request:
            META: dict[str, str] = {}

        request = Request()
        vars(request).update(attributes)
        parts = scope_of(request, Policy())
        assert parts is not None
        return keyed_digest(SCOPE + configuration().secret, parts).hex()

    def test_a_user(self, user: Any) -> None:
        assert self.scope_of(user=user) in caller_of(user).digests

    def test_a_token_of_its_own(self, user: Any) -> None:
        token = Token.objects.create(user=user)
        assert self.scope_of(auth=token) in caller_of(user).digests

    def test_a_user_of_a_json_web_token(self, user: Any) -> None:
        stateless = TokenUser({"user_id": str(user.pk)})
        assert self.scope_of(user=stateless) in caller_of(user).digests

    def test_tokens_of_others_are_not_among_them(self, user: Any) -> None:
        other = get_user_model().objects.create_user("bob")
        token = Token.objects.create(user=other)
        assert self.scope_of(auth=token) not in caller_of(user).digests
        assert self.scope_of(user=other) not in caller_of(user).digests

    def test_names_do_not_contain_tokens(self, user: Any) -> None:
        token = Token.objects.create(user=user)
        assert token.key not in repr(caller_of(user))

    def test_a_request_over_http(self, caller: Caller) -> None:
        caller.post(PATH)
        scopes = caller_of(caller.token.user).digests
        assert found(Query(scopes=scopes)) == ["k-1"]
        assert found(Query(scopes=frozenset())) == []

    @pytest.mark.parametrize("name", ["ada", "pk"])
    def test_by_name_or_primary_key(self, user: Any, name: str) -> None:
        assert user_named(str(user.pk) if name == "pk" else name) == user

    def test_a_name_comes_before_a_primary_key(self, user: Any) -> None:
        named = get_user_model().objects.create_user(str(user.pk))
        assert user_named(str(user.pk)) == named

    @pytest.mark.parametrize("text", ["nobody", "99999", "", "1" * 40, "\0"])
    def test_nobody(self, user: Any, text: str) -> None:
        assert user_named(text) is None
