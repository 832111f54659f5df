"""What a module is: construction, calls, callbacks, batches, model settings."""

import asyncio
import contextvars
import threading
import time

import pytest

from dspex import Example, Module, Parameter, Predictor
from dspex.errors import BatchError, UsageError
from programs import Answer, echo


class Forgetful(Module):
    """A subclass that never calls `super().__init__()`."""

    def __init__(self, extra):
        self.extra = extra

    def forward(self, x):
        return x + self.extra


def test_a_subclass_may_forget_the_constructor():
    """All that a module needs is there before `__init__`."""
    module = Forgetful(1)
    assert module(2) == 3
    assert (module.callbacks, module.history, module._compiled) == ([], [], False)
    assert Forgetful(1).callbacks is not module.callbacks


def test_every_module_says_what_it_is():
    """`module_id` is the class, if not set; `version` and `metadata` have values that nobody can share by accident."""
    assert Forgetful(1).module_id == f"{__name__}:Forgetful"
    module = Module()
    assert module.module_id == "dspex.modules._module:Module"
    assert (module.version, dict(module.metadata)) == ("0", {})
    with pytest.raises(TypeError):
        module.metadata["a"] = 1
    module.module_id, module.version, module.metadata = "search", "1.2", {"by": "me"}
    assert module.dump_state()["metadata"]["dspex"]["module_id"] == "search"

    class Named(Module):
        module_id = "named"

    assert Named().module_id == "named"
    assert Module().module_id == "dspex.modules._module:Module"


def test_a_program_runs():
    """`forward` calls parts, which call functions."""
    answer = Answer()(question="q").answer
    assert answer.startswith("answer of [('query', ")


def test_acall_awaits_aforward_or_runs_forward_in_a_thread():
    """The loop goes on in either case, and context variables are seen."""
    place = contextvars.ContextVar("place")
    place.set("here")

    class Sync(Module):
        def forward(self, x):
            return threading.current_thread() is threading.main_thread(), place.get(), x

    class Async(Sync):
        async def aforward(self, x):
            return "async", x

    assert asyncio.run(Async().acall(1)) == ("async", 1)
    context = contextvars.copy_context()
    assert context.run(asyncio.run, Sync().acall(x=1)) == (False, "here", 1)


class Log:
    """A callback that notes what it is told."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def on_module_start(self, call_id, instance, inputs):
        self.notes.append((self.name, "start", call_id, inputs))

    def on_module_end(self, call_id, outputs, exception=None):
        self.notes.append((self.name, "end", call_id, outputs, exception))


def test_callbacks_are_called_in_order():
    """All starts, in the order of the list, then the call, then all ends; with DSPy's arguments."""
    notes = []
    module = Forgetful(1)
    module.callbacks = [Log("a", notes), Log("b", notes), object()]
    assert module(x=2) == 3
    assert asyncio.run(module.acall(x=2)) == 3
    first, again = notes[:4], notes[4:]
    assert [note[:2] for note in first] == [("a", "start"), ("b", "start"), ("a", "end"), ("b", "end")]
    assert len({note[2] for note in first}) == 1
    assert first[0][3] == {"args": (), "kwargs": {"x": 2}}
    assert first[2][3:] == (3, None)
    assert [note[:2] for note in again] == [note[:2] for note in first]
    assert again[0][2] != first[0][2]


def test_callbacks_hear_of_failures_and_their_own_harm_nothing(caplog):
    """A call that fails ends with its exception; a callback that fails is told to the log."""

    class Broken(Log):
        def on_module_start(self, **_):
            raise RuntimeError("callback")

    notes = []
    module = Forgetful("text")
    module.callbacks = [Broken("a", notes)]
    with pytest.raises(TypeError) as caught:
        module(1)
    assert notes[-1][3:] == (None, caught.value)
    assert "RuntimeError: callback" in caplog.text


def test_a_span_is_recorded_when_somebody_listens():
    """One span for each call, nested as the calls are, without inputs."""
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    from opentelemetry import trace as api
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = api.get_tracer_provider()
    if not isinstance(provider, trace.TracerProvider):
        provider = trace.TracerProvider()
        api.set_tracer_provider(provider)
    exporter = export.InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Answer()(question="secret")
    spans = [span for span in exporter.get_finished_spans() if span.name == "dspex.module"]
    assert [span.attributes["dspex.module"].rpartition(".")[2] for span in spans] == [
        "Predictor",
        "Predictor",
        "Answer",
    ]
    assert spans[0].parent.span_id == spans[2].context.span_id
    assert "secret" not in str([span.to_json() for span in spans])


def test_batch_gives_results_in_order():
    """Examples by their inputs, mappings whole, in threads and in the loop."""

    class Slow(Module):
        def forward(self, n):
            time.sleep(0.02 if n == 0 else 0)
            return n * 10

    examples = [Example(n=n, label="x").with_inputs("n") for n in range(5)] + [{"n": 5}]
    assert Slow().batch(examples, num_threads=3) == [0, 10, 20, 30, 40, 50]
    assert asyncio.run(Slow().abatch(examples)) == [0, 10, 20, 30, 40, 50]


def test_batch_is_given_up_at_the_failure_that_was_named():
    """DSPy's `max_errors`: at the third failure with 3; results and failures are handed over when they are wanted."""

    class Odd(Module):
        def forward(self, n):
            if n % 2:
                raise ValueError(n)
            return n

    items = [{"n": n} for n in range(6)]
    with pytest.raises(BatchError):
        Odd().batch(items, max_errors=3, num_threads=1)
    assert Odd().batch(items, max_errors=4, num_threads=1) == [0, None, 2, None, 4, None]
    results, failed, errors = Odd().batch(items, return_failed_examples=True, timeout=0)
    assert results == [0, None, 2, None, 4, None]
    assert failed == [{"n": 1}, {"n": 3}, {"n": 5}]
    assert [str(error) for error in errors] == ["1", "3", "5"]


def test_model_settings_are_set_and_found():
    """`set_lm` reaches every predictor; `get_lm` gives the one that all have."""
    program = Answer()
    program.set_lm({"model": "m"})
    assert program.get_lm() == {"model": "m"}
    program.search.lm = {"model": "other"}
    with pytest.raises(UsageError):
        program.get_lm()
    with pytest.raises(ValueError):
        Module().get_lm()


def test_predictors_are_the_parameters_that_can_be_called():
    """A plain parameter is none."""
    module = Module()
    module.p, module.q = Predictor("a -> b", call=echo), Parameter(1)
    assert module.named_predictors() == [("p", module.p)]
    assert module.predictors() == [module.p]
    assert repr(module) == "p = Predictor('a -> b')"
    assert repr(Module()) == "Module()"
