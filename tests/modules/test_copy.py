"""Deep copies of programs."""

import collections
import copy
import dataclasses
import pickle
import threading
import warnings

import pytest

from dspex import Example, Module, Parameter, Predictor, diff
from programs import Answer, with_demos


def test_a_copy_has_the_same_state_and_shares_nothing():
    """Changing a copy leaves the original alone."""
    program = with_demos(Answer())
    before = program.dump_state(metadata=False)
    copied = program.deepcopy()
    assert type(copied) is Answer
    assert not diff(program, copied)
    for predictor in copied.predictors():
        predictor.demos[0]["question"] = "changed"
        predictor.demos.clear()
        predictor.config["x"] = 1
        predictor.instructions = "changed"
    copied.steps["main"].append(1)
    assert program.dump_state(metadata=False) == before
    assert len(program.steps["main"]) == 1


def test_what_is_shared_stays_shared_and_cycles_close():
    """Also with something that cannot be copied beside it."""
    module = Module()
    module.a = module.b = Parameter([1])
    module.me, module.list = module, [module]
    module.list.append(module.list)
    module.lock = threading.Lock()
    with pytest.warns(UserWarning, match="lock"):
        copied = module.deepcopy()
    assert copied.a is copied.b
    assert copied.a is not module.a
    assert copied.me is copied
    assert copied.list[0] is copied
    assert copied.list[1] is copied.list
    assert copied.lock is module.lock


def test_what_cannot_be_copied_is_named_once():
    """One warning names all of it, each with its path and type."""
    module = Module()
    module.lock, module.sub = threading.Lock(), Module()
    module.sub.client = {"x": [threading.Lock()]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.deepcopy()
    (warning,) = caught
    assert "lock (lock)" in str(warning.message)
    assert "sub.client[x][0] (lock)" in str(warning.message)
    assert warning.filename == __file__


def test_a_parameter_that_holds_a_lock_is_copied_but_for_the_lock():
    """Its other attributes are new."""
    parameter = Parameter([1])
    parameter._lock = threading.Lock()
    module = Module()
    module.p = parameter
    with pytest.warns(UserWarning, match="_lock"):
        copied = module.deepcopy()
    assert copied.p is not parameter
    assert copied.p.value == [1]
    assert copied.p.value is not parameter.value
    assert copied.p._lock is parameter._lock


def test_a_half_copied_object_leaves_nothing_behind():
    """What failed half-way is kept whole, and its parts are not taken for copies of others."""

    class Client:
        def __init__(self, parts):
            self.parts, self.lock = parts, threading.Lock()

    parts = [1]
    module = Module()
    module.client, module.parts = Client(parts), parts
    with pytest.warns(UserWarning, match="Client"):
        copied = module.deepcopy()
    assert copied.client is module.client
    assert copied.parts == [1]
    assert copied.parts is not parts


def test_callbacks_and_history_are_not_copied():
    """They belong to one object, as in DSPy; the copy has empty ones of its own."""
    module = Module(callbacks=["x"])
    module.history.append(1)
    for copied in (module.deepcopy(), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied.callbacks == []
        assert copied.history == []


def test_containers_of_all_kinds_are_copied():
    """Subclasses, sets, named tuples, dataclasses, deques and examples keep their class and content."""

    class Words(list):
        pass

    Pair = collections.namedtuple("Pair", "a b")
    Record = dataclasses.make_dataclass("Record", ["x"])
    Fixed = dataclasses.make_dataclass("Fixed", ["x"], frozen=True, slots=True)
    words = Words([[1]])
    words.note = [2]
    values = {
        "words": words,
        "set": {(1, 2), frozenset({3})},
        "pair": Pair([1], 2),
        "record": Record([1]),
        "fixed": Fixed([1]),
        "deque": collections.deque([[1]]),
        "counts": collections.defaultdict(list, {"a": [1]}),
        "example": Example(a=[1]).with_inputs("a"),
    }
    module = Module()
    module.values = values
    copied = module.deepcopy().values
    assert copied == values
    assert [type(value) for value in copied.values()] == [type(value) for value in values.values()]
    assert copied["words"].note == [2]
    assert copied["words"].note is not words.note
    assert copied["pair"].a is not values["pair"].a
    assert copied["fixed"].x is not values["fixed"].x
    assert copied["example"].input_keys == frozenset({"a"})
    assert copied["example"]["a"] is not values["example"]["a"]


def test_depth_needs_no_recursion():
    """A chain of 3,000 modules is copied."""
    module = Module()
    for _ in range(3_000):
        outer = Module()
        outer.inner = module
        module = outer
    assert sum(1 for _ in module.deepcopy().named_sub_modules()) == 3_001


def test_a_class_that_copies_itself_is_obeyed():
    """Own `__deepcopy__`, and own `__getstate__`, decide what a copy is."""

    class Own(Module):
        def __deepcopy__(self, memo):
            return "own"

    class Partial(Module):
        def __getstate__(self):
            return {"kept": self.kept}

    module = Module()
    module.own, module.partial = Own(), Partial()
    module.partial.kept, module.partial.left = [1], [2]
    copied = module.deepcopy()
    assert copied.own == "own"
    assert copied.partial.kept == [1]
    assert copied.partial.kept is not module.partial.kept
    assert not hasattr(copied.partial, "left")
    assert copied.partial.callbacks == []


def test_reset_copy_forgets_what_was_learned():
    """Demos, traces and model settings go; instructions and frozen modules stay."""
    program = with_demos(Answer())
    program.frozen = with_demos(Answer()).freeze()
    program.search.instructions, program.search.lm = "Think.", {"model": "m"}
    fresh = program.reset_copy()
    assert fresh.search.demos == []
    assert fresh.search.lm is None
    assert fresh.search.instructions == "Think."
    assert len(fresh.frozen.search.demos) == 2
    assert len(program.search.demos) == 2


def test_functions_of_predictors_are_shared():
    """Code is no state: a copy calls the same function."""

    def call(predictor, **inputs):
        return {"b": 1}

    predictor = Predictor("a -> b", call=call)
    assert predictor.deepcopy()(a=1).b == 1
