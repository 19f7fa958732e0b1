"""Non-atomic mode: the view owns its transactions; interrupted attempts are known unknowns."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections, transaction
from django.db.backends.signals import connection_created
from django.http import HttpResponse, JsonResponse
from django.test import TestCase
from rest_framework.views import exception_handler

from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.operations.base import InFlight, OutcomeUnknown, Started, Unavailable
from django_idempotency.operations.errors import LostRecord
from django_idempotency.operations.non_atomic import run_again
from django_idempotency.operations.resolution import ManualResolution
from django_idempotency.protocol.record import Replay, StoredResponse
from django_idempotency.remember import do_not_remember, remember_for
from django_idempotency.resolving import RUN_AGAIN, STILL_UNKNOWN
from django_idempotency.stores.base import Busy
from django_idempotency.stores.database import connections as own_connections
from django_idempotency.stores.database.connections import OwnConnections
from django_idempotency.stores.database.dialects import dialect_of
from django_idempotency.stores.database.step_log import StepLog
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import effects
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE, effect_adapters, few_effect_adapters
from tests.support.holding import CREATED, a_claim, an_operation, kill, terminate
from tests.support.holding import interrupt as interrupt_attempt
from tests.support.problems import code_of


@pytest.fixture(autouse=True)
def charges() -> Iterator[list[str]]:
    effects.charges.clear()
    yield effects.charges
    effects.charges.clear()


@pytest.fixture
def after_charge(monkeypatch: Any) -> Callable[[Callable[[], None]], None]:
    """Let something happen in the view once, after its charge."""

    def install(action: Callable[[], None]) -> None:
        def once(operation: Any) -> None:
            monkeypatch.setattr(effects, "after_charge", effects.nothing)
            action()

        monkeypatch.setattr(effects, "after_charge", once)

    return install


class Crash(BaseException):
    """Ends the view as a killed worker does: nobody handles it."""


def crash() -> None:
    raise Crash


def interrupt(caller: Caller, after_charge: Any, path: str) -> None:
    after_charge(crash)
    with pytest.raises(Crash):
        caller.post(path)


def busy(*args: Any) -> Any:
    raise Busy(waited=True)


class TestAnswers:
    @effect_adapters
    def test_a_retry_replays_and_runs_nothing(
        self, adapter: str, caller: Caller, charges: list[str]
    ) -> None:
        """I1, I6."""
        first, retry = caller.post(adapter), caller.post(adapter)
        assert (first.status_code, retry.status_code) == (201, 201)
        assert retry.content == first.content
        assert retry["Idempotency-Replayed"] == "true"
        assert charges == ["server"]

    @few_effect_adapters
    def test_a_duplicate_in_flight_gets_409(
        self, adapter: str, caller: Caller, after_charge: Any, charges: list[str]
    ) -> None:
        """I4: the record is held although no transaction of the view's is open."""
        seen = []
        after_charge(lambda: seen.append(in_thread(lambda: caller.post(adapter)).result()))
        assert caller.post(adapter).status_code == 201
        assert (seen[0].status_code, code_of(seen[0])) == (409, "idempotency_in_flight")
        assert charges == ["server"]

    @few_effect_adapters
    def test_the_view_owns_its_transactions(
        self, adapter: str, caller: Caller, after_charge: Any
    ) -> None:
        """What it has written is seen by others before it ends, and stays if it breaks."""
        seen = []

        def look() -> None:
            assert not connection.in_atomic_block
            seen.append(in_thread(Order.objects.count).result())

        after_charge(look)
        assert caller.post(adapter, {"outcome": "raise 500"}).status_code == 500
        assert seen == [1]
        assert Order.objects.count() == 1

    @few_effect_adapters
    def test_an_interrupted_attempt_is_never_repeated_silently(
        self, adapter: str, caller: Caller, after_charge: Any, charges: list[str]
    ) -> None:
        """I11: refused unless policy chooses to run."""
        interrupt(caller, after_charge, adapter)
        for _ in range(2):
            refused = caller.post(adapter)
            assert (refused.status_code, code_of(refused)) == (409, "outcome_unknown")
            assert refused["Retry-After"] == "60"
        assert charges == ["server"]

    @few_effect_adapters
    def test_an_exception_leaves_an_unknown_outcome(
        self, adapter: str, caller: Caller, charges: list[str]
    ) -> None:
        """I11: a 500 does not say what had been done."""
        data = {"outcome": "raise 500"}
        assert caller.post(adapter, data).status_code == 500
        assert code_of(caller.post(adapter, data)) == "outcome_unknown"
        assert charges == ["server"]

    @few_effect_adapters
    def test_a_raised_404_is_stored(self, adapter: str, caller: Caller, charges: list[str]) -> None:
        data = {"outcome": "raise 404"}
        first, retry = caller.post(adapter, data), caller.post(adapter, data)
        assert (first.status_code, retry.status_code) == (404, 404)
        assert retry["Idempotency-Replayed"] == "true"
        assert charges == ["server"]

    @pytest.mark.parametrize("status", [403, 409, 429, 503])
    def test_not_now_frees_the_key(self, status: int, caller: Caller, charges: list[str]) -> None:
        """The view says that it did nothing: the retry runs."""
        data = {"outcome": status}
        for attempt in (1, 2):
            assert caller.post("/effects/function/", data).status_code == status
            assert IdempotencyStep.objects.get().attempt == attempt
        assert charges == ["server"] * 2

    def test_a_raised_not_now_frees_the_key(self, caller: Caller, charges: list[str]) -> None:
        data = {"outcome": "raise 429"}
        assert [caller.post("/effects/rest/", data).status_code for _ in "12"] == [429, 429]
        assert charges == ["server"] * 2

    @pytest.mark.parametrize("status", [500, 502, 504])
    def test_other_errors_of_the_server_leave_an_unknown_outcome(
        self, status: int, caller: Caller
    ) -> None:
        data = {"outcome": status}
        assert caller.post("/effects/function/", data).status_code == status
        assert code_of(caller.post("/effects/function/", data)) == "outcome_unknown"

    def test_the_view_can_say_that_it_did_nothing(self, caller: Caller) -> None:
        data = {"outcome": 500, "forget": True}
        assert [caller.post("/effects/function/", data).status_code for _ in "12"] == [500, 500]

    def test_policy_can_run_again(
        self, caller: Caller, after_charge: Any, charges: list[str]
    ) -> None:
        """I3, I11: at once, under the next number."""
        interrupt(caller, after_charge, "/effects/running-again/")
        assert caller.post("/effects/running-again/").status_code == 201
        assert charges == ["server"] * 2
        record = IdempotencyRecord.objects.get()
        assert (record.state, record.attempt) == ("completed", 2)

    def test_a_duplicate_waits_where_policy_says_so(
        self, caller: Caller, after_charge: Any, charges: list[str]
    ) -> None:
        rivals = []
        path = "/effects/waiting/"
        after_charge(lambda: rivals.append(in_thread(lambda: caller.post(path))))
        first = caller.post(path)
        assert rivals[0].result().content == first.content
        assert charges == ["server"]


class TestExceptions:
    """The record is held until the answer is there that somebody makes of an exception."""

    @pytest.fixture
    def slow_handlers(self, caller: Caller, settings: Any, monkeypatch: Any) -> list[Any]:
        """Handlers of exceptions during which a duplicate arrives."""
        seen: list[Any] = []

        def meanwhile(path: str) -> None:
            seen.append(in_thread(lambda: caller.post(path, GONE)).result())

        def not_found(request: Any, exception: Any) -> HttpResponse:
            meanwhile(request.path)
            return HttpResponse("gone", status=404)

        monkeypatch.setattr("tests.shop.urls.handler404", not_found, raising=False)
        monkeypatch.setattr(effects, "handling", meanwhile, raising=False)
        handler = f"{__name__}.slow_exception_handler"
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": handler}
        return seen

    @pytest.mark.parametrize("middleware", [False, True])
    @pytest.mark.parametrize(
        "path", ["/effects/function/", "/effects/running-again/", "/effects/rest/"]
    )
    def test_a_duplicate_meanwhile_is_in_flight(
        self,
        path: str,
        middleware: bool,
        caller: Caller,
        slow_handlers: list[Any],
        charges: list[str],
        settings: Any,
    ) -> None:
        """I1, I11: no second effect, and no unknown outcome of what is about to be known."""
        if middleware:
            settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        assert caller.post(path, GONE).status_code == 404
        assert [code_of(each) for each in slow_handlers] == ["idempotency_in_flight"]
        assert caller.post(path, GONE)["Idempotency-Replayed"] == "true"
        assert charges == ["server"]


GONE = {"outcome": "raise 404"}


def slow_exception_handler(error: Any, context: Any) -> Any:
    effects.handling(context["request"].path)  # type: ignore[attr-defined]
    return exception_handler(error, context)


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


class TestAtomicRequests:
    def test_a_view_in_a_request_block_is_refused_with_advice(
        self, caller: Caller, monkeypatch: Any, charges: list[str], use_middleware: None
    ) -> None:
        """Its response would be stored before its writes are committed."""
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        caller._client.raise_request_exception = True
        with pytest.raises(ImproperlyConfigured, match="non_atomic_requests on the view"):
            caller.post("/effects/in-request-block/")
        assert charges == []
        assert not IdempotencyRecord.objects.exists()

    def test_so_is_one_that_the_middleware_guards(
        self, caller: Caller, monkeypatch: Any, settings: Any, use_middleware: None
    ) -> None:
        settings.IDEMPOTENCY = {"ATOMIC": False}
        assert caller.post("/effects/bare/").status_code == 201
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        caller._client.raise_request_exception = True
        with pytest.raises(ImproperlyConfigured, match="non_atomic_requests on the view"):
            caller.post("/function/")
        assert caller.post("/effects/bare/", key="k-2").status_code == 201


class TestTestCase(TestCase):
    """Inside a test case's transaction, where another connection sees nothing."""

    def test_it_works_there(self) -> None:
        caller = Caller("ada.lovelace")
        first, retry = caller.post("/effects/function/"), caller.post("/effects/function/")
        assert (first.status_code, retry.content) == (201, first.content)
        assert effects.charges == ["server"]
        assert caller.post("/effects/function/", {"item": "other"}).status_code == 422

    def test_interruptions_are_known_there(self) -> None:
        caller = Caller("ada.lovelace")
        data = {"outcome": "raise 500"}
        assert caller.post("/effects/function/", data).status_code == 500
        assert code_of(caller.post("/effects/function/", data)) == "outcome_unknown"
        assert caller.post("/effects/running-again/", data, key="k-2").status_code == 500
        assert caller.post("/effects/running-again/", data, key="k-2").status_code == 500
        assert effects.charges == ["server"] * 3

    def test_an_exception_that_becomes_a_result_is_stored_there(self) -> None:
        caller = Caller("ada.lovelace")
        data = {"outcome": "raise 404"}
        assert caller.post("/effects/function/", data).status_code == 404
        assert caller.post("/effects/function/", data)["Idempotency-Replayed"] == "true"


@row_locks
@pytest.mark.django_db(transaction=True)
class TestFencing:
    """I12: losing the lock means losing the right to store."""

    def test_an_attempt_that_lost_its_lock_stores_nothing(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        assert hold.is_held()
        kill(hold)
        winner, _ = an_operation(run_again)
        assert winner.begin() == Started()
        assert (winner.attempt, winner.recovered) == (2, True)
        with pytest.raises(LostRecord):
            loser.finish(StoredResponse(200))
        assert winner.finish(CREATED)
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_it_stores_if_nobody_has_followed_yet(self) -> None:
        """Nothing else was done under the key, so its answer is the answer."""
        attempt, hold = an_operation()
        assert attempt.begin() == Started()
        kill(hold)
        assert attempt.finish(CREATED)
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_nor_does_it_while_somebody_decides_what_became_of_it(self) -> None:
        """A retry has the lock, and asks the resolver: that decision counts."""
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)

        def meanwhile(operation: Any) -> Any:
            with pytest.raises(LostRecord):
                in_thread(lambda: loser.finish(CREATED)).result()
            return RUN_AGAIN

        winner, _ = an_operation(meanwhile)
        assert winner.begin() == Started()
        assert winner.finish(StoredResponse(200))

    def test_a_commit_whose_confirmation_was_lost_counts(self, monkeypatch: Any) -> None:
        attempt, hold = an_operation()
        assert attempt.begin() == Started()
        commit = hold._session.commit

        def unconfirmed() -> None:
            commit()
            raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(hold._session, "commit", unconfirmed)
        assert attempt.finish(CREATED)
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_an_operator_was_faster_than_a_lost_attempt(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)
        record = IdempotencyRecord.objects.get()
        assert (
            ManualResolution("default").answer(record.pk, StoredResponse(200), timedelta(hours=1))
            == "done"
        )
        with pytest.raises(LostRecord):
            loser.finish(CREATED)

    def test_a_server_that_is_gone_loses_the_answer_and_says_so(self, monkeypatch: Any) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)
        with monkeypatch.context() as patch:
            patch.setattr(OwnConnections, "lend", busy)
            with pytest.raises(LostRecord):
                loser.finish(CREATED)
        assert an_operation()[0].begin() == OutcomeUnknown()

    def test_nor_does_it_say_that_nothing_was_done(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)
        winner, _ = an_operation(run_again)
        assert winner.begin() == Started()
        loser.finish(None, nothing_done=True)
        assert StepLog("default").is_open(IdempotencyRecord.objects.get().pk)
        assert winner.finish(CREATED)

    def test_a_late_store_gives_way_to_a_successor(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        loser.fail(ValueError())
        kill(hold)
        winner, _ = an_operation(run_again)
        assert winner.begin() == Started()
        assert loser.finish(StoredResponse(404)) is False
        assert winner.finish(CREATED)
        assert loser.finish(StoredResponse(404)) is False
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_an_attempt_that_never_started_is_no_interruption(self) -> None:
        """A crash between claim and start has done nothing, and everybody can know that."""
        assert DatabaseStore("default").claim(a_claim()) is not None
        operation, _ = an_operation()
        assert operation.begin() == Started()
        assert operation.attempt == 2
        assert operation.finish(CREATED)

    def test_a_lock_lost_before_the_start_starts_nothing(self) -> None:
        """Two have taken the record, one after the other; the later one runs."""
        _, slow_hold = an_operation()
        store = DatabaseStore("default")
        claimed = store.claim(a_claim())
        assert claimed is not None
        assert slow_hold.take(claimed, timedelta(0)) is not None
        kill(slow_hold)
        fast, _ = an_operation()
        assert fast.begin() == Started()
        assert slow_hold.start() is None
        assert fast.finish(CREATED)

    def test_a_lock_lost_while_taking_over_starts_nothing(self, monkeypatch: Any) -> None:
        """Another is faster between the new number's commit and the lock."""
        claimed = DatabaseStore("default").claim(a_claim())
        assert claimed is not None
        _, hold = an_operation()
        assert hold.take(replace(claimed, fresh=False), timedelta(0)) is not None
        rival, _ = an_operation(run_again)
        commit = hold._session.commit

        def overtaken() -> None:
            commit()
            assert rival.begin() == Started()

        monkeypatch.setattr(hold._session, "commit", overtaken)
        assert hold.start() is None
        assert rival.finish(CREATED)

    def test_a_released_attempt_cannot_store_after_its_successor(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        hold.release()
        winner, _ = an_operation(run_again)
        assert winner.begin() == Started()
        assert winner.finish(CREATED)
        with pytest.raises(LostRecord):
            loser.finish(StoredResponse(200))

    def test_of_two_first_starts_one_counts(self, monkeypatch: Any) -> None:
        """The unique index decides, not the look before it."""
        step_log = StepLog("default")
        assert step_log.start(7, 1)
        monkeypatch.setattr(StepLog, "_beginning", lambda self, pk: self._rows().none())
        assert not step_log.start(7, 1)

    def test_one_of_two_takes_an_interruption_over(self) -> None:
        first, _ = an_operation()
        assert first.begin() == Started()
        interrupt_attempt(first)
        second, _ = an_operation(run_again)
        assert second.begin() == Started()
        assert in_thread(lambda: an_operation(run_again)[0].begin()).result() == InFlight()
        assert second.finish(CREATED)


@pytest.mark.django_db(transaction=True)
def test_a_record_that_expires_while_it_is_held_is_left_alone() -> None:
    """I14: by the purge, and by duplicates."""
    store = DatabaseStore("default")
    record = store.claim(replace(a_claim(), retention=timedelta(microseconds=1)))
    assert record is not None
    _, hold = an_operation()
    assert hold.take(record, timedelta(0)) is not None
    assert sum(store.purge(10)) == 0
    assert an_operation()[0].begin() == InFlight()
    hold.release()
    assert sum(store.purge(10)) == 1


@row_locks
@pytest.mark.django_db(transaction=True)
class TestConnections:
    def test_a_request_uses_one_connection_more(self, caller: Caller, after_charge: Any) -> None:
        sessions = []
        after_charge(lambda: sessions.append(sessions_in_use()))
        before = sessions_in_use()
        caller.post("/effects/function/")
        assert sessions[0] - before == 1
        while sessions_in_use() > before:
            """The server may need a moment."""

    def test_more_than_the_limit_are_told_to_come_again(
        self, caller: Caller, after_charge: Any, charges: list[str]
    ) -> None:
        seen = []
        path = "/effects/limited/"
        after_charge(lambda: seen.append(in_thread(lambda: caller.post(path, key="k-2")).result()))
        assert caller.post(path).status_code == 201
        assert (seen[0].status_code, code_of(seen[0])) == (503, "idempotency_store_busy")
        assert seen[0]["Retry-After"] == "1"
        assert charges == ["server"]
        assert caller.post(path, key="k-2").status_code == 201

    def test_a_server_that_takes_no_more_is_busy(self, monkeypatch: Any) -> None:
        connection.ensure_connection()
        monkeypatch.setitem(connections.settings["default"], "PORT", "1")
        assert an_operation()[0].begin() == Unavailable()
        monkeypatch.undo()
        operation, _ = an_operation()
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    def test_a_transaction_that_cannot_begin_gives_its_connection_back(
        self, monkeypatch: Any
    ) -> None:
        def busy(*args: Any) -> None:
            raise Busy

        with monkeypatch.context() as patch:
            patch.setattr(dialect_of(connection), "lift_server_timeouts", busy)
            assert an_operation(limit=1)[0].begin() == Unavailable()
        operation, _ = an_operation(limit=1)
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    def test_they_do_not_come_from_djangos_pool(self, monkeypatch: Any) -> None:
        settings = connections.settings["default"]
        monkeypatch.setitem(settings, "OPTIONS", {**settings["OPTIONS"], "pool": True})
        own = OwnConnections("default")._create().settings_dict
        assert "pool" not in own["OPTIONS"]
        assert own["CONN_MAX_AGE"] == 60

    def test_an_idle_one_serves_the_next_request(self, caller: Caller, monkeypatch: Any) -> None:
        """As long as CONN_MAX_AGE says; one that died meanwhile is replaced."""
        monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
        monkeypatch.setattr(own_connections, "_pools", {})
        pool = own_connections.own_connections("default")
        first = pool.lend(1)
        pool.take_back(first)
        assert pool.lend(1) is first
        pool.take_back(first)
        terminate(first)
        again = pool.lend(1)
        with again.cursor() as cursor:
            cursor.execute("SELECT 1")
        again.close()
        pool.take_back(again)

    def test_an_idle_one_is_closed_at_its_age(self, caller: Caller, monkeypatch: Any) -> None:
        """By any request, as Django closes its own."""
        monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
        monkeypatch.setattr(own_connections, "_pools", {})
        pool = own_connections.own_connections("default")
        old, young = pool.lend(2), pool.lend(2)
        pool.take_back(old)
        pool.take_back(young)
        old.close_at = 0
        caller.get("/plain/")
        assert (old.connection, young.connection is None) == (None, False)
        assert pool.lend(2) is young
        young.close()
        pool.take_back(young)

    @pytest.mark.parametrize("surprise", [RuntimeError, ImproperlyConfigured, KeyboardInterrupt])
    def test_whatever_goes_wrong_their_place_is_given_back(
        self, surprise: type[BaseException]
    ) -> None:
        """Or the process would refuse every request after so many."""

        def fail(**kwargs: Any) -> None:
            raise surprise

        pool = OwnConnections("default")
        connection_created.connect(fail)
        try:
            with pytest.raises(surprise):
                pool.lend(1)
        finally:
            connection_created.disconnect(fail)
        lent = pool.lend(1)
        lent.close()
        pool.take_back(lent)

    def test_one_that_cannot_be_taken_back_gives_its_place_back(self, monkeypatch: Any) -> None:
        def fail() -> None:
            raise RuntimeError

        pool = OwnConnections("default")
        lent = pool.lend(1)
        with monkeypatch.context() as patch:
            patch.setattr(lent, "close_if_unusable_or_obsolete", fail)
            with pytest.raises(RuntimeError):
                pool.take_back(lent)
        assert lent.connection is None
        pool.take_back(pool.lend(1))

    def test_each_database_of_an_alias_has_its_own(self, monkeypatch: Any) -> None:
        """Some projects send an alias to another database while they run."""
        monkeypatch.setattr(own_connections, "_pools", {})
        usual = own_connections.own_connections("default")
        monkeypatch.setitem(connections.settings["default"], "NAME", "another")
        assert own_connections.own_connections("default") is not usual

    def test_a_forked_process_leaves_them_alone(self, caller: Caller, monkeypatch: Any) -> None:
        monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
        monkeypatch.setattr(own_connections, "_pools", {})
        pool = own_connections.own_connections("default")
        idle = pool.lend(1)
        pool.take_back(idle)
        child = os.fork()
        if child == 0:  # pragma: no cover  (coverage does not follow)
            os._exit(own_connections.own_connections("default") is pool)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.lend(1) is idle
        with idle.cursor() as cursor:
            cursor.execute("SELECT 1")
        idle.close()
        pool.take_back(idle)

    def test_the_lock_stands_in_nobodys_way(self, caller: Caller, after_charge: Any) -> None:
        """The view's own statements, other keys, the purge and the reading of records go on."""
        seen = []

        def others() -> None:
            seen.append(in_thread(lambda: caller.post("/effects/function/", key="k-2")).result())
            seen.append(in_thread(lambda: caller.post("/rest/", key="k-3")).result())
            seen.append(list(DatabaseStore("default").purge(10)))
            seen.append(IdempotencyRecord.objects.filter(key="k-1").values("state").get())
            with transaction.atomic():
                Order.objects.create(item="more")

        after_charge(others)
        assert caller.post("/effects/function/").status_code == 201
        assert [each.status_code for each in seen[:2]] == [201, 201]
        assert seen[2:] == [[], {"state": "claimed"}]

    def test_steps_are_removed_with_their_record(self, caller: Caller) -> None:
        caller.post("/effects/function/")
        caller.post("/effects/function/", key="k-2")
        IdempotencyRecord.objects.filter(key="k-1").update(expires_at="2000-01-01T00:00Z")
        kept = IdempotencyRecord.objects.get(key="k-2")
        assert list(DatabaseStore("default").purge(10)) == [1]
        assert [step.record_id for step in IdempotencyStep.objects.all()] == [kept.pk]


def sessions_in_use() -> int:
    sql = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
        "mysql": "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()",
    }
    with connection.cursor() as cursor:
        cursor.execute(sql[connection.vendor])
        return int(cursor.fetchone()[0])
