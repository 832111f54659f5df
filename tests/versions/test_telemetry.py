"""Spans and durations of what a manager is asked for; names and states are in none."""

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dspex import telemetry
from dspex.errors import NotFoundError
from dspex.versions import StateManager


@pytest.fixture
def listening(monkeypatch):
    """Spans and metrics of this test alone."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, metering = TracerProvider(), MeterProvider([reader])
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer", tracing.get_tracer)
    monkeypatch.setattr(metrics, "get_meter", metering.get_meter)
    monkeypatch.setattr(telemetry, "_operations", None)
    return spans, reader


def test_operations_are_spans_and_durations(listening):
    """A save, a load, a load that failed, a scrub: each is a span and counts in the histogram, by its outcome."""
    spans, reader = listening
    with StateManager("memory://") as states:
        states.save_state("secret-name", {"secret": "state"})
        states.load_state("secret-name")
        states.verify()
        states.compact()
        states.sync("memory://")
        with pytest.raises(NotFoundError):
            states.load_state("secret-other")
    found = spans.get_finished_spans()
    names = {f"dspex.state.{name}" for name in ("save", "load", "verify", "compact", "sync")}
    assert {span.name for span in found} == names
    assert not any("secret" in span.to_json() for span in found if span.status.is_ok)
    (histogram,) = [
        metric
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "dspex.operation.duration"
    ]
    outcomes = {
        (point.attributes["dspex.operation"], point.attributes["dspex.outcome"]): point.count
        for point in histogram.data.data_points
    }
    assert outcomes[("dspex.state.load", "ok")] >= 1
    assert outcomes[("dspex.state.load", "NotFoundError")] == 1
