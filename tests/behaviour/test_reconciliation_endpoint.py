"""The endpoint that tells callers what became of their own operations, and nobody else."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, resolve, reverse
from django.utils.timezone import now
from rest_framework.permissions import AllowAny

from django_idempotency.conf.policy import PolicyError
from django_idempotency.models import IdempotencyRecord
from django_idempotency.reconciliation import OperationStatusView
from django_idempotency.stores.database import lookup
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import effects, views
from tests.shop.urls import urlpatterns as shop
from tests.support.adapters import MIDDLEWARE
from tests.support.commands import command
from tests.support.redis_server import RedisServer

ORDER = "/decorated-rest/"
EFFECT = "/effects/function/"
FIELDS = {"key", "state", "outcome_unknown", "created", "completed", "expires", "status"}


class Project:
    """What a URLconf module is to Django."""

    urlpatterns = [
        path("api/", include("django_idempotency.reconciliation.urls")),
        path("shown/<path:key>", OperationStatusView.as_view(shows_response=True)),
        path(
            "cached/<path:key>",
            OperationStatusView.as_view(policy={"store": "cache"}, shows_response=True),
        ),
        path("tenants/<path:key>", OperationStatusView.as_view(policy={"tenant": lambda r: "t1"})),
        path("tokens/<path:key>", OperationStatusView.as_view(policy={"scope": "token"})),
        path("uuids/<path:key>", OperationStatusView.as_view(policy={"key_format": "uuid"})),
        path("drf-errors/<path:key>", OperationStatusView.as_view(policy={"errors": "drf"})),
        path("anybody/<path:key>", OperationStatusView.as_view(permission_classes=[AllowAny])),
        *shop,
    ]


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = Project
    effects.charges.clear()


def ask(caller: Caller, key: str = "k-1", address: str = "/api/idempotency-keys/") -> Any:
    """Ask for the operation under a key, as it would be written in a header."""
    return caller.send("get", address + quote(key, safe="/"), key=None)


def told(*arguments: Any, **options: Any) -> dict[str, Any]:
    answer = ask(*arguments, **options)
    assert answer.status_code == 200, answer.content
    assert answer["Cache-Control"] == "no-store"
    document: dict[str, Any] = answer.json()
    return document


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


class TestStates:
    def test_completed(self, caller: Caller) -> None:
        caller.post(ORDER)
        found = told(caller)
        assert set(found) == FIELDS | {"effects"}
        assert found["effects"] == []
        assert (found["key"], found["state"], found["status"]) == ("k-1", "completed", 201)
        assert found["outcome_unknown"] is False
        created, completed, expires = (
            moment(found[name]) for name in ("created", "completed", "expires")
        )
        assert created <= completed <= now() + timedelta(minutes=1)
        assert timedelta(hours=23) < expires - completed < timedelta(hours=25)

    @pytest.mark.parametrize("address", ["/decorated-function/", "/decorated-viewset/"])
    def test_whatever_the_view_is(self, caller: Caller, address: str) -> None:
        """The scope is the same behind a session and behind a token: the user."""
        caller.post(address)
        assert told(caller)["state"] == "completed"

    def test_a_response_that_was_not_stored_leaves_an_interrupted_operation(
        self, caller: Caller
    ) -> None:
        caller.post(ORDER, {"outcome": 429})
        found = told(caller)
        assert (found["completed"], found["status"]) == (None, None)
        assert found["outcome_unknown"] is False
        # SQLite does not say whether an attempt in a transaction still runs.
        assert found["state"] == ("claimed" if connection.vendor == "sqlite" else "interrupted")

    def test_an_attempt_outside_of_a_transaction_that_broke(self, caller: Caller) -> None:
        """I11: what it did is not known, and the caller is told so."""
        caller.post(EFFECT, {"outcome": "raise 500"})
        found = told(caller)
        assert (found["state"], found["outcome_unknown"]) == ("interrupted", True)

    def test_in_flight_in_a_transaction(self, caller: Caller, after_write: Any) -> None:
        seen: list[Any] = []
        after_write(lambda: seen.append(in_thread(lambda: told(caller)).result()))
        caller.post(ORDER)
        (found,) = seen
        expected = "claimed" if connection.vendor == "sqlite" else "in_flight"
        assert (found["state"], found["outcome_unknown"]) == (expected, False)

    def test_in_flight_outside_of_one(self, caller: Caller, monkeypatch: Any) -> None:
        seen: list[Any] = []
        look = lambda operation: seen.append(in_thread(lambda: told(caller)).result())  # noqa: E731
        monkeypatch.setattr(effects, "after_charge", look)
        caller.post(EFFECT)
        (found,) = seen
        assert (found["state"], found["outcome_unknown"]) == ("in_flight", False)

    def test_refused_for_good(self, caller: Caller) -> None:
        caller.post(EFFECT, {"outcome": "raise 500"})
        command("refuse", IdempotencyRecord.objects.get().pk)
        found = told(caller)
        assert (found["state"], found["status"]) == ("refused", None)
        assert told(caller, address="/shown/")["response"] is None

    def test_expired_and_not_purged(self, caller: Caller) -> None:
        """I14: it replays no more, so its response is not shown either."""
        caller.post(ORDER)
        IdempotencyRecord.objects.update(expires_at=now() - timedelta(minutes=1))
        found = told(caller, address="/shown/")
        assert (found["state"], found["status"], found["response"]) == ("expired", 201, None)

    def test_it_asks_the_same_attempt_twice(self, caller: Caller, monkeypatch: Any) -> None:
        """One that completes between the look and the question is not called interrupted."""
        caller.post(EFFECT, {"outcome": "raise 500"})
        asked = lookup._is_locked

        def completed_meanwhile(*arguments: Any) -> Any:
            held = asked(*arguments)
            command("answer", IdempotencyRecord.objects.get().pk, "--status", 201)
            return held

        monkeypatch.setattr(lookup, "_is_locked", completed_meanwhile)
        assert told(caller)["state"] == "completed"

    def test_one_that_changes_all_the_time_is_claimed(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        caller.post(EFFECT, {"outcome": "raise 500"})

        def overtaken(*arguments: Any) -> bool:
            record = IdempotencyRecord.objects.get()
            IdempotencyRecord.objects.update(attempt=record.attempt + 1)
            return False

        monkeypatch.setattr(lookup, "_is_locked", overtaken)
        found = told(caller)
        assert (found["state"], found["outcome_unknown"]) == ("claimed", False)

    def test_one_that_is_purged_meanwhile_is_gone(self, caller: Caller, monkeypatch: Any) -> None:
        caller.post(EFFECT, {"outcome": "raise 500"})
        monkeypatch.setattr(
            lookup, "_is_locked", lambda *arguments: IdempotencyRecord.objects.all().delete()
        )
        assert ask(caller).status_code == 404


# On SQLite the time is part of the statement.
_TIME = re.compile(r"\d{4}-\d\d-\d\d [\d:.]+")


class TestWhose:
    """A key belongs to its caller."""

    def test_a_stranger_hears_what_an_unused_key_hears(
        self, caller: Caller, stranger: Caller
    ) -> None:
        caller.post(ORDER, key="used")
        table = connection.ops.quote_name(IdempotencyRecord._meta.db_table)
        with CaptureQueriesContext(
            connection,
        ) as of_another:
            theirs = ask(stranger, "used")
        with CaptureQueriesContext(connection) as of_nobody:
            nobodys = ask(stranger, "free")
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.content == nobodys.content
        assert theirs.content == b'{"detail":"There is no operation of yours under this key."}'
        assert dict(theirs.items()) == dict(nobodys.items())
        assert theirs["Cache-Control"] == "no-store"
        # The same statements, so that they take the same time.
        asked, free = (
            [query["sql"] for query in queries if table in query["sql"]]
            for queries in (of_another, of_nobody)
        )
        assert len(asked) == len(free) == 1
        assert _TIME.sub("", asked[0]).replace("used", "free") == _TIME.sub("", free[0])

    def test_it_is_the_same_in_flight(
        self, caller: Caller, stranger: Caller, after_write: Any
    ) -> None:
        seen: list[Any] = []
        after_write(lambda: seen.append(in_thread(lambda: ask(stranger)).result()))
        caller.post(ORDER)
        assert seen[0].content == ask(stranger, "free").content

    def test_both_have_operations_of_their_own_under_one_key(
        self, caller: Caller, stranger: Caller
    ) -> None:
        caller.post(ORDER)
        stranger.post(ORDER, {"outcome": 404})
        assert (told(caller)["status"], told(stranger)["status"]) == (201, 404)

    def test_nobody_is_asked_who_one_is_twice(self, caller: Caller) -> None:
        """Without credentials DRF answers, whatever the key."""
        caller.post(ORDER)
        assert Client().get("/api/idempotency-keys/k-1").status_code == 401
        assert Client().get("/anybody/k-1").status_code == 401

    def test_a_tenant_is_part_of_it(self, caller: Caller) -> None:
        caller.post(ORDER)
        assert ask(caller, address="/tenants/").status_code == 404

    def test_so_is_the_token_if_policy_says_so(self, caller: Caller, settings: Any) -> None:
        caller.post(ORDER)
        assert ask(caller, address="/tokens/").status_code == 404
        settings.IDEMPOTENCY = {"SCOPE": "token"}
        caller.post(ORDER, key="k-2")
        assert told(caller, "k-2", address="/tokens/")["state"] == "completed"

    def test_or_if_a_policy_by_path_says_so(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"POLICIES": {"^/": {"SCOPE": "token"}}}
        caller.post(ORDER)
        assert told(caller)["state"] == "completed"

    def test_there_is_neither_a_list_nor_a_prefix(self, caller: Caller) -> None:
        caller.post(ORDER, key="order-1")
        assert ask(caller, "").status_code == 404
        assert ask(caller, "order-").status_code == 404
        assert ask(caller, "ORDER-1").status_code == 404


class TestKeys:
    @pytest.mark.parametrize(
        "sent", ["a/b//c", "k/", '"two words"', r'"\"quoted\""', "50%25", "a?b", '"#,;"']
    )
    def test_it_is_spelled_as_in_the_header(self, caller: Caller, sent: str) -> None:
        caller.post(ORDER, key=sent)
        assert told(caller, sent)["state"] == "completed"
        assert caller.send("get", reverse("idempotency-key", args=[sent]), key=None).json() == told(
            caller, sent
        )

    def test_with_and_without_quotes_it_is_one_key(self, caller: Caller) -> None:
        caller.post(ORDER, key="k-1")
        assert told(caller, '"k-1"') == told(caller, "k-1")

    @pytest.mark.parametrize("key", ["two words", "a\0b", "ключ", '"open', "k" * 256, "a,b"])
    def test_what_is_no_key_is_a_problem(self, caller: Caller, key: str) -> None:
        with CaptureQueriesContext(connection) as queries:
            answer = ask(caller, key)
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["Cache-Control"] == "no-store"
        assert not [each for each in queries if IdempotencyRecord._meta.db_table in each["sql"]]

    def test_policy_says_what_a_key_is(self, caller: Caller) -> None:
        assert ask(caller, address="/uuids/").status_code == 400

    def test_errors_may_be_drfs(self, caller: Caller) -> None:
        answer = ask(caller, "two words", address="/drf-errors/")
        assert answer.status_code == 400
        assert set(answer.json()) == {"detail"}
        assert answer["Cache-Control"] == "no-store"

    def test_wrong_options_are_told_at_import(self) -> None:
        with pytest.raises(PolicyError, match="scop: there is no such option"):
            OperationStatusView.as_view(policy={"scop": "token"})


class TestResponses:
    """What a replay would say, if the project wants it shown."""

    def shown(self, caller: Caller) -> Any:
        return told(caller, address="/shown/")["response"]

    def test_it_is_not_shown_unless_wanted(self, caller: Caller) -> None:
        caller.post(ORDER)
        assert "response" not in told(caller)

    def test_it_is_the_replay(self, caller: Caller) -> None:
        caller.post(ORDER)
        replay = caller.post(ORDER)
        found = self.shown(caller)
        assert found["body"].encode() == replay.content
        assert found["encoding"] == "utf-8"
        headers = dict(found["headers"])
        assert headers["X-Order"] == replay["X-Order"]
        assert headers["Idempotency-Replayed"] == "true"

    def test_bytes_that_are_no_text(self, caller: Caller) -> None:
        caller.post(ORDER)
        IdempotencyRecord.objects.update(response_body=b"\xff\x00")
        found = self.shown(caller)
        assert (found["body"], found["encoding"]) == ("/wA=", "base64")

    def test_an_encrypted_one_is_readable_for_its_caller(
        self, caller: Caller, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {"CODEC": "fernet", "ENCRYPTION_KEYS": [_new_key()]}
        first = caller.post(ORDER)
        assert self.shown(caller)["body"].encode() == first.content
        settings.IDEMPOTENCY = {"CODEC": "fernet", "ENCRYPTION_KEYS": [_new_key()]}
        assert self.shown(caller) == {"unavailable": "its encryption key is not available"}

    def test_redacted_fields_stay_redacted(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"REDACTED_FIELDS": ["item"]}
        caller.post(ORDER, {"item": "4111"})
        assert "4111" not in json.dumps(self.shown(caller))

    def test_a_body_that_was_not_stored(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE_BODY": False}
        caller.post(ORDER)
        found = told(caller, address="/shown/")
        assert (found["state"], found["status"]) == ("completed", 201)
        assert found["response"] == {"unavailable": "secret"}

    def test_a_row_of_another_version(self, caller: Caller) -> None:
        caller.post(ORDER)
        IdempotencyRecord.objects.update(response_version=99, response_status=0)
        found = told(caller, address="/shown/")
        assert (found["state"], found["status"]) == ("completed", None)
        assert found["response"] == {"unavailable": "unreadable"}


def _new_key() -> str:
    return Fernet.generate_key().decode()


class TestReading:
    def test_it_changes_nothing_and_runs_nothing(self, caller: Caller) -> None:
        caller.post(EFFECT, {"outcome": "raise 500"})
        before = list(IdempotencyRecord.objects.values())
        told(caller)
        assert list(IdempotencyRecord.objects.values()) == before
        assert effects.charges == ["server"]

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
    def test_there_is_nothing_to_write(self, caller: Caller, method: str, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        answer = caller.send(method, "/api/idempotency-keys/k-1")
        assert answer.status_code == 405
        assert not IdempotencyRecord.objects.exists()

    def test_head_and_options(self, caller: Caller) -> None:
        caller.post(ORDER)
        assert caller.send("head", "/api/idempotency-keys/k-1", key=None).status_code == 200
        assert caller.send("head", "/api/idempotency-keys/k-2", key=None).status_code == 404
        assert caller.send("options", "/api/idempotency-keys/k-1", key=None).status_code == 200

    def test_a_completed_operation_costs_one_statement(self, caller: Caller) -> None:
        caller.post(ORDER)
        with CaptureQueriesContext(connection) as queries:
            told(caller, address="/shown/")
        table = connection.ops.quote_name(IdempotencyRecord._meta.db_table)
        assert len([each for each in queries if table in each["sql"]]) == 1

    def test_it_stays_outside_of_request_blocks(self, caller: Caller, monkeypatch: Any) -> None:
        """Where MySQL would show the past, and say nothing of locks."""
        from django.db import connections

        caller.post(EFFECT, {"outcome": "raise 500"})
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        assert told(caller)["state"] == "interrupted"
        assert resolve("/api/idempotency-keys/k", Project).func._non_atomic_requests == {"default"}

    @row_locks
    def test_it_waits_for_nobody(self, caller: Caller, after_write: Any) -> None:
        """Asked on the row lock's holder's behalf it would hang: nobody else lets go of it."""
        seen: list[Any] = []
        after_write(
            lambda: seen.extend(
                in_thread(lambda: [told(caller), told(caller)]).result()  # both before it ends
            )
        )
        assert caller.post(ORDER).status_code == 201
        assert [each["state"] for each in seen] == ["in_flight"] * 2

    def test_a_database_out_of_reach_is_a_problem(self, caller: Caller, monkeypatch: Any) -> None:
        from django.db import OperationalError

        def gone(*arguments: Any) -> None:
            raise OperationalError("server closed the connection")

        monkeypatch.setattr(lookup, "_look", gone)
        answer = ask(caller)
        assert (answer.status_code, answer.json()["code"]) == (503, "idempotency_store_unavailable")
        assert answer["Retry-After"]

    def test_naive_times_are_told_with_their_zone(self, caller: Caller, settings: Any) -> None:
        settings.USE_TZ = False
        connection.close()
        caller.post(ORDER)
        completed = moment(told(caller)["completed"])
        assert abs(completed - datetime.now().astimezone()) < timedelta(minutes=10)


@pytest.fixture
def cached(settings: Any) -> Callable[[str], None]:
    def use(store: str) -> None:
        settings.IDEMPOTENCY = {"STORE": store, "CACHE": "redis"}

    return use


def test_copies_in_a_cache_are_not_asked(caller: Caller, redis: RedisServer, cached: Any) -> None:
    cached("cached_db")
    caller.post(ORDER)
    assert told(caller)["state"] == "completed"
    IdempotencyRecord.objects.all().delete()
    assert ask(caller).status_code == 404


@pytest.fixture(params=["redis", "local"])
def cache(request: Any, settings: Any) -> None:
    if request.param == "redis":
        request.getfixturevalue("redis")
    else:
        settings.CACHES = {"redis": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}


@pytest.mark.usefixtures("cache")
class TestCache:
    """Records in a cache alone. It keeps no times but the expiry."""

    def test_completed(self, caller: Caller, stranger: Caller) -> None:
        first = caller.post(ORDER)
        found = told(caller, address="/cached/")
        assert (found["state"], found["status"]) == ("completed", 201)
        assert (found["created"], found["completed"]) == (None, None)
        assert timedelta(hours=23) < moment(found["expires"]) - now() < timedelta(hours=25)
        assert found["response"]["body"].encode() == first.content
        theirs = ask(stranger, address="/cached/")
        assert theirs.content == ask(stranger, "free", address="/cached/").content
        assert theirs.status_code == 404

    def test_in_flight_and_interrupted(self, caller: Caller, monkeypatch: Any) -> None:
        seen: list[Any] = []

        def look() -> None:
            seen.append(in_thread(lambda: told(caller, address="/cached/")).result())

        monkeypatch.setattr(views, "after_write", look)
        caller.post(ORDER, {"outcome": "raise 500"})
        seen.append(told(caller, address="/cached/"))
        assert [(each["state"], each["outcome_unknown"]) for each in seen] == [
            ("in_flight", False),
            ("interrupted", True),
        ]
