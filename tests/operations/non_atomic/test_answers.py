"""Non-atomic mode: the view owns its transactions; interrupted attempts are known unknowns."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.http import HttpResponse
from django.test import TestCase
from rest_framework.views import exception_handler

from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from tests.conftest import Caller, in_thread
from tests.shop import effects
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE, effect_adapters, few_effect_adapters
from tests.support.interruptions import interrupt
from tests.support.problems import code_of

GONE = {"outcome": "raise 404"}


def slow_exception_handler(error: Any, context: Any) -> Any:
    effects.handling(context["request"].path)  # type: ignore[attr-defined]
    return exception_handler(error, context)


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
