"""Outcomes as OpenTelemetry exports them."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from django_idempotency.contrib.figures import MEANINGS, figures
from django_idempotency.contrib.opentelemetry.metrics import NAMES
from django_idempotency.contrib.series import BUCKETS
from tests.conftest import Caller, row_locks
from tests.support.apps import install
from tests.support.story import CODES, PATH, STORY, tell_the_story


@pytest.fixture(autouse=True)
def installed(settings: Any) -> Iterator[None]:
    yield from install(settings, "django_idempotency.contrib.opentelemetry")


@pytest.fixture(scope="session")
def reader() -> InMemoryMetricReader:
    """Of the only provider that a process may set."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


Series = tuple[tuple[str, Any], ...]


def read(reader: InMemoryMetricReader, name: str) -> dict[Series, Any]:
    """Export, and return the points of one instrument by their attributes."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        tuple(sorted(point.attributes.items())): point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


def counts(reader: InMemoryMetricReader) -> dict[Series, float]:
    return {key: point.value for key, point in read(reader, "idempotency.requests").items()}


class TestMetrics:
    @row_locks
    def test_each_outcome_is_counted_where_its_zero_was(
        self, reader: InMemoryMetricReader, caller: Caller, settings: Any, monkeypatch: Any
    ) -> None:
        caller.get("/decorated-rest/")  # the first request of the process
        before = counts(reader)
        tell_the_story(caller, settings, monkeypatch)
        after = counts(reader)
        assert set(after) == set(before), "a series that comes with its event has not risen"
        risen = {key: after[key] - before[key] for key in after if after[key] != before[key]}
        assert sorted(dict(key)["idempotency.outcome"] for key in risen) == sorted(map(str, STORY))
        assert set(risen.values()) == {1}
        assert {dict(key)["http.route"] for key in risen} == {PATH.lstrip("/")}
        assert {dict(key)["http.request.method"] for key in risen} == {"POST"}
        assert {dict(key).get("error.type") for key in risen} == {None, *CODES}

    def test_what_the_guard_adds_has_buckets_that_fit(
        self, reader: InMemoryMetricReader, caller: Caller
    ) -> None:
        caller.post(PATH)
        point = read(reader, "idempotency.guard.duration")[(("idempotency.outcome", "executed"),)]
        assert point.explicit_bounds == BUCKETS
        assert point.count >= 1

    def test_a_point_names_a_trace_as_its_example(
        self, reader: InMemoryMetricReader, caller: Caller
    ) -> None:
        tracer = TracerProvider().get_tracer("tests")
        with tracer.start_as_current_span("request") as span:
            caller.post(PATH)
        point = read(reader, "idempotency.guard.duration")[(("idempotency.outcome", "executed"),)]
        traces = {exemplar.trace_id for exemplar in point.exemplars}
        assert span.get_span_context().trace_id in traces

    def test_figures_are_gauges(self, reader: InMemoryMetricReader, caller: Caller) -> None:
        figures.forget()
        where = ("idempotency.database", "default")
        assert read(reader, "idempotency.expired_records")[(where,)].value == 0
        up = read(reader, "idempotency.collector.up")
        assert up[(("idempotency.collector", "records"), where)].value == 1

    @pytest.mark.once
    def test_every_figure_has_its_name_and_unit(self) -> None:
        assert set(NAMES) == set(MEANINGS)
        assert all((unit == "s") == name.endswith("_seconds") for name, (_, unit) in NAMES.items())


class TestSpans:
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
        assert len(str(executed["idempotency.scope_digest"])) == 12
        assert "idempotency.reason" not in executed
        assert refused.pop("idempotency.guard.duration") >= 0
        assert "a comma" in refused.pop("idempotency.cause")
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
