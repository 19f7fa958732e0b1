"""A resolver says what became of an interrupted attempt."""

from datetime import timedelta
from typing import Any

import pytest
from django.http import JsonResponse

from django_idempotency.models import IdempotencyRecord
from django_idempotency.remember import do_not_remember, remember_for
from django_idempotency.resolving import RUN_AGAIN, STILL_UNKNOWN
from tests.conftest import Caller, in_thread
from tests.shop import effects
from tests.support.interruptions import Crash, interrupt
from tests.support.problems import code_of


class TestResolver:
    PATH = "/effects/resolved/"

    def test_its_response_is_stored_and_replayed(
        self, caller: Caller, after_charge: Any, charges: list[str], monkeypatch: Any
    ) -> None:
        """I11: the view itself finds out what happened, with the key the gateway knows."""
        keys = []

        def remember_key(operation: Any) -> None:
            keys.append(operation.derive_key("charge"))
            raise Crash

        def find(operation: Any) -> Any:
            keys.append(operation.derive_key("charge"))
            return JsonResponse({"found": charges[0]}, status=201)

        monkeypatch.setattr(effects, "after_charge", remember_key)
        with pytest.raises(Crash):
            caller.post(self.PATH)
        monkeypatch.setattr(effects, "resolver", find)
        for _ in range(2):
            answer = caller.post(self.PATH)
            assert (answer.status_code, answer.json()) == (201, {"found": "server"})
            assert answer["Idempotency-Replayed"] == "true"
        assert keys[0] == keys[1]
        assert len(keys) == 2
        assert charges == ["server"]

    def test_it_can_let_the_view_run_again(
        self, caller: Caller, after_charge: Any, charges: list[str], monkeypatch: Any
    ) -> None:
        interrupt(caller, after_charge, self.PATH)
        monkeypatch.setattr(effects, "resolver", lambda operation: RUN_AGAIN)
        assert caller.post(self.PATH).status_code == 201
        assert charges == ["server"] * 2

    def test_it_need_not_know(
        self, caller: Caller, after_charge: Any, charges: list[str], monkeypatch: Any
    ) -> None:
        interrupt(caller, after_charge, self.PATH)
        monkeypatch.setattr(effects, "resolver", lambda operation: STILL_UNKNOWN)
        assert code_of(caller.post(self.PATH)) == "outcome_unknown"
        assert charges == ["server"]

    def test_it_must_not_say_anything_else(
        self, caller: Caller, after_charge: Any, charges: list[str], monkeypatch: Any
    ) -> None:
        interrupt(caller, after_charge, self.PATH)
        monkeypatch.setattr(effects, "resolver", lambda operation: True)
        assert caller.post(self.PATH).status_code == 500
        monkeypatch.setattr(effects, "resolver", effects.unknown)
        assert code_of(caller.post(self.PATH)) == "outcome_unknown"
        assert charges == ["server"]

    @pytest.mark.parametrize("refusal", [503, "forgotten"])
    def test_what_is_not_stored_is_the_answer_of_one_retry(
        self, refusal: Any, caller: Caller, after_charge: Any, charges: list[str], monkeypatch: Any
    ) -> None:
        """As for a view: a 503, or what is marked, is no result."""
        interrupt(caller, after_charge, self.PATH)
        answer = JsonResponse({"try": "later"}, status=503 if refusal == 503 else 404)
        marked = answer if refusal == 503 else do_not_remember(answer)
        monkeypatch.setattr(effects, "resolver", lambda operation: marked)
        seen = caller.post(self.PATH)
        assert (seen.status_code, seen.json()) == (answer.status_code, {"try": "later"})
        assert "Idempotency-Replayed" not in seen
        monkeypatch.setattr(effects, "resolver", lambda operation: JsonResponse({}, status=201))
        assert [caller.post(self.PATH).status_code for _ in "12"] == [201, 201]
        assert charges == ["server"]

    def test_it_says_for_how_long_its_response_replays(
        self, caller: Caller, after_charge: Any, monkeypatch: Any
    ) -> None:
        interrupt(caller, after_charge, self.PATH)
        found = remember_for(JsonResponse({}, status=201), timedelta(days=3))
        monkeypatch.setattr(effects, "resolver", lambda operation: found)
        assert caller.post(self.PATH).status_code == 201
        record = IdempotencyRecord.objects.get()
        assert record.completed_at is not None
        replays_for = record.expires_at - record.completed_at
        assert abs(replays_for - timedelta(days=3)) < timedelta(minutes=1)

    def test_one_that_raises_is_reported(
        self, caller: Caller, after_charge: Any, monkeypatch: Any, caplog: Any
    ) -> None:
        interrupt(caller, after_charge, self.PATH)
        caplog.set_level("INFO", "django_idempotency")
        caplog.clear()

        def breaks(operation: Any) -> Any:
            raise LookupError("the gateway is down")

        monkeypatch.setattr(effects, "resolver", breaks)
        assert caller.post(self.PATH).status_code == 500
        (line,) = [each for each in caplog.records if each.name == "django_idempotency"]
        assert (line.outcome, line.reason) == ("interrupted", "LookupError")

    def test_rivals_do_not_ask_at_the_same_time(
        self, caller: Caller, after_charge: Any, monkeypatch: Any
    ) -> None:
        interrupt(caller, after_charge, self.PATH)
        seen = []

        def ask(operation: Any) -> Any:
            seen.append(in_thread(lambda: caller.post(self.PATH)).result())
            return RUN_AGAIN

        monkeypatch.setattr(effects, "resolver", ask)
        assert caller.post(self.PATH).status_code == 201
        assert [code_of(each) for each in seen] == ["idempotency_in_flight"]
