"""Interrupted operations are resolved by hand: with the command, and by what it calls."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.operations.non_atomic import still_unknown
from django_idempotency.operations.resolution import ManualResolution, ResolutionOutcome
from django_idempotency.protocol.keys import name_in_logs
from django_idempotency.protocol.record import StoredResponse
from django_idempotency.stores.base import Busy
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import effects
from tests.support.commands import command
from tests.support.holding import CREATED, an_operation, interrupt
from tests.support.problems import code_of
from tests.support.world import World

PATH = "/effects/function/"
KEY = Fernet.generate_key().decode()


@pytest.fixture
def interrupted(caller: Caller) -> int:
    """A record whose attempt broke after its charge."""
    effects.charges.clear()
    assert caller.post(PATH, {"item": "vm", "outcome": "raise 500"}).status_code == 500
    assert code_of(retry(caller)) == "outcome_unknown"
    return int(IdempotencyRecord.objects.get().pk)


def retry(caller: Caller) -> Any:
    return caller.post(PATH, {"item": "vm", "outcome": "raise 500"})


class TestCommand:
    def test_it_lists_what_is_interrupted(self, interrupted: int, caller: Caller) -> None:
        caller.post(PATH, key="completed")
        (line,) = command("list").splitlines()
        assert line.startswith(f"{interrupted}  POST {PATH}  attempt 1, started 0:00:0")
        assert line.endswith("steps done: none")
        assert command("list", "--key", "k-1")
        assert not command("list", "--key", "k-2")
        assert command("list", "--limit", 1).startswith(str(interrupted))

    def test_an_operation_to_be_rerun_runs_again(self, interrupted: int, caller: Caller) -> None:
        """I11: the second run is somebody's decision."""
        assert "done (rerun)" in command("rerun", interrupted)
        assert retry(caller).status_code == 500
        assert effects.charges == ["vm"] * 2
        assert code_of(retry(caller)) == "outcome_unknown"

    def test_an_answer_replays(self, interrupted: int, caller: Caller, caplog: Any) -> None:
        with caplog.at_level(logging.INFO, "django_idempotency"):
            command("answer", interrupted, "--status", 201, "--body", '{"id": 7}')
        record = IdempotencyRecord.objects.get()
        name = name_in_logs(record.key, record.scope)
        assert f"{name}: resolved by command (answer)" in caplog.text
        answer = retry(caller)
        assert (answer.status_code, answer.json()) == (201, {"id": 7})
        assert answer["Content-Type"] == "application/json"
        assert answer["Idempotency-Replayed"] == "true"
        assert effects.charges == ["vm"]

    def test_an_answer_can_come_from_a_file(
        self, interrupted: int, caller: Caller, tmp_path: Path
    ) -> None:
        (tmp_path / "body").write_bytes(b"\xff\x00")
        options = ("--body-file", tmp_path / "body", "--content-type", "application/x-thing")
        command("answer", interrupted, "--status", 200, *options)
        answer = retry(caller)
        assert (answer.content, answer["Content-Type"]) == (b"\xff\x00", "application/x-thing")

    def test_a_refusal_is_for_good(self, interrupted: int, caller: Caller) -> None:
        command("refuse", interrupted)
        for _ in "12":
            refused = retry(caller)
            assert (refused.status_code, code_of(refused)) == (
                409,
                "idempotency_operation_refused",
            )
        assert effects.charges == ["vm"]

    def test_only_interrupted_operations_are_resolved(
        self, interrupted: int, caller: Caller
    ) -> None:
        command("refuse", interrupted)
        with pytest.raises(CommandError, match="not interrupted"):
            command("rerun", interrupted)
        with pytest.raises(CommandError, match="no such record"):
            command("rerun", interrupted + 1000)
        with pytest.raises(CommandError, match="--status must be from 200 to 499"):
            command("answer", interrupted, "--status", 500)
        with pytest.raises(CommandError, match="--content-type"):
            command("answer", interrupted, "--status", 200, "--content-type", "a\nb")
        with pytest.raises(CommandError, match="not valid JSON"):
            command("answer", interrupted, "--status", 200, "--body", "{id: 7}")
        with pytest.raises(CommandError, match="--body-file"):
            command("answer", interrupted, "--status", 200, "--body-file", "/nowhere")


@csrf_exempt
@idempotent(atomic=False, codec="fernet")
def secret(request: Any) -> Any:
    return effects.answer(request)


class SecretProject:
    """What a URLconf module is to Django."""

    urlpatterns = [path("secret/", secret)]


class TestEncryption:
    """An answer is as secret as the view's own would have been."""

    ANSWER = ("--status", 201, "--body", '{"card": "4111"}')

    def test_an_answer_is_stored_as_the_setting_says(
        self, interrupted: int, caller: Caller, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {"CODEC": "zlib+fernet", "ENCRYPTION_KEYS": [KEY]}
        command("answer", interrupted, *self.ANSWER)
        row = IdempotencyRecord.objects.get()
        assert row.response_codec.startswith("zlib+fernet:")
        assert b"4111" not in bytes(row.response_body)
        assert row.response_headers == ""
        assert retry(caller).json() == {"card": "4111"}

    def test_and_as_its_view_says(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [KEY]}
        settings.ROOT_URLCONF = SecretProject
        assert caller.post("/secret/", {"outcome": "raise 500"}).status_code == 500
        command("answer", IdempotencyRecord.objects.get().pk, *self.ANSWER)
        row = IdempotencyRecord.objects.get()
        assert row.response_codec.startswith("fernet:")
        assert b"4111" not in bytes(row.response_body)
        again = caller.post("/secret/", {"outcome": "raise 500"})
        assert again.json() == {"card": "4111"}

    @pytest.mark.parametrize("path", ["/moved/", "/prefix/secret/", "/secret/%C3%A9/" * 18])
    def test_as_its_view_said_whatever_became_of_its_path(
        self, caller: Caller, settings: Any, path: str
    ) -> None:
        """The path is for people: cut, quoted, with ``SCRIPT_NAME`` in front; the URL may go."""
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [KEY]}
        settings.ROOT_URLCONF = SecretProject
        caller.post("/secret/", {"outcome": "raise 500"})
        IdempotencyRecord.objects.update(path=path[:255])
        command("answer", IdempotencyRecord.objects.get().pk, *self.ANSWER)
        row = IdempotencyRecord.objects.get()
        assert row.response_codec.startswith("fernet:")
        assert b"4111" not in bytes(row.response_body)

    def test_under_a_prefix_of_the_server(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [KEY]}
        settings.ROOT_URLCONF = SecretProject
        caller.post("/secret/", {"outcome": "raise 500"}, SCRIPT_NAME="/app")
        assert IdempotencyRecord.objects.get().path == "/app/secret/"
        command("answer", IdempotencyRecord.objects.get().pk, *self.ANSWER)
        assert b"4111" not in bytes(IdempotencyRecord.objects.get().response_body)

    def test_a_view_that_has_moved_counts_as_one_without_options(
        self, interrupted: int, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {"CODEC": "fernet", "ENCRYPTION_KEYS": [KEY]}
        IdempotencyRecord.objects.update(path="/moved/")
        command("answer", interrupted, *self.ANSWER)
        assert IdempotencyRecord.objects.get().response_codec.startswith("fernet:")

    def test_without_keys_nothing_is_resolved(self, interrupted: int, settings: Any) -> None:
        settings.IDEMPOTENCY = {"CODEC": "fernet"}
        with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
            command("answer", interrupted, *self.ANSWER)
        assert command("list")


@pytest.mark.django_db(transaction=True)
class TestOperator:
    def test_an_operation_in_flight_is_left_alone(self) -> None:
        operation, _ = an_operation()
        operation.begin()
        pk = IdempotencyRecord.objects.get().pk
        assert ManualResolution("default").rerun(pk) is ResolutionOutcome.IN_FLIGHT
        assert not command("list")
        assert operation.finish(CREATED)
        assert ManualResolution("default").rerun(pk) is ResolutionOutcome.NOT_INTERRUPTED

    @row_locks
    def test_so_is_one_whose_lost_attempt_writes_a_step(self) -> None:
        """I12: what the step commits belongs to the operation."""
        operation, hold = an_operation()
        operation.begin()
        pk = IdempotencyRecord.objects.get().pk
        seen = []

        def step() -> None:
            hold.release()
            seen.append(in_thread(lambda: ManualResolution("default").rerun(pk)).result())

        operation.step("charge", step)
        assert seen == [ResolutionOutcome.IN_FLIGHT]
        assert "steps done: charge" in command("list")
        assert ManualResolution("default").rerun(pk) is ResolutionOutcome.DONE
        assert IdempotencyStep.objects.get(position=0).finished_at is not None

    def test_a_busy_database_resolves_nothing(self, monkeypatch: Any) -> None:
        operation, _ = an_operation()
        operation.begin()
        interrupt(operation)
        pk = IdempotencyRecord.objects.get().pk

        def busy(*args: Any) -> None:
            raise Busy

        monkeypatch.setattr(DatabaseStore, "lock", busy)
        assert ManualResolution("default").rerun(pk) is ResolutionOutcome.IN_FLIGHT
        assert not command("list")

    def test_of_two_decisions_one_counts(self) -> None:
        operation, _ = an_operation()
        operation.begin()
        interrupt(operation)
        pk = IdempotencyRecord.objects.get().pk
        resolution = ManualResolution("default")
        done = resolution.answer(pk, StoredResponse(200), timedelta(hours=1))
        assert done is ResolutionOutcome.DONE
        assert resolution.refuse(pk, timedelta(hours=1)) is ResolutionOutcome.NOT_INTERRUPTED

    def test_an_operation_to_be_rerun_goes_on_after_its_last_step(self) -> None:
        world = World()
        operation, _ = an_operation(still_unknown)
        operation.begin()
        operation.step("charge", world.do, "charge", "ch_1")
        interrupt(operation)
        assert (
            ManualResolution("default").rerun(IdempotencyRecord.objects.get().pk)
            is ResolutionOutcome.DONE
        )
        again, _ = an_operation(still_unknown)
        again.begin()
        assert again.step("charge", world.do, "charge") == "ch_1"
        assert again.finish(CREATED)
        assert world.done == ["charge"]
