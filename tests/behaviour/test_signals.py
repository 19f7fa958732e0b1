"""One signal per outcome, after the fact it tells, and none of it can break a request."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.dispatch import Signal

from django_idempotency import signals
from django_idempotency.conf.policy import Policy
from django_idempotency.guard import guard
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.keys import short_digest
from django_idempotency.protocol.record import State
from django_idempotency.signals import FACTS, SIGNALS, Event, Outcome
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import every_adapter, few_adapters, some_adapters
from tests.support.counting import counted


class Heard:
    """A receiver of every signal."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.senders: list[Any] = []

    def __call__(self, sender: Any, event: Event, request: Any, **kwargs: Any) -> None:
        assert request.method == event.method
        self.events.append(event)
        self.senders.append(sender)

    @property
    def outcomes(self) -> list[str]:
        return [str(event.outcome) for event in self.events]


@pytest.fixture
def heard() -> Iterator[Heard]:
    receiver = Heard()
    for signal in SIGNALS.values():
        signal.connect(receiver)
    yield receiver
    for signal in SIGNALS.values():
        signal.disconnect(receiver)


@every_adapter
def test_each_request_with_a_key_has_one_outcome(
    adapter: str, caller: Caller, heard: Heard
) -> None:
    caller.post(adapter, {"item": "vm"})
    caller.post(adapter, {"item": "vm"})
    caller.post(adapter, {"item": "disk"})
    caller.post(adapter, {"item": "vm"}, key="not, a key")
    caller.post(adapter, {"item": "vm"}, key=None)
    assert heard.outcomes == ["executed", "replayed", "mismatch", "refused"]
    assert [event.status for event in heard.events] == [201, 201, 422, 400]
    assert [event.attempt for event in heard.events] == [1, 0, 0, 0]
    assert [event.reason for event in heard.events] == [
        "",
        "",
        "idempotency_key_reused",
        "idempotency_key_invalid",
    ]


@pytest.mark.once
@some_adapters
def test_what_is_not_stored_is_interrupted_each_time(
    adapter: str, caller: Caller, heard: Heard
) -> None:
    caller.post(adapter, {"outcome": "raise 500"})
    caller.post(adapter, {"outcome": "raise 500"})
    assert heard.outcomes == ["interrupted", "interrupted"]
    assert [event.attempt for event in heard.events] == [1, 2]


@few_adapters
def test_a_hook_that_fails_after_the_commit_interrupts_nothing(
    adapter: str, caller: Caller, heard: Heard, after_write: Any
) -> None:
    """The client gets 500; what is told is what is stored."""

    def fail() -> None:
        raise views.Broken

    after_write(lambda: transaction.on_commit(fail))
    assert caller.post(adapter, {"item": "vm"}).status_code == 500
    assert caller.post(adapter, {"item": "vm"}).status_code == 201
    assert heard.outcomes == ["executed", "replayed"]
    assert [event.status for event in heard.events] == [201, 201]


@few_adapters
def test_an_attempt_after_an_interrupted_one_is_recovered(
    adapter: str, caller: Caller, heard: Heard, monkeypatch: Any
) -> None:
    def fail() -> None:
        raise views.Broken

    with monkeypatch.context() as broken:
        broken.setattr(views, "after_write", fail)
        caller.post(adapter)
    caller.post(adapter)
    assert heard.outcomes == ["interrupted", "recovered"]
    assert [event.attempt for event in heard.events] == [1, 2]


@few_adapters
def test_a_refusal_that_is_raised_is_executed(adapter: str, caller: Caller, heard: Heard) -> None:
    caller.post(adapter, {"outcome": "raise 404"})
    assert [(event.outcome, event.status) for event in heard.events] == [(Outcome.EXECUTED, 404)]


@row_locks
@few_adapters
def test_a_duplicate_in_flight_is_a_conflict(
    adapter: str, caller: Caller, heard: Heard, after_write: Any
) -> None:
    after_write(lambda: in_thread(lambda: caller.post(adapter)).result())
    caller.post(adapter)
    assert heard.outcomes == ["conflict", "executed"]
    assert heard.events[0].reason == "idempotency_in_flight"


@few_adapters
def test_what_is_said_to_be_committed_is_committed(adapter: str, caller: Caller) -> None:
    """Another connection sees the order and the response when ``executed`` is sent."""
    seen: list[tuple[int, str]] = []

    def look(**kwargs: Any) -> None:
        rival = in_thread(lambda: (Order.objects.count(), IdempotencyRecord.objects.get().state))
        seen.append(rival.result())

    signals.executed.connect(look)
    try:
        caller.post(adapter)
    finally:
        signals.executed.disconnect(look)
    assert seen == [(1, State.COMPLETED)]


@pytest.mark.once
class TestReceivers:
    @pytest.fixture
    def broken(self) -> Iterator[list[Signal]]:
        """Receivers that raise after an error in the database."""
        called = []

        def receiver(signal: Signal, **kwargs: Any) -> None:
            called.append(signal)
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM no_such_table")

        for signal in SIGNALS.values():
            signal.connect(receiver)
        yield called
        for signal in SIGNALS.values():
            signal.disconnect(receiver)

    @few_adapters
    def test_one_that_raises_changes_nothing(
        self, adapter: str, caller: Caller, broken: list[Signal], caplog: Any
    ) -> None:
        first = caller.post(adapter, {"item": "vm"})
        retry = caller.post(adapter, {"item": "vm"})
        assert (first.status_code, retry.status_code) == (201, 201)
        assert first.content == retry.content
        assert Order.objects.count() == 1
        assert broken == [signals.executed, signals.replayed]
        assert caplog.text.count("Error calling") == 2

    def test_one_can_listen_to_one_view(
        self, use_middleware: None, caller: Caller, heard: Heard
    ) -> None:
        """``sender`` is the class of a class-based view, or the function in the URLconf."""
        for path in ("/class/", "/rest/", "/viewset/", "/rest-function/", "/function/"):
            caller.post(path)
        *classes, function = heard.senders
        assert classes[:3] == [views.ClassView, views.RestView, views.OrderViewSet]
        assert function is views.function

    @few_adapters
    def test_nobody_who_listens_costs_nothing(
        self, adapter: str, caller: Caller, monkeypatch: Any
    ) -> None:
        """No event is made, no name looked up, no digest computed."""
        logging.getLogger("django_idempotency").setLevel(logging.CRITICAL)
        monkeypatch.setattr(signals, "Event", None)
        monkeypatch.setattr(signals, "short_digest", None)
        try:
            assert [caller.post(adapter).status_code for _ in range(2)] == [201, 201]
        finally:
            logging.getLogger("django_idempotency").setLevel(logging.NOTSET)

    @few_adapters
    def test_those_who_listen_cost_no_statement(
        self, adapter: str, caller: Caller, request: Any
    ) -> None:
        def cost() -> int:
            with counted() as count:
                assert caller.post(adapter).status_code == 201
            return count.statements

        caller.post(adapter)
        silent = cost()
        request.getfixturevalue("heard")
        assert cost() == silent


class TestEvents:
    def test_they_name_the_view_and_the_pattern_not_the_path(
        self, use_middleware: None, caller: Caller, heard: Heard
    ) -> None:
        caller.post("/function/?token=secret", {"item": "vm"}, key="my key is 7".replace(" ", "-"))
        (event,) = heard.events
        assert (event.method, event.view, event.route) == (
            "POST",
            "tests.shop.views.function",
            "function/",
        )
        assert event.policy.header == "Idempotency-Key"
        assert event.duration > 0
        assert len(event.key_digest) == 12
        assert "my-key-is-7" not in repr(event)
        assert "secret" not in repr(event)

    @pytest.mark.once
    @few_adapters
    @pytest.mark.parametrize("outcome", ["", "raise 404", "raise 500", "503"])
    def test_what_the_view_takes_is_not_the_guards(
        self,
        adapter: str,
        caller: Caller,
        heard: Heard,
        after_write: Any,
        monkeypatch: Any,
        outcome: str,
    ) -> None:
        """On a clock that only the view moves on."""
        now = [0.0]
        for module in (guard, signals):
            monkeypatch.setattr(module, "perf_counter", lambda: now[0])

        def work() -> None:
            now[0] += 100

        after_write(work)
        caller.post(adapter, {"outcome": outcome})
        (event,) = heard.events
        assert (event.duration, event.guard_duration) == (100, 0)

    @pytest.mark.once
    @few_adapters
    def test_a_replay_is_all_the_guards(self, adapter: str, caller: Caller, heard: Heard) -> None:
        caller.post(adapter)
        caller.post(adapter)
        replay = heard.events[-1]
        assert replay.guard_duration == replay.duration > 0

    @pytest.mark.once
    @few_adapters
    def test_they_name_the_record_by_digests(
        self, adapter: str, caller: Caller, heard: Heard
    ) -> None:
        caller.post(adapter)
        caller.post(adapter)
        record = IdempotencyRecord.objects.get()
        assert {each.scope_digest for each in heard.events} == {record.scope[:12]}
        assert {each.key_digest for each in heard.events} == {short_digest(record.key)}

    def test_they_are_frozen(self, use_middleware: None, caller: Caller, heard: Heard) -> None:
        caller.post("/function/")
        with pytest.raises(AttributeError):
            heard.events[0].status = 500  # type: ignore[misc]

    def test_without_a_urlconf_the_view_has_no_name(self, rf: Any, heard: Heard) -> None:
        subject = signals.Subject(rf.post("/"), Policy(), "", 0.0)
        signals.report(subject, Outcome.REFUSED)
        assert (heard.events[0].view, heard.events[0].route, heard.senders) == ("", "", [None])


@pytest.mark.once
class TestLog:
    @few_adapters
    def test_lines_carry_the_same_facts(
        self, adapter: str, caller: Caller, heard: Heard, caplog: Any
    ) -> None:
        caplog.set_level(logging.DEBUG, "django_idempotency")
        caller.post(adapter, {"item": "vm"}, key="secret-key")
        caller.post(adapter, {"item": "vm"}, key="secret-key")
        caller.post(adapter, {"item": "disk"}, key="secret-key")
        lines = [each for each in caplog.records if each.name == "django_idempotency"]
        facts = [{name: getattr(line, name) for name in FACTS} for line in lines]
        assert facts == [{name: getattr(each, name) for name in FACTS} for each in heard.events]
        assert [line.levelname for line in lines] == ["DEBUG", "DEBUG", "INFO"]
        text = caplog.text + repr([vars(line) for line in lines])
        assert "secret-key" not in text
        assert "disk" not in text

    @few_adapters
    def test_routine_is_not_logged_at_info(self, adapter: str, caller: Caller, caplog: Any) -> None:
        caplog.set_level(logging.INFO, "django_idempotency")
        caller.post(adapter)
        caller.post(adapter)
        caller.post(adapter, key="k, l")
        lines = [each.getMessage() for each in caplog.records if each.name == "django_idempotency"]
        (line,) = lines
        assert line.startswith("Key -, scope -: refused (400) in ")
        assert line.endswith(
            " ms, idempotency_key_invalid: The value holds a comma: send the "
            "header once, and a key with a comma in quotes."
        )


def test_every_outcome_has_a_signal_of_its_own() -> None:
    assert list(SIGNALS) == list(Outcome)
    assert len({id(signal) for signal in SIGNALS.values()}) == len(Outcome)
    assert {name: getattr(signals, name) for name in Outcome} == SIGNALS
