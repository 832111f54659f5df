"""Programs made of programs."""

import asyncio
import threading

import pytest

from dspex import Ensemble, Fallback, Module, Parallel, Prediction, Predictor, Sequence
from dspex.errors import BatchError, UsageError
from programs import echo


def call(module, *args, sync=True, **inputs):
    """Both ways of calling as one."""
    return module(*args, **inputs) if sync else asyncio.run(module.acall(*args, **inputs))


class Upper(Module):
    def forward(self, text):
        return {"text": text.upper()}


class AsyncUpper(Module):
    async def aforward(self, text):
        return {"text": text.upper() + "!"}


def fails(**_):
    raise ValueError("no")


both = pytest.mark.parametrize("sync", [True, False])


@both
def test_a_sequence_hands_on_what_came(sync):
    """Fields by name, anything else as the one argument."""
    chain = Sequence(lambda a: Prediction(b=a + 1), lambda b: {"c": b * 2}, lambda c: c + 0.5, lambda x: [x])
    assert call(chain, 1, sync=sync) == [4.5]
    assert call(Sequence(Predictor("a -> b", call=echo)), a=1, sync=sync).b == "b of [('a', 1)]"


def test_async_parts_are_awaited():
    """A part that has `aforward` is not run in a thread."""
    assert asyncio.run(Sequence(Upper(), AsyncUpper()).acall(text="a")) == {"text": "A!"}


@both
def test_parallel_calls_all_with_the_same_inputs(sync):
    """A list for parts in order, a dict for parts by name; at the same time."""
    barrier = threading.Barrier(2, timeout=10)

    def meets(x):
        barrier.wait()
        return x

    assert call(Parallel(meets, meets), 5, sync=sync) == [5, 5]
    assert call(Parallel(a=lambda x: x, b=lambda x: -x), x=1, sync=sync) == {"a": 1, "b": -1}
    with pytest.raises(BatchError, match="no"):
        call(Parallel(fails, lambda **_: 1), sync=sync)


@both
def test_an_ensemble_votes(sync):
    """Most often, or by a function; who fails has no vote."""
    ensemble = Ensemble(lambda: [1], lambda: [2], lambda: [2], fails)
    assert call(ensemble, sync=sync) == [2]
    assert call(Ensemble(lambda: 2, lambda: 1), sync=sync) == 2
    assert call(Ensemble(lambda: 1, fails, lambda: 3, reduce=sum), sync=sync) == 4
    with pytest.raises(BatchError, match="Ensemble"):
        call(Ensemble(fails, fails), sync=sync)


@both
def test_a_fallback_asks_until_one_answers(sync):
    """In order; errors of other kinds are raised at once; all failures are told."""
    asked = []
    assert call(Fallback(fails, lambda: 1, lambda: asked.append(1)), sync=sync) == 1
    assert asked == []
    with pytest.raises(BatchError) as caught:
        call(Fallback(fails, fails), sync=sync)
    assert [str(error) for _, error in caught.value.failures] == ["no", "no"]
    with pytest.raises(ValueError, match="no"):
        call(Fallback(fails, lambda: 1, errors=KeyError), sync=sync)


def test_parts_are_enumerated():
    """By place or by name, as parts of any module."""
    chain = Sequence(Predictor("a -> b"), Parallel(x=Predictor("b -> c"), y=Predictor("b -> d")))
    assert [path for path, _ in chain.named_predictors()] == ["parts[0]", "parts[1].parts['x']", "parts[1].parts['y']"]
    assert [path for path, _ in chain.deepcopy().named_predictors()] == [path for path, _ in chain.named_predictors()]


@pytest.mark.parametrize("kind", [Sequence, Parallel, Ensemble, Fallback])
def test_wrong_parts_are_named(kind):
    """None at all, or what cannot be called."""
    with pytest.raises(UsageError, match=kind.__name__):
        kind()
    with pytest.raises(UsageError, match="int"):
        kind(5)
    with pytest.raises(UsageError, match="names"):
        Parallel(Upper(), a=Upper())
