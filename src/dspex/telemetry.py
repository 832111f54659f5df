"""OpenTelemetry: a span and a duration for each run. Nothing is paid when nobody listens.

Nobody can listen without having imported the OpenTelemetry API, so this module never imports it first: as long as it is
not there, a run costs one dictionary lookup. Code, values, and names of hosts are never recorded.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex.execution._result import ExecutionResult

_histogram: Any = None


def listening() -> bool:
    """True when the program that uses dspex uses OpenTelemetry as well."""
    return "opentelemetry.trace" in sys.modules or "opentelemetry.metrics" in sys.modules


def record(language: str, result: ExecutionResult, started: int) -> None:
    """Tell of one run that began at `started` (nanoseconds since the epoch)."""
    attributes = _attributes(language, result)
    _record_span(attributes, result, started)
    _record_duration(attributes, result)


def _attributes(language: str, result: ExecutionResult) -> dict[str, Any]:
    return {
        "dspex.language": language,
        "dspex.outcome": result.error.kind if result.error else "ok",
        "dspex.isolation": result.isolation.level,
    }


def _record_span(attributes: dict[str, Any], result: ExecutionResult, started: int) -> None:
    from opentelemetry import trace

    span = trace.get_tracer("dspex").start_span("dspex.execute", start_time=started, attributes=attributes)
    if span.is_recording():
        usage = result.usage
        span.set_attribute("dspex.usage.wall", usage.wall)
        span.set_attribute("dspex.usage.cpu", usage.cpu)
        span.set_attribute("dspex.usage.peak_memory", usage.peak_memory)
        span.set_attribute("dspex.usage.waited", usage.waited)
        if result.network_count:
            refused = sum(attempt.outcome == "refused" for attempt in result.network)
            span.set_attribute("dspex.network.attempts", result.network_count)
            span.set_attribute("dspex.network.refused", refused)
        if result.error is not None:
            span.set_status(trace.StatusCode.ERROR, result.error.kind)
    span.end(time.time_ns())


def _record_duration(attributes: dict[str, Any], result: ExecutionResult) -> None:
    global _histogram
    from opentelemetry import metrics

    if _histogram is None:
        meter = metrics.get_meter("dspex")
        _histogram = (
            meter.create_histogram("dspex.execute.duration", unit="s", description="Wall time of a run"),
            meter.create_histogram("dspex.execute.waited", unit="s", description="Time spent in the queue"),
        )
    _histogram[0].record(result.usage.wall, attributes)
    _histogram[1].record(result.usage.waited, attributes)


class operation:  # noqa: N801  (used as a function is: `with operation("dspex.state.save"):`)
    """A span and a duration around what a store is asked for. Names of modules and states are never recorded."""

    __slots__ = ("_name", "_span", "_started")

    def __init__(self, name: str) -> None:
        self._name = name
        self._span: Any = None

    def __enter__(self) -> None:
        if listening():
            from opentelemetry import trace

            self._started = time.perf_counter()
            self._span = trace.get_tracer("dspex").start_as_current_span(self._name)
            self._span.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._span is not None:
            self._span.__exit__(kind, error, trace)
            outcome = kind.__name__ if kind else "ok"
            _operation_histogram().record(
                time.perf_counter() - self._started, {"dspex.operation": self._name, "dspex.outcome": outcome}
            )


_operations: Any = None


def _operation_histogram() -> Any:
    global _operations
    from opentelemetry import metrics

    if _operations is None:
        meter = metrics.get_meter("dspex")
        _operations = meter.create_histogram("dspex.operation.duration", unit="s", description="Time of an operation")
    return _operations
