"""A view says that nothing was done: the key is free, and what it wrote stays."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.http import HttpResponse
from django.test import TestCase

from django_idempotency.effects import after_commit
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.guard.status import NO_KEY
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.base import InFlight, Retry, Started
from django_idempotency.protocol.record import State
from django_idempotency.signals import SIGNALS, Event
from django_idempotency.test import crash, lost_response
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import views
from tests.shop.models import Coupon, Order
from tests.support import effects
from tests.support.adapters import MIDDLEWARE, every_adapter, few_adapters
from tests.support.counting import claim_lock_and_store, counted
from tests.support.operations import an_operation
from tests.support.redis_server import RedisServer
from tests.support.waiters import until_somebody_waits

INVALID = {"item": "invalid", "outcome": views.NOT_DONE}
FIXED = {"item": "fixed"}


@pytest.fixture
def outcomes() -> Iterator[list[str]]:
    heard: list[str] = []

    def note(event: Event, **kwargs: Any) -> None:
        heard.append(str(event.outcome))

    for signal in SIGNALS.values():
        signal.connect(note)
    yield heard
    for signal in SIGNALS.values():
        signal.disconnect(note)


def items() -> list[str]:
    return list(Order.objects.order_by("pk").values_list("item", flat=True))


@every_adapter
class TestTheKeyIsFree:
    def test_another_body_runs_and_replays(
        self, adapter: str, caller: Caller, outcomes: list[str]
    ) -> None:
        """An invalid form and the corrected one have the key of their page."""
        assert caller.post(adapter, INVALID).status_code == 200
        assert not IdempotencyRecord.objects.exists()
        first, replay = caller.post(adapter, FIXED), caller.post(adapter, FIXED)
        assert (first.status_code, replay.content) == (201, first.content)
        assert replay["Idempotency-Replayed"] == "true"
        assert caller.post(adapter, INVALID).status_code == 422
        assert outcomes == ["not_done", "executed", "replayed", "mismatch"]

    def test_what_the_view_wrote_stays(self, adapter: str, caller: Caller) -> None:
        """I2: as without a key. Nobody switches a lockout or an audit row off by sending one."""
        caller.post(adapter, INVALID)
        caller.post(adapter, INVALID)
        assert items() == ["invalid", "invalid"]

    def test_a_crash_before_the_commit_leaves_the_claim(
        self, adapter: str, caller: Caller, outcomes: list[str]
    ) -> None:
        """The same body runs; for another one the key is not free yet."""
        with crash():
            caller.post(adapter, INVALID)
        assert IdempotencyRecord.objects.get().state == State.CLAIMED
        assert caller.post(adapter, FIXED).status_code == 422
        assert caller.post(adapter, INVALID).status_code == 200
        assert caller.post(adapter, FIXED).status_code == 201
        assert items() == ["invalid", "fixed"]
        assert outcomes[-2:] == ["not_done", "executed"]

    def test_the_status_header_says_so(self, adapter: str, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STATUS_HEADER": "Idempotency-Status"}
        assert caller.post(adapter, INVALID)["Idempotency-Status"] == "not-done"

    def test_it_costs_what_a_stored_response_costs(
        self, adapter: str, caller: Caller, kept_claim_connections: None
    ) -> None:
        """A DELETE in place of the UPDATE."""
        counts = {}
        for key, data in ((None, FIXED), ("k", FIXED), ("l", INVALID)):
            caller.post(adapter, data, key=key and f"warm-{key}")
            with counted() as counts[key]:
                caller.post(adapter, data, key=key)
        assert counts["l"].statements - counts[None].statements == claim_lock_and_store()
        # On MariaDB the DELETE does not travel with the COMMIT of Django's block: that the
        # transaction has ended meanwhile would be known too late to send the answer all the same.
        more = connection.vendor == "mysql" and connection.settings_dict["ATOMIC_REQUESTS"]
        assert counts["l"].control - counts["k"].control <= more


@few_adapters
class TestLosses:
    """The answer is true without the view's writes, so it is sent, and the key is free."""

    def test_an_error_of_the_server_leaves_nothing(
        self, adapter: str, caller: Caller, monkeypatch: Any
    ) -> None:
        """I2."""
        monkeypatch.setattr(views, "status_of", lambda outcome: 503 if outcome else 201)
        monkeypatch.setattr("tests.shop.async_views.views.status_of", views.status_of)
        assert caller.post(adapter, INVALID).status_code == 503
        assert items() == []
        assert caller.post(adapter, FIXED).status_code == 201

    def test_writes_that_the_view_has_undone_itself(
        self, adapter: str, caller: Caller, after_write: Callable[[Any], None]
    ) -> None:
        after_write(lambda: transaction.set_rollback(True))
        assert caller.post(adapter, INVALID).status_code == 200
        assert caller.post(adapter, FIXED).status_code == 201
        assert items() == ["fixed"]

    def test_writes_that_an_error_has_undone(
        self, adapter: str, caller: Caller, after_write: Callable[[Any], None], caplog: Any
    ) -> None:
        """A form's save() fails, and the view shows what it says. On PostgreSQL an error is the end
        of the transaction; the same with any atomic(savepoint=False)."""
        Coupon.objects.create(code="taken")

        def save() -> None:
            try:
                with transaction.atomic(savepoint=False):
                    Coupon.objects.create(code="taken")
            except IntegrityError:
                return

        after_write(save)
        assert caller.post(adapter, INVALID).status_code == 200
        assert caller.post(adapter, FIXED).status_code == 201
        assert items() == ["fixed"]
        assert "what the view wrote for a refusal is lost" in caplog.text

    def test_a_record_that_is_gone(
        self, adapter: str, caller: Caller, after_write: Callable[[Any], None]
    ) -> None:
        """I12: whoever has lost the record commits nothing."""
        after_write(lambda: IdempotencyRecord.objects.all().delete())
        assert caller.post(adapter, INVALID).status_code == 500
        assert items() == []

    def test_a_hook_that_fails_after_the_commit(
        self, adapter: str, caller: Caller, after_write: Any, outcomes: list[str]
    ) -> None:
        def fail() -> None:
            raise views.Broken

        after_write(lambda: transaction.on_commit(fail))
        assert caller.post(adapter, INVALID).status_code == 500
        assert caller.post(adapter, FIXED).status_code == 201
        assert (items(), outcomes) == (["invalid", "fixed"], ["not_done", "executed"])


@few_adapters
class TestEffects:
    """They belong to the view's writes (I19)."""

    @pytest.fixture(autouse=True)
    def _the_world(self) -> Iterator[None]:
        effects.reset()
        yield
        effects.reset()

    def test_they_run_each_time_under_a_key_of_their_own(
        self, adapter: str, caller: Caller, after_write: Callable[[Any], None]
    ) -> None:
        for _ in range(2):
            after_write(lambda: after_commit(effects.send))
            assert caller.post(adapter, INVALID).status_code == 200
        assert effects.sent == ["mail", "mail"]
        assert len(set(effects.keys)) == 2
        rows = IdempotencyEffect.objects.values_list("state", "record_id")
        assert list(rows) == [("done", None)] * 2


@row_locks
@few_adapters
class TestDuplicates:
    def test_one_that_waits_claims_anew_and_runs(
        self, adapter: str, caller: Caller, settings: Any, after_write: Any, outcomes: list[str]
    ) -> None:
        """I4: woken by the end of the record."""
        settings.IDEMPOTENCY = {"IN_FLIGHT": "wait"}
        rivals = []

        def duplicate() -> None:
            rivals.append(in_thread(lambda: caller.post(adapter, INVALID)))
            until_somebody_waits()

        after_write(duplicate)
        assert caller.post(adapter, INVALID).status_code == 200
        second = rivals[0].result()
        assert second.status_code == 200
        assert "Idempotency-Replayed" not in second
        assert items() == ["invalid", "invalid"]
        assert outcomes == ["not_done", "not_done"]
        assert not IdempotencyRecord.objects.exists()

    def test_one_that_does_not_wait_is_told_that_it_is_in_flight(
        self, adapter: str, caller: Caller, after_write: Any
    ) -> None:
        seen = []

        def duplicates() -> None:
            for data in (INVALID, FIXED):
                seen.append(in_thread(lambda: caller.post(adapter, data)).result().status_code)  # noqa: B023

        after_write(duplicates)
        assert caller.post(adapter, INVALID).status_code == 200
        assert seen == [409, 422]
        assert caller.post(adapter, FIXED).status_code == 201


@pytest.mark.usefixtures("transactional_db")
class TestRaces:
    """A record vanishes between a duplicate's claim and its lock."""

    def test_the_duplicate_claims_anew(self) -> None:
        first, second = an_operation(), an_operation()
        assert first.begin() == Started()
        found = in_thread(lambda: second._store.claim(second._claim)).result()
        assert first.withdraw(keeps_writes=True)
        # SQLite's only lock tells it. Elsewhere the record was in flight when the claim saw it.
        expected = Retry() if connection.vendor == "sqlite" else InFlight()
        assert second._proceed(found) == expected
        assert second.begin() == Started()
        assert second.withdraw(keeps_writes=True)

    @pytest.mark.parametrize("changed", [{"attempt": 2}, {"key": "other"}, {"scope": "other"}])
    def test_only_its_own_record_goes(self, changed: dict[str, Any]) -> None:
        """I12: the statement itself compares, whatever else has failed before."""
        operation = an_operation()
        assert operation.begin() == Started()
        assert not operation._store.withdraw(operation._record._replace(**changed))
        assert operation.withdraw(keeps_writes=True)


@pytest.mark.once
class TestStores:
    @pytest.mark.parametrize("store", ["cache", "cached_db"])
    def test_in_redis(self, store: str, redis: RedisServer, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE": store, "CACHE": "redis"}
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        self._check(caller)

    def test_in_local_memory(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "default"}
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
        self._check(caller)

    def _check(self, caller: Caller) -> None:
        for _ in range(2):
            assert caller.post("/function/", INVALID).status_code == 200
        first, replay = (caller.post("/function/", FIXED) for _ in range(2))
        assert replay["Idempotency-Replayed"] == "true"
        assert replay.content == first.content
        assert caller.post("/function/", INVALID).status_code == 422
        assert items() == ["invalid", "invalid", "fixed"]


class TestTheResponse:
    def test_it_is_the_same_object(self) -> None:
        response = HttpResponse()
        assert an_operation().not_done(response) is response
        assert NO_KEY.not_done(response) is response

    def test_an_exception_is_none(self) -> None:
        with pytest.raises(TypeError, match="do_not_remember"):
            an_operation().not_done(ValidationError("wrong"))  # type: ignore[type-var]

    @few_adapters
    def test_a_lost_one_was_not_stored(self, adapter: str, caller: Caller) -> None:
        with pytest.raises(AssertionError, match=r"called not_done\(\)"), lost_response():
            caller.post(adapter, INVALID)


class TestInATestCase(TestCase):
    """Everything runs in one transaction, which is rolled back."""

    def test_another_body_runs(self) -> None:
        caller = Caller("ada.lovelace")
        path = "/decorated-rest/"
        assert [caller.post(path, data).status_code for data in (INVALID, FIXED, FIXED)] == [
            200,
            201,
            201,
        ]
        assert items() == ["invalid", "fixed"]
