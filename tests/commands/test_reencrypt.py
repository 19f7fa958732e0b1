"""``reencrypt_idempotency_records``: rotation of encryption keys, beside traffic."""

import threading
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.cache import caches
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.http import JsonResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.effects import after_commit
from django_idempotency.effects.runner import run_due
from django_idempotency.management.commands import reencrypt_idempotency_records as command
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.protocol.codecs import name_of
from django_idempotency.stores.base import Outage
from django_idempotency.stores.cache.replay_cache import writer_of
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.support import effects
from tests.support.server import Answer, Server, running_server

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def reencrypt(**options: Any) -> str:
    output = StringIO()
    call_command("reencrypt_idempotency_records", stdout=output, stderr=StringIO(), **options)
    return output.getvalue()


def codecs() -> list[str]:
    return sorted(IdempotencyRecord.objects.values_list("response_codec", flat=True))


Use = Callable[..., None]


@pytest.fixture
def use(settings: Any, use_middleware: None) -> Use:
    def configure(*keys: str, codec: str = "fernet") -> None:
        settings.IDEMPOTENCY = {"CODEC": codec, "ENCRYPTION_KEYS": list(keys)}

    return configure


@pytest.fixture
def bought(caller: Caller, use: Use) -> list[Any]:
    """Seven responses under the old key."""
    use(OLD)
    return [caller.post("/function/", {"item": "vm"}, key=f"k-{number}") for number in range(7)]


def replays(caller: Caller) -> list[bytes]:
    answers = [caller.post("/function/", {"item": "vm"}, key=f"k-{number}") for number in range(7)]
    assert all(each["Idempotency-Replayed"] == "true" for each in answers)
    return [each.content for each in answers]


def test_every_response_moves_to_the_newest_key(
    caller: Caller, use: Use, bought: list[Any]
) -> None:
    use(NEW, OLD)
    assert reencrypt(batch_size=3) == (
        f'Encrypted 7 responses and 0 steps in database "default" under key {name_of(NEW)} '
        "(batches: 3; left because locked or new: 0).\n"
    )
    use(NEW)
    assert replays(caller) == [each.content for each in bought]
    assert Order.objects.count() == 7


def test_it_goes_on_where_it_was_stopped(caller: Caller, use: Use, bought: list[Any]) -> None:
    use(NEW, OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command.Command, "_show", _stop)
        with pytest.raises(KeyboardInterrupt):
            reencrypt(batch_size=3)
    assert codecs().count(f"fernet:{name_of(NEW)}") == 3
    assert "Encrypted 4 responses" in reencrypt()
    assert "Encrypted 0 responses" in reencrypt()
    assert replays(caller) == [each.content for each in bought]


def _stop(*args: Any) -> None:
    raise KeyboardInterrupt


def test_a_dry_run_counts_and_verbosity_0_is_silent(use: Use, bought: list[Any]) -> None:
    use(NEW, OLD)
    assert "7 responses and steps in database" in reencrypt(dry_run=True)
    assert codecs() == [f"fernet:{name_of(OLD)}"] * 7
    assert reencrypt(verbosity=0) == ""
    assert codecs() == [f"fernet:{name_of(NEW)}"] * 7


def test_after_the_time_limit_no_batch_begins(use: Use, bought: list[Any]) -> None:
    use(NEW, OLD)
    summary = reencrypt(batch_size=3, time_limit="0")
    assert "Encrypted 3 responses and 0 steps" in summary
    assert "left because the time was over: 4" in summary
    assert "Encrypted 4 responses" in reencrypt(time_limit="1h")


def test_it_rests_between_batches(use: Use, bought: list[Any], monkeypatch: Any) -> None:
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)
    use(NEW, OLD)
    reencrypt(batch_size=3, pause="20ms")
    assert rests == [0.02] * 3


class TestSteps:
    @pytest.fixture(autouse=True)
    def interrupted(self, caller: Caller, use: Use, settings: Any, monkeypatch: Any) -> None:
        """An attempt that took a step and then failed."""
        settings.ROOT_URLCONF = __name__
        use(OLD)
        monkeypatch.setattr(steps_done, "fails", True)
        monkeypatch.setattr(steps_done, "taken", 0)
        caller.post("/steps/")

    @staticmethod
    def stored() -> str:
        return IdempotencyStep.objects.exclude(result="").get().result

    def test_results_are_encrypted_and_move_to_the_newest_key(
        self, caller: Caller, use: Use, monkeypatch: Any
    ) -> None:
        assert "tok-secret" not in self.stored()
        use(NEW, OLD)
        assert "1 responses and steps" in reencrypt(dry_run=True)
        assert "Encrypted 0 responses and 1 steps" in reencrypt()
        use(NEW)
        monkeypatch.setattr(steps_done, "fails", False)
        assert caller.post("/steps/").json() == {"charge": "tok-secret", "taken": 1}

    def test_a_lost_key_takes_no_step_twice(
        self, caller: Caller, use: Use, monkeypatch: Any
    ) -> None:
        use(NEW)
        with pytest.raises(CommandError, match=f"fernet:{name_of(OLD)}: 1"):
            reencrypt()
        monkeypatch.setattr(steps_done, "fails", False)
        assert caller.post("/steps/").status_code == 500
        assert steps_done.taken == 1
        use(OLD)
        assert caller.post("/steps/").json() == {"charge": "tok-secret", "taken": 1}

    def test_a_changed_result_is_damaged(self, use: Use) -> None:
        IdempotencyStep.objects.exclude(result="").update(result=f"fernet:{name_of(OLD)}:AAAA")
        use(NEW, OLD)
        with pytest.raises(CommandError, match="Unreadable"):
            reencrypt()

    def test_a_result_of_another_operation_is_damaged(self, caller: Caller, use: Use) -> None:
        """Neither read by the view that finds it, nor made its own by the command."""
        stolen = IdempotencyStep.objects.filter(position=1).get().result
        IdempotencyStep.objects.filter(position=1).update(record_id=F("record_id") + 1)
        use(NEW, OLD)
        with pytest.raises(CommandError, match="Unreadable, and left as they were"):
            reencrypt()
        assert IdempotencyStep.objects.filter(position=1).get().result == stolen

    def test_unencrypted_results_only_if_asked(
        self, caller: Caller, use: Use, monkeypatch: Any
    ) -> None:
        use(codec="plain")
        caller.post("/steps/", key="plain")
        use(NEW, OLD)
        assert "and 1 steps" in reencrypt()
        assert "and 1 steps" in reencrypt(unencrypted=True)
        results = IdempotencyStep.objects.exclude(result="").values_list("result", flat=True)
        assert "tok-secret" not in "".join(results)


@pytest.mark.django_db(transaction=True)
class TestEffects:
    def test_arguments_move_to_the_newest_key(self, use: Use, monkeypatch: Any) -> None:
        monkeypatch.setattr(effects, "sent", [])
        use(OLD, codec="fernet")
        with transaction.atomic():
            after_commit(effects.later, "4111 1111")
            after_commit(effects.later, "done before")
        assert run_due("default", limit=1).done == 1
        use(NEW, OLD)
        assert "1 responses and steps" in reencrypt(dry_run=True)
        assert "0 steps and 1 effects" in reencrypt()
        assert "0 steps in" in reencrypt()
        use(NEW)
        assert run_due("default").done == 1
        assert len(effects.sent) == 2

    def test_what_cannot_be_read_stays(self, use: Use) -> None:
        use(OLD, codec="fernet")
        with transaction.atomic():
            after_commit(effects.later)
        use(NEW)
        with pytest.raises(CommandError, match=f"fernet:{name_of(OLD)}: 1"):
            reencrypt()
        use(OLD)
        assert run_due("default").done == 1


class Done:
    """What the view has done, and whether it fails afterwards."""

    fails = False
    taken = 0


steps_done = Done()


@csrf_exempt
@idempotent(atomic=False, on_interrupted="run")
def stepwise(request: Any) -> JsonResponse:
    def take() -> str:
        steps_done.taken += 1
        return "tok-secret"

    charge = request.idempotency.step("charge", take)
    if steps_done.fails:
        raise RuntimeError
    return JsonResponse({"charge": charge, "taken": steps_done.taken})


urlpatterns = [path("steps/", stepwise)]


class TestCache:
    @pytest.fixture(autouse=True)
    def local(self, settings: Any) -> None:
        settings.CACHES = {
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "r"}
        }
        caches["default"].clear()

    @staticmethod
    def cached(*keys: str) -> dict[str, Any]:
        return {
            "CODEC": "fernet",
            "ENCRYPTION_KEYS": list(keys),
            "STORE": "cached_db",
            "CACHE": "default",
        }

    def test_copies_do_not_outlive_their_key(self, caller: Caller, use: Use, settings: Any) -> None:
        settings.IDEMPOTENCY = self.cached(OLD)
        first = caller.post("/function/")
        writer_of("default").flush()
        assert b"item" not in b"".join(caches["default"]._cache.values())
        IdempotencyRecord.objects.update(response_status=299)
        assert caller.post("/function/").status_code == 201, "it comes from the cache"
        IdempotencyRecord.objects.update(response_status=201)
        settings.IDEMPOTENCY = self.cached(NEW, OLD)
        reencrypt()
        settings.IDEMPOTENCY = self.cached(NEW)
        assert caller.post("/function/").content == first.content

    def test_a_cache_that_does_not_answer_stops_it(
        self, caller: Caller, use: Use, settings: Any, monkeypatch: Any
    ) -> None:
        def out(*args: Any) -> None:
            raise Outage

        settings.IDEMPOTENCY = self.cached(OLD)
        caller.post("/function/")
        settings.IDEMPOTENCY = self.cached(NEW, OLD)
        monkeypatch.setattr(command, "forget_copies", out)
        with pytest.raises(CommandError, match="the cache does not answer"):
            reencrypt()
        assert codecs() == [f"fernet:{name_of(OLD)}"]


def test_unencrypted_responses_only_if_asked(caller: Caller, use: Use) -> None:
    use(codec="plain")
    first = caller.post("/function/", key="plain")
    use(codec="zlib")
    caller.post("/function/", key="small")
    caller.post("/function/", {"outcome": "503"}, key="interrupted")
    use(NEW)
    assert "Encrypted 0 responses" in reencrypt()
    assert "Encrypted 2 responses" in reencrypt(unencrypted=True)
    assert codecs() == [f"fernet:{name_of(NEW)}", "zlib", f"zlib+fernet:{name_of(NEW)}"]
    assert caller.post("/function/", key="plain").content == first.content


def test_what_cannot_be_read_stays_and_is_told(use: Use, bought: list[Any]) -> None:
    use(NEW)
    with pytest.raises(CommandError) as caught:
        reencrypt()
    assert f"Unreadable, and left as they were: fernet:{name_of(OLD)}: 7." in str(caught.value)
    assert codecs() == [f"fernet:{name_of(OLD)}"] * 7
    IdempotencyRecord.objects.update(response_version=9)
    use(NEW, OLD)
    with pytest.raises(CommandError, match="of another version: 7"):
        reencrypt()


class TestOptions:
    @pytest.mark.django_db
    def test_it_needs_keys(self, use: Use) -> None:
        use(codec="plain")
        with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
            reencrypt()

    @pytest.mark.parametrize("size", [0, 10_001])
    def test_bad_batch_sizes_are_refused(self, use: Use, size: int) -> None:
        with pytest.raises(CommandError, match="from 1 to 10000"):
            reencrypt(batch_size=size)

    def test_the_database_must_exist(self, use: Use) -> None:
        with pytest.raises(CommandError, match="there is no database 'nowhere'"):
            reencrypt(database="nowhere")

    def test_an_error_of_the_database_is_told(
        self, use: Use, bought: list[Any], monkeypatch: Any
    ) -> None:
        def fail(*args: Any) -> None:
            raise OperationalError("gone away")

        use(NEW, OLD)
        monkeypatch.setattr(command, "pending_responses", fail)
        with pytest.raises(CommandError, match=r"gone away\. What it had encrypted .* stays"):
            reencrypt()

    def test_people_see_progress(self, use: Use, bought: list[Any]) -> None:
        class Terminal(StringIO):
            def isatty(self) -> bool:
                return True

        use(NEW, OLD)
        screen = Terminal()
        call_command("reencrypt_idempotency_records", stdout=StringIO(), stderr=screen)
        assert "\r7 responses and steps encrypted" in screen.getvalue()


@row_locks
def test_a_locked_record_is_left_and_counted(use: Use, bought: list[Any]) -> None:
    """I14's sister: the command waits for nobody."""
    use(NEW, OLD)
    with transaction.atomic():
        record = IdempotencyRecord.objects.order_by("pk").select_for_update().first()
        assert record is not None
        summary = in_thread(reencrypt).result()
    assert "Encrypted 6 responses" in summary
    assert "left because locked or new: 1" in summary
    assert "Encrypted 1 responses" in reencrypt()


def test_a_record_that_is_replaced_meanwhile_is_left_alone(
    caller: Caller, use: Use, bought: list[Any], monkeypatch: Any
) -> None:
    """Found, then evicted and claimed anew: what is written belongs to what was read."""
    from django_idempotency.stores.database import reencrypt as module

    page = module._page

    def replaced(*args: Any) -> Any:
        ids = list(page(*args))
        IdempotencyRecord.objects.filter(pk__in=ids[:1]).update(state="claimed", attempt=2)
        IdempotencyRecord.objects.filter(pk__in=ids[1:2]).delete()
        return ids

    use(NEW, OLD)
    monkeypatch.setattr(module, "_page", replaced)
    assert "Encrypted 5 responses" in reencrypt(batch_size=20)


@pytest.mark.processes
def test_rotation_beside_traffic_loses_nothing(
    transactional_db: None, caller: Caller, tmp_path: Path
) -> None:
    """Servers restart with each step of the rotation, and the command runs while they replay."""
    token, count = caller.token.key, 40
    connection.close()

    def step(*keys: str) -> Any:
        policy = {"CODEC": "zlib+fernet", "ENCRYPTION_KEYS": list(keys)}
        return running_server(tmp_path, workers=2, threads=2, policy=policy)

    with step(OLD) as server:
        first = [_buy(server, token, number) for number in range(count)]
    with (
        step(NEW, OLD) as server,
        override_settings(IDEMPOTENCY={"ENCRYPTION_KEYS": [NEW, OLD]}),
        replaying(server, token, first) as told,
    ):
        summaries = [reencrypt(batch_size=2)]
        summaries += [reencrypt(batch_size=2) for _ in range(2)]
    assert told
    assert all(told)
    assert f"Encrypted {count} responses" in summaries[0]
    assert set(codecs()) == {f"zlib+fernet:{name_of(NEW)}"}
    with step(NEW) as server:
        assert [_buy(server, token, number).body for number in range(count)] == [
            each.body for each in first
        ]
    assert Order.objects.filter(item__startswith="item-").count() == count


def _buy(server: Server, token: str, number: int) -> Answer:
    answer = server.post("/rest/", token, f"key-{number}", {"item": f"item-{number}"})
    assert answer is not None, server.log()
    return answer


class replaying:  # noqa: N801  (a context manager)
    """Retries, one after the other from three threads, and new keys, until the block ends."""

    def __init__(self, server: Server, token: str, first: list[Answer]) -> None:
        self._over = threading.Event()
        self._told: list[bool] = []
        self._threads = [
            threading.Thread(target=self._retry, args=(server, token, first, start))
            for start in range(3)
        ]

    def _retry(self, server: Server, token: str, first: list[Answer], start: int) -> None:
        number = start
        while not self._over.is_set() or number < start + 40:
            wanted = first[number % len(first)]
            again = _buy(server, token, number % len(first))
            self._told.append(again.replayed and again.body == wanted.body)
            new = server.post("/rest/", token, f"new-{start}-{number}", {"item": "new"})
            self._told.append(new is not None and new.status == 201)
            number += 1

    def __enter__(self) -> list[bool]:
        for thread in self._threads:
            thread.start()
        return self._told

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
