"""OpenTelemetry: a span and two durations for each run, nothing when nobody listens, never code or values."""

import asyncio
import os
import pathlib
import subprocess
import sys

import pytest

from dspex import CodeExecutor, languages, telemetry

trace = pytest.importorskip("opentelemetry.trace")
metrics = pytest.importorskip("opentelemetry.metrics")
sdk_trace = pytest.importorskip("opentelemetry.sdk.trace")
sdk_metrics = pytest.importorskip("opentelemetry.sdk.metrics")

SECRET = "s3cret-value"


@pytest.fixture(scope="module")
def listener():
    """A real tracer and meter provider that keep in memory what they are told."""
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = sdk_trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(sdk_metrics.MeterProvider([reader]))
    yield spans, reader
    provider.shutdown()


@pytest.fixture
def spans(listener):
    listener[0].clear()
    return listener[0].get_finished_spans


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


def outcomes(found):
    return [span.attributes["dspex.outcome"] for span in found]


def test_every_way_to_run_makes_a_span(spans, executor):
    """`execute`, `aexecute`, `submit`, `map` and a session each make one span for each run."""
    executor.execute("1")
    asyncio.run(executor.aexecute("1"))
    executor.submit("1").result()
    list(executor.map(["1"] * 3))
    with executor.session() as session:
        session.execute("1")
        asyncio.run(session.aexecute("1"))
    assert outcomes(spans()) == ["ok"] * 8


def test_span_tells_language_outcome_isolation_and_usage(spans, executor):
    """The attributes say what ran, how it ended, behind which walls and what it used."""
    result = executor.execute("import time\ntime.sleep(0.05)")
    (span,) = spans()
    assert span.name == "dspex.execute"
    assert span.attributes["dspex.language"] == "python"
    assert span.attributes["dspex.isolation"] == result.isolation.level
    assert span.attributes["dspex.usage.wall"] == result.usage.wall
    assert span.attributes["dspex.usage.waited"] == result.usage.waited
    assert span.end_time - span.start_time >= 50_000_000


@pytest.mark.parametrize(
    ("code", "kind"),
    [("1 / 0", "runtime"), ("(", "syntax"), ("while 1: pass", "timeout"), ("import os; os._exit(1)", "killed")],
)
def test_failed_program_is_a_span_with_its_kind(spans, executor, code, kind):
    """The outcome is the kind of the error, and the span's status is an error."""
    executor.execute(code, timeout=0.3)
    (span,) = spans()
    assert outcomes([span]) == [kind]
    assert span.status.status_code is trace.StatusCode.ERROR


def test_code_and_values_are_never_recorded(spans, executor):
    """Nothing of the program, its variables, output or message is in a span."""
    executor.execute(f"print('{SECRET}')\nraise ValueError('{SECRET}' + x)", {"x": SECRET})
    executor.execute(f"'{SECRET}'")
    for span in spans():
        assert SECRET not in span.to_json()


def test_span_is_a_child_of_the_callers(spans, executor):
    """A run belongs to whatever span the caller is in."""
    with trace.get_tracer("caller").start_as_current_span("outer") as outer:
        executor.execute("1")
    inner = next(span for span in spans() if span.name == "dspex.execute")
    assert inner.parent.span_id == outer.get_span_context().span_id


def test_durations_are_histograms_by_outcome(listener, executor):
    """Run time and waiting time are two histograms with few attributes."""
    executor.execute("1")
    data = listener[1].get_metrics_data()
    found = {metric.name: metric for scope in data.resource_metrics[0].scope_metrics for metric in scope.metrics}
    assert {"dspex.execute.duration", "dspex.execute.waited"} <= set(found)
    for point in found["dspex.execute.duration"].data.data_points:
        assert set(point.attributes) == {"dspex.language", "dspex.outcome", "dspex.isolation"}
        assert point.count >= 1


def test_listening_is_true_here():
    """A process that has imported the API is one that may listen."""
    assert telemetry.listening()


def test_nothing_is_imported_when_nobody_listens():
    """A program without OpenTelemetry runs programs without it being imported."""
    code = (
        "import sys\nfrom dspex import CodeExecutor\n"
        "with CodeExecutor(max_concurrency=1) as executor:\n    executor.execute('1')\n    list(executor.map(['1']))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    source = str(pathlib.Path(languages.__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert ran.stdout == "[]\n", ran.stderr


def test_a_network_is_counted_and_not_named(spans):
    """A span tells how much was tried on the network, and neither where nor why."""
    from dspex import ExecutionResult, IsolationReport, Usage
    from dspex._network._log import Attempt

    attempts = tuple(
        Attempt(0.0, "name", "api.internal", "", 53, outcome, SECRET) for outcome in ("allowed", "refused")
    )
    report = IsolationReport("namespaces", ())
    result = ExecutionResult(usage=Usage(), isolation=report, network=attempts, network_count=5)
    telemetry.record("python", result, 1)
    [span] = spans()
    assert (span.attributes["dspex.network.attempts"], span.attributes["dspex.network.refused"]) == (5, 1)
    assert "api.internal" not in span.to_json()
    assert SECRET not in span.to_json()
