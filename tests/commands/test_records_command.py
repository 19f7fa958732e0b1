"""``manage.py idempotency_records``: prints, exports and erases what it finds."""

import io
import json
import sys
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from django_idempotency.effects.models import EffectState, IdempotencyEffect
from django_idempotency.effects.rows import NewRow, insert
from django_idempotency.effects.sealing import sealed
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.protocol.codecs import Codec
from django_idempotency.protocol.keys import short_digest
from django_idempotency.protocol.record import State
from django_idempotency.stores.cache.replay_cache import writer_of
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.admin import in_flight, remember
from tests.support.redis_server import RedisServer

PATH = "/decorated-rest/"
STEPS = "/effects/resumable/"
SCOPE = "0123456789abcdef" * 4


def records(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("idempotency_records", *map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


def document(*arguments: Any) -> Any:
    return json.loads(records("--json", *arguments))


def numbers(*arguments: Any) -> list[int]:
    return [each["record"] for each in document(*arguments)["records"]]


def erase(*arguments: Any) -> str:
    return records("--erase", "--no-input", *arguments)


def keys() -> set[str]:
    return set(IdempotencyRecord.objects.values_list("key", flat=True))


def stage(record: IdempotencyRecord, state: EffectState) -> None:
    """Give a record an effect."""
    key = str(uuid4())
    arguments = sealed(key, "shop.mail", '[["ada@example.com"], {}]', Codec.PLAIN)
    insert("default", [NewRow(key, record.pk, "shop.mail", arguments, None)])
    IdempotencyEffect.objects.filter(pk=key).update(state=state)


class Tenants:
    """Settings of a project with tenants and callers of its own."""

    @staticmethod
    def tenant(request: Any) -> str:
        return "acme"

    @staticmethod
    def scope(request: Any) -> str:
        return "robot-7"


class TestPrinting:
    def test_a_record_without_its_secrets(self, caller: Caller) -> None:
        caller.post(PATH, {"item": "vm"}, key="whole-key")
        record = IdempotencyRecord.objects.get()
        text = records("whole-key")
        first, digests, times, *rest = text.splitlines()
        expected = f"Record {record.pk}: POST {PATH}, completed, status 201, attempt 1"
        assert first == expected
        assert digests == f"  key {short_digest('whole-key')}, scope {record.scope[:12]}"
        assert times.startswith("  claimed 20")
        assert times.count("+00:00") == 3
        assert rest == ["1 record."]
        assert "whole-key" not in text

    def test_as_json(self, caller: Caller) -> None:
        caller.post(PATH, key="whole-key")
        found = document("whole-key")
        (record,) = found["records"]
        assert (record["method"], record["path"], record["state"]) == ("POST", PATH, "completed")
        assert (record["status"], record["attempt"]) == (201, 1)
        assert "whole-key" not in json.dumps(found)

    def test_states(self, transactional_db: None) -> None:
        unfinished = {"state": State.CLAIMED, "response_status": None, "completed_at": None}
        record = remember("one", **unfinished)
        has_locks = connection.features.has_select_for_update_skip_locked
        assert ("interrupted" if has_locks else "claimed") in records("one")
        if has_locks:
            with in_flight(record):
                assert "in flight" in records("one")

    def test_nothing_found(self, transactional_db: None) -> None:
        assert records("one") == 'No record found in database "default". It may have expired.\n'
        assert document("one")["records"] == []

    def test_a_limit(self, transactional_db: None) -> None:
        newest = [remember(f"key-{number}").pk for number in range(5)][::-1]
        assert numbers("--scope", SCOPE[:12]) == newest
        assert numbers("--scope", SCOPE[:12], "--limit", 2) == newest[:2]
        said = records("--scope", SCOPE[:12], "--limit", 2)
        assert "The newest 2 records. For more, give --limit." in said

    def test_a_key_within_a_scope(self, transactional_db: None) -> None:
        one = remember("one")
        remember("one", scope="f" * 64)
        assert numbers("one", "--scope", SCOPE[:12]) == [one.pk]
        assert numbers("--scope", "aaaa") == []

    @pytest.mark.once
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "Give a key"),
            (["Key -, scope -: refused (400)"], "without a record: its key was not valid"),
            (["--scope", "xyz!"], "no beginning of a digest"),
            (["--scope", "abc"], "no beginning of a digest"),
            (["--export", "--erase", "k"], "--export or --erase"),
            (["--secrets", "k"], "belongs to --export"),
            (["--tenant", "acme"], "belongs to --user"),
            (["--user", "nobody"], "nobody has the name"),
            (["--limit", "0", "k"], "Give a whole number"),
        ],
    )
    def test_what_makes_no_sense(self, db: None, arguments: list[str], said: str) -> None:
        with pytest.raises(CommandError, match=said):
            records(*arguments)


class TestUsers:
    def test_all_records_of_a_user_and_of_nobody_else(self, caller: Caller) -> None:
        for key in ("one", "two"):
            caller.post(PATH, key=key)
        remember("of somebody else")
        user = caller.token.user
        found = document("--user", user.get_username())
        own = IdempotencyRecord.objects.filter(key__in=["one", "two"]).order_by("-pk")
        assert [each["record"] for each in found["records"]] == [each.pk for each in own]
        assert numbers("--user", user.pk) == [each.pk for each in own]
        assert numbers("--user", user.pk, "two") == [own[0].pk]
        digests = {each["digest"] for each in found["scopes"]}
        assert own[0].scope[:12] in digests

    def test_a_user_who_is_gone(self, caller: Caller) -> None:
        caller.post(PATH)
        user = caller.token.user
        pk = user.pk
        user.delete()
        assert len(numbers("--user", pk)) == 1

    def test_tenants_are_given(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"TENANT": Tenants.tenant}
        caller.post(PATH)
        user = caller.token.user
        said = document("--user", user.pk)
        assert said["records"] == []
        assert any("TENANT function" in each for each in said["not_looked_for"])
        found = document("--user", user.pk, "--tenant", "acme")
        assert len(found["records"]) == 1
        assert found["not_looked_for"] == []

    def test_a_scope_function_is_named(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"SCOPE": Tenants.scope}
        caller.post(PATH)
        said = records("--user", caller.token.user.pk)
        assert "Not looked for: Of the SCOPE function tests.commands" in said
        assert len(numbers("--caller", "robot-7")) == 1
        assert numbers("--caller", "robot-8") == []

    def test_credentials_are_named(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"SCOPE": "token"}
        caller.post(PATH)
        found = document("--user", caller.token.user.pk)
        assert len(found["records"]) == 1  # its row is there
        assert any("JSON Web Token" in each for each in found["not_looked_for"])

    def test_records_in_a_cache_alone_are_named(
        self, caller: Caller, settings: Any, redis: RedisServer
    ) -> None:
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis"}
        said = records("--user", caller.token.user.pk)
        assert 'Records in cache "redis" alone' in said


class TestExport:
    def test_without_secrets(self, caller: Caller) -> None:
        caller.post(PATH, {"item": "a secret"}, key="whole-key")
        (record,) = json.loads(records("--export", "whole-key"))["records"]
        stored = IdempotencyRecord.objects.get()
        assert (record["key"], record["scope"]) == ("whole-key", stored.scope)
        assert "response" not in record
        assert "a secret" not in json.dumps(record)

    @pytest.mark.parametrize("codec", ["plain", "zlib", "zlib+fernet"])
    def test_with_secrets_as_they_were(self, caller: Caller, settings: Any, codec: str) -> None:
        settings.IDEMPOTENCY = {
            "CODEC": codec,
            "ENCRYPTION_KEYS": [Fernet.generate_key().decode()],
        }
        sent = caller.post(PATH, {"item": "vm"}, key="whole-key")
        (record,) = json.loads(records("--export", "--secrets", "whole-key"))["records"]
        assert record["response"]["body"] == sent.content.decode()
        assert ["Content-Type", sent["Content-Type"]] in record["response"]["headers"]

    def test_what_cannot_be_read(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {
            "CODEC": "fernet",
            "ENCRYPTION_KEYS": [Fernet.generate_key().decode()],
        }
        caller.post(PATH, key="whole-key")
        settings.IDEMPOTENCY = {}
        (record,) = json.loads(records("--export", "--secrets", "whole-key"))["records"]
        assert "encryption key" in record["response"]["unreadable"]

    def test_steps_and_effects(self, caller: Caller) -> None:
        assert caller.post(STEPS, {"item": "vm"}, key="whole-key").status_code == 201
        stage(IdempotencyRecord.objects.get(), EffectState.DONE)
        (record,) = json.loads(records("--export", "whole-key"))["records"]
        assert [each["position"] for each in record["steps"]][:2] == [0, 1]
        assert [each["name"] for each in record["effects"]] == ["shop.mail"]
        assert "ada@example.com" not in json.dumps(record)
        assert all("result" not in each for each in record["steps"])
        (whole,) = json.loads(records("--export", "--secrets", "whole-key"))["records"]
        assert "ada@example.com" in whole["effects"][0]["arguments"]
        assert all("result" in each for each in whole["steps"])

    def test_all_of_them(self, transactional_db: None) -> None:
        for number in range(101):
            remember(f"key-{number}")
        found = json.loads(records("--export", "--scope", SCOPE))["records"]
        assert len(found) == 101


class TestErasing:
    def test_one_caller(self, caller: Caller) -> None:
        """A retry runs again: nothing of the operation is left."""
        caller.post(PATH, key="one")
        remember("of somebody else")
        said = erase("--user", caller.token.user.pk)
        assert said.startswith('1 record erased in database "default".')
        assert "What remains elsewhere" in said
        assert keys() == {"of somebody else"}
        caller.post(PATH, key="one")
        assert Order.objects.count() == 2

    def test_steps_and_effects_go_along(self, caller: Caller) -> None:
        caller.post(STEPS, {"item": "vm"}, key="one")
        record = IdempotencyRecord.objects.get()
        stage(record, EffectState.DONE)
        stage(record, EffectState.GIVEN_UP)
        assert IdempotencyStep.objects.exists()
        erase("one")
        assert not IdempotencyRecord.objects.exists()
        assert not IdempotencyStep.objects.exists()
        assert not IdempotencyEffect.objects.exists()

    @pytest.mark.parametrize("state", [EffectState.PENDING, EffectState.FAILED])
    def test_effects_that_may_still_run_keep_their_record(
        self, transactional_db: None, state: EffectState
    ) -> None:
        """I19: they are not dropped, and without the record nobody would know whose they are."""
        record = remember("one")
        stage(record, state)
        stage(record, EffectState.DONE)
        with pytest.raises(CommandError, match=f"record {record.pk}: effects are pending"):
            erase("one")
        assert keys() == {"one"}
        assert IdempotencyEffect.objects.count() == 2

    def test_copies_in_redis_go_along(
        self, caller: Caller, settings: Any, redis: RedisServer
    ) -> None:
        """I17: the cache does not replay what was erased."""
        settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
        caller.post(PATH, key="one")
        writer_of("redis").flush()
        assert "response" in str(redis.ask("KEYS", "*"))
        erase("--user", caller.token.user.pk)
        caller.post(PATH, key="one")
        assert Order.objects.count() == 2

    def test_without_an_answer_of_redis_nothing_goes(
        self, caller: Caller, settings: Any, fragile_redis: RedisServer
    ) -> None:
        settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
        caller.post(PATH, key="one")
        fragile_redis.stop()
        with pytest.raises(CommandError, match="the cache with its copy does not answer"):
            erase("one")
        assert keys() == {"one"}

    def test_what_is_in_flight_is_left(self, transactional_db: None) -> None:
        """I12: an attempt that holds the lock goes on."""
        if not connection.features.has_select_for_update_skip_locked:
            pytest.skip("SQLite waits for the writer")
        remember("one")
        record = remember("two", state=State.CLAIMED, response_status=None, completed_at=None)
        with in_flight(record), pytest.raises(CommandError) as caught:
            erase("--scope", SCOPE)
        assert "1 record erased" in str(caught.value)
        assert f"Left: record {record.pk}: in flight" in str(caught.value)
        assert keys() == {"two"}

    def test_an_unknown_outcome_is_left(self, caller: Caller, monkeypatch: Any) -> None:
        """I11: somebody resolves it first."""
        from tests.shop import effects

        def breaks(operation: Any) -> None:
            raise RuntimeError("a broken network")

        monkeypatch.setattr(effects, "after_charge", breaks)
        caller.post(STEPS, {"item": "vm"}, key="one")
        with pytest.raises(CommandError, match="its outcome is unknown"):
            erase("one")
        assert keys() == {"one"}

    def test_it_leaves_a_line_per_record_in_the_log(
        self, transactional_db: None, caplog: Any
    ) -> None:
        """I10: with digests."""
        caplog.set_level("INFO", "django_idempotency")
        remember("a-whole-key")
        erase("a-whole-key")
        expected = f"Key {short_digest('a-whole-key')}, scope {SCOPE[:12]}: erased by an operator"
        assert [each.getMessage() for each in caplog.records] == [expected]

    @pytest.mark.parametrize(("answer", "left"), [("yes\n", 0), ("y\n", 1), ("\n", 1)])
    def test_it_asks(
        self, transactional_db: None, monkeypatch: Any, answer: str, left: int
    ) -> None:
        remember("one")
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        said = records("--erase", "one")
        assert "1 record will be erased, with copies" in said
        assert IdempotencyRecord.objects.count() == left
        assert ("Nothing was erased." in said) is bool(left)

    def test_nobody_answers(self, transactional_db: None, monkeypatch: Any) -> None:
        remember("one")
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(CommandError, match="Give --no-input"):
            records("--erase", "one")
        assert keys() == {"one"}

    def test_nothing_to_erase(self, transactional_db: None) -> None:
        assert erase("one").startswith("0 records erased")
