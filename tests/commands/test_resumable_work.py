"""Interrupted operations are finished without their clients, which never come back."""

import os
import signal
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.migrations import RunPython
from django.db.migrations.loader import MigrationLoader
from django.http import HttpResponse, JsonResponse
from django.test import TestCase
from django.utils.http import parse_http_date

from django_idempotency import signals
from django_idempotency.adapters.resumed import resume
from django_idempotency.conf.policy import PolicyError
from django_idempotency.contract.endpoints import resumable_handlers
from django_idempotency.decorators import idempotent
from django_idempotency.guard.resuming import Resumed
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.remember import do_not_remember
from django_idempotency.resolving import RUN_AGAIN, STILL_UNKNOWN
from django_idempotency.stores.database.interrupted import resumable_operations
from tests.conftest import Caller, in_thread
from tests.shop import effects
from tests.shop.models import Order
from tests.support import holding
from tests.support.holding import an_operation
from tests.support.problems import code_of
from tests.support.server import running_server

PATH = "/effects/resumable/"
ITEM = {"item": "vm"}
NAME = "tests.shop.effects.finish"
RESUMED = 'Resumed 1 operations in database "default" (failed: 0; could not start: 0; skipped '


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def command(*arguments: Any, older_than: str = "0", kind: type[StringIO] = StringIO) -> str:
    out, err = StringIO(), kind()
    options = ("--older-than", older_than, *map(str, arguments))
    try:
        call_command("run_idempotent_work", *options, stdout=out, stderr=err)
    except CommandError as error:
        raise CommandError(err.getvalue() + str(error)) from error
    return out.getvalue() + err.getvalue()


def retry(caller: Caller, key: str = "k-1") -> Any:
    return caller.post(PATH, ITEM, key)


def breaks(operation: Any) -> None:
    raise RuntimeError("a broken network")


def interrupt(caller: Caller, monkeypatch: Any, key: str = "k-1") -> int:
    """A client's only attempt breaks after its charge, and nobody retries."""
    with monkeypatch.context() as patch:
        patch.setattr(effects, "after_charge", breaks)
        assert retry(caller, key).status_code == 500
    return int(IdempotencyRecord.objects.get(key=key).pk)


@pytest.fixture
def interrupted(caller: Caller, monkeypatch: Any) -> int:
    return interrupt(caller, monkeypatch)


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    events: list[Any] = []

    def hear(sender: Any, event: Any, **kwargs: Any) -> None:
        events.append((event.outcome, event.route, event.attempt, event.status))

    signals.connect(hear)
    yield events
    for each in signals.SIGNALS.values():
        each.disconnect(hear)


class TestResuming:
    def test_it_goes_on_after_the_last_step_and_the_answer_replays(
        self, interrupted: int, caller: Caller, heard: list[Any]
    ) -> None:
        """I6: as a request's answer would."""
        charge = Order.objects.get()
        assert code_of(retry(caller)) == "outcome_unknown"
        heard.clear()
        assert command().startswith(RESUMED)
        order = Order.objects.exclude(pk=charge.pk).get()
        assert heard == [("recovered", "effects/resumable/", 2, 201)]
        answer = retry(caller)
        assert (answer.status_code, answer["Idempotency-Replayed"]) == (201, "true")
        assert answer.json() == {"order": order.pk, "for": "ada.lovelace"}
        assert Order.objects.count() == 2
        assert command().startswith("Resumed 0 operations")

    def test_derived_keys_are_those_of_the_request(
        self, interrupted: int, caller: Caller, monkeypatch: Any
    ) -> None:
        keys = [Order.objects.get().item]
        IdempotencyStep.objects.filter(position=1).delete()
        monkeypatch.setattr(
            effects, "after_charge", lambda each: keys.append(each.derive_key("charge"))
        )
        command()
        assert keys[0] == f"charge {keys[1]}"

    def test_headers_are_those_of_a_request(
        self, caller: Caller, settings: Any, monkeypatch: Any
    ) -> None:
        settings.IDEMPOTENCY = {
            "KEY_HEADER": "X-Key",
            "COMPLETED_HEADER": "X-Completed",
            "EXPIRES_HEADER": "X-Expires",
        }
        interrupt(caller, monkeypatch)
        command()
        answer = retry(caller)
        assert answer["X-Key"] == "k-1"
        assert parse_http_date(answer["X-Expires"]) > parse_http_date(answer["X-Completed"])

    def test_a_young_one_may_still_be_retried(self, interrupted: int) -> None:
        assert command(older_than="1h").startswith("Resumed 0 operations")

    def test_a_dry_run_runs_nothing(self, interrupted: int) -> None:
        listed, summary = command("--dry-run").splitlines()
        assert listed == f"{interrupted}  POST {PATH}  {NAME}"
        assert summary == "1 operations and effects would run, unless in flight."
        assert Order.objects.count() == 1
        assert IdempotencyRecord.objects.get().attempt == 1

    def test_the_tables_that_know_of_it_are_not_dropped(self, interrupted: int) -> None:
        """I11: without its tables, its retry would run again."""
        loader = MigrationLoader(connection)
        migration = loader.get_migration("django_idempotency", "0001_initial")
        state = loader.project_state(("django_idempotency", "0001_initial"))
        (refusal,) = (each for each in migration.operations if isinstance(each, RunPython))
        with (
            pytest.raises(RuntimeError, match="1 operations with atomic=False"),
            connection.schema_editor() as editor,
        ):
            refusal.database_backwards("django_idempotency", editor, state, state)
        command()
        with connection.schema_editor() as editor:
            refusal.database_backwards("django_idempotency", editor, state, state)

    def test_a_limit_takes_the_oldest(self, caller: Caller, monkeypatch: Any) -> None:
        for key in ("first", "second", "third"):
            interrupt(caller, monkeypatch, key)
        assert command("--limit", 2).startswith("Resumed 2 operations")
        assert IdempotencyRecord.objects.get(state="claimed").key == "third"
        with pytest.raises(CommandError, match="--limit"):
            command("--limit", 0)

    def test_cron_may_be_told_to_be_silent(self, interrupted: int) -> None:
        assert command("--verbosity", 0) == ""

    def test_people_see_progress(self, interrupted: int) -> None:
        assert f"Record {interrupted}: POST {PATH}\n" in command("--no-color", kind=Terminal)

    def test_a_record_without_handler_is_left_alone(self, caller: Caller) -> None:
        caller.post("/effects/function/", {"outcome": "raise 500"})
        assert command().startswith("Resumed 0 operations")
        assert IdempotencyRecord.objects.get().attempt == 1

    def test_an_expired_one_is_as_good_as_absent(self, interrupted: int) -> None:
        """I14"""
        IdempotencyRecord.objects.update(expires_at="2020-01-01T00:00:00Z")
        assert command().startswith("Resumed 0 operations")

    def test_one_that_somebody_lets_rerun_waits_for_its_client(
        self, interrupted: int, caller: Caller
    ) -> None:
        """It is not interrupted any more."""
        call_command("resolve_idempotency_record", "rerun", str(interrupted), stdout=StringIO())
        assert command().startswith("Resumed 0 operations")
        assert retry(caller).status_code == 201


class TestFailing:
    @pytest.mark.parametrize(
        "response",
        [
            HttpResponse(status=502),
            HttpResponse(status=503),
            do_not_remember(HttpResponse()),
            "no response",
        ],
        ids=["502", "503", "not remembered", "no response"],
    )
    def test_what_is_not_stored_stays_interrupted(
        self, response: Any, interrupted: int, caller: Caller, monkeypatch: Any, heard: list[Any]
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(effects, "finishing", lambda operation, data: response)
            heard.clear()
            with pytest.raises(CommandError, match=rf"(?s)Record {interrupted}.*failed: 1"):
                command()
            assert [each[0] for each in heard] == ["interrupted"]
        assert code_of(retry(caller)) == "outcome_unknown"
        assert command().startswith(RESUMED)
        assert retry(caller).status_code == 201

    def test_what_fails_does_not_keep_others_waiting(
        self, caller: Caller, monkeypatch: Any, caplog: Any
    ) -> None:
        """Each try makes it the youngest."""
        for key in ("poison", "other"):
            interrupt(caller, monkeypatch, key)

        def poison(operation: Any) -> None:
            if operation.key == "poison":
                raise RuntimeError("a broken network")

        monkeypatch.setattr(effects, "after_charge", poison)
        with pytest.raises(CommandError, match="failed: 1"):
            command("--limit", 1)
        assert "a broken network" in caplog.text
        assert all("poison" not in each.getMessage() for each in caplog.records)
        assert command("--limit", 1).startswith(RESUMED)
        assert IdempotencyRecord.objects.get(state="claimed").key == "poison"

    def test_interrupting_the_command_lets_go(
        self, interrupted: int, caller: Caller, monkeypatch: Any
    ) -> None:
        def ctrl_c(operation: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(effects, "after_charge", ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                command()
        assert command().startswith(RESUMED)

    def test_nothing_is_called_that_no_view_declares(self, interrupted: int) -> None:
        IdempotencyStep.objects.filter(position=0).update(name="os.system")
        with pytest.raises(CommandError, match=r"no view.*: os.system \(1\)"):
            command()
        assert Order.objects.count() == 1

    @pytest.mark.parametrize("change", ["data", "secret"])
    def test_nor_with_data_that_we_did_not_write(
        self, change: str, interrupted: int, settings: Any, caplog: Any
    ) -> None:
        """With another secret, keys for the gateway would be others: a second charge."""
        beginning = IdempotencyStep.objects.get(position=0)
        if change == "secret":
            settings.IDEMPOTENCY = {"SECRET": "another secret of some length"}
        else:
            text = beginning.result.replace("vm", "gold")
            IdempotencyStep.objects.filter(pk=beginning.pk).update(result=text)
        with pytest.raises(CommandError, match="could not start: 1"):
            command()
        assert "stored under another SECRET, or changed" in caplog.text
        assert Order.objects.count() == 1
        assert IdempotencyRecord.objects.get().attempt == 1

    def test_what_cannot_start_keeps_nobody_else_from_it(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        """It is found first, in every run."""
        for key in ("k-1", "k-2", "k-3", "k-4"):
            interrupt(caller, monkeypatch, key)
        bad = IdempotencyStep.objects.filter(position=0).order_by("pk")[:3]
        IdempotencyStep.objects.filter(pk__in=list(bad.values_list("pk", flat=True))).update(
            result="changed"
        )
        with pytest.raises(CommandError, match=r"Resumed 1 operations.*could not start: 3"):
            command("--limit", 1)

    def test_data_is_encrypted_as_responses_are(
        self, caller: Caller, settings: Any, monkeypatch: Any, caplog: Any
    ) -> None:
        fernet = pytest.importorskip("cryptography.fernet").Fernet
        keys = [fernet.generate_key().decode()]
        settings.IDEMPOTENCY = {"CODEC": "fernet", "ENCRYPTION_KEYS": keys}
        interrupt(caller, monkeypatch)
        assert IdempotencyStep.objects.get(position=0).result.startswith("fernet:")
        others = [fernet.generate_key().decode()]
        settings.IDEMPOTENCY = {"CODEC": "fernet", "ENCRYPTION_KEYS": others}
        with pytest.raises(CommandError, match="could not start: 1"):
            command()
        assert "its encryption key is not available" in caplog.text
        settings.IDEMPOTENCY = {"CODEC": "fernet", "ENCRYPTION_KEYS": keys}
        assert command().startswith(RESUMED)

    def test_a_database_that_fails_is_reported(self) -> None:
        with pytest.raises(CommandError, match="no database 'nowhere'"):
            command("--database", "nowhere")

    def test_so_is_one_that_is_gone(self, interrupted: int) -> None:
        def gone(*args: Any) -> None:
            raise OperationalError("gone away")

        with (
            connection.execute_wrapper(gone),
            pytest.raises(
                CommandError, match=r"(?s)gone away\. Resumed 0 .* Run the command again"
            ),
        ):
            command()


class TestResolvers:
    @pytest.mark.parametrize(
        ("says", "orders", "status"),
        [(RUN_AGAIN, 2, 201), (STILL_UNKNOWN, 1, 409), (JsonResponse({}, status=202), 1, 202)],
        ids=["run again", "still unknown", "response"],
    )
    def test_they_are_asked_first(
        self, says: Any, orders: int, status: int, caller: Caller, settings: Any, monkeypatch: Any
    ) -> None:
        """I11"""
        settings.IDEMPOTENCY = {"RESOLVER": effects.ask}
        interrupt(caller, monkeypatch)
        monkeypatch.setattr(effects, "resolver", lambda operation: says)
        done = "Resumed 0" if says is STILL_UNKNOWN else "Resumed 1"
        assert command().startswith(done)
        assert Order.objects.count() == orders
        assert retry(caller).status_code == status


class TestBesides:
    """I1, I12: it holds a record as a request does."""

    def test_a_request_in_flight_is_left_alone(self, caller: Caller, monkeypatch: Any) -> None:
        seen = []

        def meanwhile(operation: Any) -> None:
            seen.append(in_thread(command).result())

        monkeypatch.setattr(effects, "after_charge", meanwhile)
        assert retry(caller).status_code == 201
        assert "unknown: 1" in seen[0]
        assert Order.objects.count() == 2

    def test_of_two_at_once_one_runs(
        self, interrupted: int, caller: Caller, monkeypatch: Any
    ) -> None:
        seen: list[Any] = []

        def meanwhile(operation: Any) -> None:
            seen.append(in_thread(command).result())
            seen.append(code_of(retry(caller)))

        monkeypatch.setattr(effects, "after_charge", meanwhile)
        assert command().startswith(RESUMED)
        assert seen[0].startswith("Resumed 0 operations")
        assert seen[1] == "idempotency_in_flight"
        assert Order.objects.count() == 2

    @pytest.mark.parametrize("end", ["completed", "interrupted"])
    def test_one_that_a_rival_has_resumed_is_not_resumed_again(
        self, end: str, caller: Caller, monkeypatch: Any
    ) -> None:
        """Both have found it; the second comes to it later."""
        for key in ("first", "second"):
            interrupt(caller, monkeypatch, key)

        def meanwhile(operation: Any) -> None:
            monkeypatch.setattr(effects, "after_charge", then)
            in_thread(rival).result()

        def then(operation: Any) -> None:
            if end == "interrupted":
                raise RuntimeError

        def rival() -> None:
            try:
                command()
            except CommandError:
                assert end == "interrupted"

        monkeypatch.setattr(effects, "after_charge", meanwhile)
        assert command().startswith(RESUMED)
        again = IdempotencyRecord.objects.get(key="second")
        assert (again.attempt, again.state == "completed") == (2, end == "completed")

    def test_what_changed_since_it_was_read_is_left_alone(
        self, interrupted: int, caller: Caller, monkeypatch: Any
    ) -> None:
        """Somebody else resumes it between the look at the record and its lock."""
        (found,) = resumable_operations("default")
        policy = resumable_handlers("default")[NAME]
        with monkeypatch.context() as patch:
            patch.setattr(effects, "after_charge", breaks)
            with pytest.raises(CommandError):
                command()
        assert resume(found, policy, "default") is Resumed.SKIPPED
        assert command().startswith(RESUMED)
        assert resume(found, policy, "default") is Resumed.SKIPPED

    def test_an_attempt_that_has_not_noted_its_start_leaves_it_to_the_next_run(
        self, interrupted: int
    ) -> None:
        """A retry that died between taking the record over and starting."""
        IdempotencyRecord.objects.update(attempt=2)
        assert command().startswith(RESUMED)
        assert IdempotencyRecord.objects.get().attempt == 3

    @pytest.mark.processes
    @pytest.mark.parametrize("path", [PATH, "/effects/itself/"])
    def test_a_killed_worker_and_a_client_that_is_gone(
        self, path: str, caller: Caller, tmp_path: Path
    ) -> None:
        """I3: the charge is committed; then the worker dies."""
        connection.close()
        with running_server(tmp_path) as server:
            server.hang_next()
            first = in_thread(lambda: server.post(path, caller.token.key, "k", ITEM))
            pid, _ = server.hanging()
            assert "unknown: 1" in command()
            os.kill(pid, signal.SIGKILL)
            assert first.result() is None
            # The database server may need a moment to see that its client is dead.
            assert any("Resumed 1" in command() for _ in range(200))
            answer = server.post(path, caller.token.key, "k", ITEM)
            assert answer is not None
            assert (answer.status, answer.replayed) == (201, True)
        assert Order.objects.filter(item="vm").count() == 1
        assert Order.objects.filter(item__startswith="charge").count() == 1


class TestNotes:
    def test_data_that_is_not_plain_is_an_error_before_anything_runs(
        self, caller: Caller, monkeypatch: Any
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(effects, "noting", lambda request: object())
            assert retry(caller).status_code == 500
        assert Order.objects.count() == 0
        assert retry(caller).status_code == 201

    @pytest.mark.parametrize("handler", [lambda operation, data: None, print, "a.b", TestCase])
    def test_a_handler_has_a_name(self, handler: Any) -> None:
        with pytest.raises(PolicyError, match="function with a name"):
            idempotent(resumable=handler)

    def test_a_name_fits(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(breaks, "__qualname__", "x" * 100)
        with pytest.raises(PolicyError, match="at most 100 bytes"):
            idempotent(resumable=breaks)
        assert idempotent(resumable=None)

    def test_a_view_without_handler_forgets_the_note(self, interrupted: int) -> None:
        """A retry under a policy of today cannot be finished by a handler of yesterday."""
        operation, _ = an_operation(key="k-2")
        operation.begin()
        holding.interrupt(operation)
        assert set(IdempotencyStep.objects.filter(position=0).values_list("name", flat=True)) == {
            NAME,
            "",
        }


class TestElsewhere(TestCase):
    def test_it_works_in_test_cases(self) -> None:
        caller = Caller("ada")
        with pytest.MonkeyPatch.context() as patch:
            interrupt(caller, patch)
        assert command().startswith(RESUMED)
        assert retry(caller).status_code == 201
