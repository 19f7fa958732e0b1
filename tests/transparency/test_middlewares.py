"""I15: other middlewares, signals and logs see what they saw before."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import signals

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.adapters import (
    MIDDLEWARE,
    Adapter,
    each_once,
    every_adapter_with,
    few_adapters,
    usual_and_whole,
)
from tests.transparency.project import MARKER, OUTCOMES, handled, install, own_adapters, seen, taken

RENDERED = [
    Adapter(path, True, atomic_requests)
    for path in (
        "/template-function/",
        "/decorated-template-function/",
        "/rest/",
        "/decorated-rest/",
        "/decorated-create/",
        "/decorated-rest-function/",
    )
    for atomic_requests in (False, True)
]


@pytest.mark.once
class TestOtherMiddlewares:
    @every_adapter_with("outcome", OUTCOMES)
    def test_see_the_same(self, adapter: str, outcome: str, caller: Caller, settings: Any) -> None:
        """The key is the only difference; for the bare view see the next test."""
        install(settings, "Outer", "Inner")
        caller.post(adapter, {"outcome": outcome}, key=None)
        without_key = taken()
        caller.post(adapter, {"outcome": outcome})
        assert without_key[0] == ("Outer", "request")
        assert taken() == without_key

    @few_adapters
    def test_see_what_they_see_without_the_package(
        self, adapter: str, caller: Caller, settings: Any, bare: Any
    ) -> None:
        install(settings, "Outer", "Inner")
        for outcome in OUTCOMES:
            bare(adapter, {"outcome": outcome})
            expected = taken()
            caller.post(adapter, {"outcome": outcome}, key=f"k-{outcome}".replace(" ", "-"))
            assert taken() == expected

    @few_adapters
    @pytest.mark.parametrize("name", ["Broken", "Http404"])
    def test_may_answer_for_an_exception(
        self, adapter: str, name: str, caller: Caller, settings: Any
    ) -> None:
        """I2: the answer is a result, the writes are undone."""
        install(settings, "Outer", "Converter")
        outcome = {"outcome": {"Broken": "raise 500", "Http404": "raise 404"}[name]}
        first, retry = caller.post(adapter, outcome), caller.post(adapter, outcome)
        if name == "Broken" or "function" in adapter:  # DRF answers itself for a 404
            assert (first.status_code, first.json()) == (418, {"sorry": name})
        assert (retry.status_code, retry.content) == (first.status_code, first.content)
        assert ("Outer", "exception", name) not in seen
        # What becomes of an exception that leaves the view, only the middleware can see.
        seen_by_us = MIDDLEWARE in settings.MIDDLEWARE or first.status_code == 404
        assert (MARKER in retry) == seen_by_us
        assert not Order.objects.exists()

    @pytest.mark.parametrize(
        "adapter",
        usual_and_whole(each_once(RENDERED, lambda adapter: adapter.path), RENDERED),
        ids=str,
        indirect=True,
    )
    def test_may_change_what_is_rendered(self, adapter: str, caller: Caller, settings: Any) -> None:
        install(settings, "Outer", "Annotator")
        first, retry = caller.post(adapter), caller.post(adapter)
        assert b"(checked)" in first.content
        assert (retry.content, retry[MARKER]) == (first.content, "true")
        # They see replays, too, and change nothing then; but Django renders no answer that
        # comes before a function view.
        times = 1 if adapter == "/template-function/" else 2
        hooks = [name for name, event, *_ in seen if event == "template response"]
        assert hooks == ["Annotator", "Outer"] * times


@pytest.fixture
def events(caplog: Any) -> Iterator[Callable[[], list[Any]]]:
    """Signals and log lines of requests, in order."""
    named = {
        "started": signals.request_started,
        "finished": signals.request_finished,
        "exception": signals.got_request_exception,
    }

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.name, record.levelname, record.exc_info and record.exc_info[0]))

    def receiver(name: str) -> Callable[..., None]:
        return lambda **kwargs: seen.append(name)

    lines, receivers = Lines(), {name: receiver(name) for name in named}
    for name, signal in named.items():
        signal.connect(receivers[name])
    logging.getLogger("django").addHandler(lines)
    yield taken
    logging.getLogger("django").removeHandler(lines)
    for name, signal in named.items():
        signal.disconnect(receivers[name])


@pytest.mark.once
@few_adapters
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_signals_and_log_lines_are_the_same(
    adapter: str, outcome: str, caller: Caller, bare: Any, events: Any
) -> None:
    bare(adapter, {"outcome": outcome})
    expected = events()
    caller.post(adapter, {"outcome": outcome})
    assert expected[0] == "started"
    assert events() == expected


@pytest.mark.once
@own_adapters
@pytest.mark.parametrize("name", ["missing", "forbidden"])
def test_refusals_are_logged_once(
    adapter: str, name: str, caller: Caller, bare: Any, events: Any
) -> None:
    bare(adapter + name)
    expected = events()
    caller.post(adapter + name)
    assert events() == expected


@pytest.mark.once
@own_adapters
def test_handler404_answers(adapter: str, caller: Caller) -> None:
    first, retry = caller.post(f"{adapter}missing"), caller.post(f"{adapter}missing")
    assert (first.status_code, retry.status_code, retry[MARKER]) == (404, 404, "true")
    assert retry.content == first.content
    if "drf" not in adapter:
        assert first.content == b"Not here: no such plan"
        assert len(handled) == 1


def test_a_path_that_leads_nowhere(use_middleware: None, caller: Caller) -> None:
    for _ in range(2):
        response = caller.post("/nowhere/")
        assert (response.status_code, MARKER in response) == (404, False)
    assert not IdempotencyRecord.objects.exists()
