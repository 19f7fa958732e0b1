"""Outcomes as Prometheus scrapes them, and as OpenTelemetry exports them."""

import re
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import start_http_server

from django_idempotency.signals import Outcome
from django_idempotency.stores.breaker import breaker_of
from tests.conftest import Caller, in_thread, row_locks
from tests.shop import views
from tests.support.apps import install
from tests.support.outage import no_table

PATH = "/decorated-rest/"
VIEW = "tests.shop.views.DecoratedRestView"
CODES = {"idempotency_in_flight", "idempotency_key_reused", "idempotency_key_invalid"}


def tell_the_story(caller: Caller, settings: Any, monkeypatch: Any) -> None:
    """Every outcome once, as in the demo, and what it does not show."""
    settings.IDEMPOTENCY = {"OUTAGE": "open"}

    def at_next_write(action: Any) -> None:
        def once() -> None:
            monkeypatch.setattr(views, "after_write", views.nothing)
            action()

        monkeypatch.setattr(views, "after_write", once)

    def fail() -> None:
        raise views.Broken

    at_next_write(lambda: in_thread(lambda: caller.post(PATH, {"item": "vm"})).result())
    caller.post(PATH, {"item": "vm"})  # executed, and a conflict while it runs
    caller.post(PATH, {"item": "vm"})
    caller.post(PATH, {"item": "disk"})
    at_next_write(fail)
    caller.post(PATH, key="crash")
    caller.post(PATH, key="crash")
    caller.post(PATH, key="not, a key")
    with no_table():
        caller.post(PATH, key="unprotected")
    breaker_of.cache_clear()


STORY = [
    Outcome.CONFLICT,
    Outcome.EXECUTED,
    Outcome.REPLAYED,
    Outcome.MISMATCH,
    Outcome.INTERRUPTED,
    Outcome.RECOVERED,
    Outcome.REFUSED,
    Outcome.FAILED_OPEN,
]


def test_the_story_has_every_outcome() -> None:
    assert set(STORY) == set(Outcome)


@row_locks
class TestPrometheus:
    @pytest.fixture(autouse=True)
    def installed(self, settings: Any) -> Iterator[None]:
        yield from install(settings, "django_idempotency.contrib.prometheus")

    @pytest.fixture
    def port(self) -> Iterator[int]:
        server, thread = start_http_server(0, "127.0.0.1")
        yield server.server_port
        server.shutdown()
        server.server_close()
        thread.join(30)

    def test_a_scrape_shows_each_outcome(
        self, port: int, caller: Caller, settings: Any, monkeypatch: Any
    ) -> None:
        before = counts(scrape(port))
        tell_the_story(caller, settings, monkeypatch)
        page = scrape(port)
        after = counts(page)
        new = {labels: after[labels] - before.get(labels, 0) for labels in after}
        told = {labels[0]: count for labels, count in new.items() if count}
        assert told == {str(outcome): 1.0 for outcome in STORY}
        assert {labels[1:3] for labels in new} == {("POST", VIEW)}
        assert {labels[3] for labels in new} == {*CODES, "", "idempotency_store_unavailable"}
        for outcome in STORY:
            assert (
                f'django_idempotency_request_duration_seconds_count{{method="POST",outcome="{outcome}"'
                in page
            )

    def test_labels_are_bounded(self, port: int, caller: Caller) -> None:
        """Whatever keys, paths and query strings come: no new time series."""
        caller.post(PATH, key="first")
        before = set(counts(scrape(port)))
        for number in range(5):
            caller.post(f"{PATH}?page={number}", key=f"key-{number}")
        page = scrape(port)
        assert set(counts(page)) == before
        assert "key-" not in page
        assert "page=" not in page


def scrape(port: int) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return page


def counts(page: str) -> dict[tuple[str, ...], float]:
    """Return the counter by outcome, method, view and reason."""
    found = re.findall(r"^django_idempotency_requests_total\{(.*)\} (.*)$", page, re.MULTILINE)
    names = ("outcome", "method", "view", "reason")
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', text)) for text, _ in found]
    assert all(set(each) == set(names) for each in labels)
    return {
        tuple(each[name] for name in names): float(count)
        for each, (_, count) in zip(labels, found, strict=True)
    }


class TestOpenTelemetry:
    @pytest.fixture(autouse=True)
    def installed(self, settings: Any) -> Iterator[None]:
        yield from install(settings, "django_idempotency.contrib.opentelemetry")

    @pytest.fixture
    def spans(self, settings: Any, monkeypatch: Any) -> InMemorySpanExporter:
        """A span around each request, as an instrumentation of Django makes one."""
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("tests")
        post = Caller.post

        def traced(*args: Any, **kwargs: Any) -> Any:
            with tracer.start_as_current_span("request"):
                return post(*args, **kwargs)

        monkeypatch.setattr(Caller, "post", traced)
        return exporter

    @row_locks
    def test_spans_show_each_outcome(
        self, spans: InMemorySpanExporter, caller: Caller, settings: Any, monkeypatch: Any
    ) -> None:
        tell_the_story(caller, settings, monkeypatch)
        finished = spans.get_finished_spans()
        told = [attributes(span)["idempotency.outcome"] for span in finished]
        assert told == [str(outcome) for outcome in STORY]
        assert [event.name for span in finished for event in span.events] == [
            f"idempotency.{outcome}" for outcome in told
        ]

    def test_a_span_says_what_the_event_says(
        self, spans: InMemorySpanExporter, caller: Caller
    ) -> None:
        caller.post(PATH, key="secret-key")
        caller.post(PATH, key="secret, key")
        executed, refused = map(attributes, spans.get_finished_spans())
        assert executed["idempotency.attempt"] == 1
        assert len(str(executed["idempotency.key_digest"])) == 12
        assert "idempotency.reason" not in executed
        assert refused == {
            "idempotency.outcome": "refused",
            "idempotency.attempt": 0,
            "idempotency.reason": "idempotency_key_invalid",
        }
        assert "secret" not in repr(executed) + repr(refused)

    def test_without_a_span_nothing_happens(self, caller: Caller) -> None:
        assert not trace.get_current_span().is_recording()
        assert caller.post(PATH).status_code == 201


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
