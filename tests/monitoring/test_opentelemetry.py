"""Outcomes as OpenTelemetry exports them."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.conftest import Caller, row_locks
from tests.support.apps import install
from tests.support.story import PATH, STORY, tell_the_story


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
