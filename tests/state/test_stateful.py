"""Modules, dataclasses and dicts have a state, which is loaded as a whole or not at all."""

import dataclasses
import datetime as dt
import enum
import pathlib

import numpy
import pydantic
import pytest

from dspex import state
from dspex.errors import StateError, StateMismatchError, UsageError


class Predictor:
    """As modules of DSPy are: loading sets one attribute after the other."""

    def __init__(self):
        self.demos, self.lm, self.broken = [], None, False

    def dump_state(self, json_mode=True):
        return {"demos": self.demos, "lm": self.lm}

    def load_state(self, state, *, allow_unsafe_lm_state=False):
        if self.broken:
            raise OSError("broken")
        self.demos[:] = state["demos"]
        self.lm = state["lm"]
        return self


class Colour(enum.Enum):
    RED = "r"


class Model(pydantic.BaseModel):
    name: str


@dataclasses.dataclass
class Inner:
    sizes: tuple[int, ...]


@dataclasses.dataclass
class Program:
    inner: Inner
    colour: Colour
    path: pathlib.Path | None
    model: Model
    weights: numpy.ndarray
    when: dt.datetime
    tags: set[str]
    raw: bytes
    free: object = None
    parts: list[Inner] = dataclasses.field(default_factory=list)


def program(number):
    return Program(
        Inner((number,)),
        Colour.RED,
        pathlib.Path("a"),
        Model(name=str(number)),
        numpy.arange(number),
        dt.datetime(2024, 1, number),
        {str(number)},
        bytes([number]),
        {0: number},
        [Inner((1, 2))],
    )


def snapshot(target):
    return state.canonical(state.to_plain(target))


@pytest.mark.parametrize("format", ["json", "msgpack", "protobuf", "etf"])
def test_a_dataclass_comes_back_with_its_types(format):
    """A file holds no class, and the fields of the dataclass have their types after loading."""
    target = program(3)
    saved = state.encode(state.as_stateful(program(5)).dump_state(), format=format)
    state.as_stateful(target).load_state(state.decode(saved))
    assert snapshot(target) == snapshot(program(5))
    assert type(target.inner) is Inner
    assert target.colour is Colour.RED
    assert target.path == pathlib.Path("a")
    assert target.model == Model(name="5")
    assert target.weights.tolist() == [0, 1, 2, 3, 4]
    assert type(target.parts[0]) is Inner


def test_every_mismatch_is_named_and_nothing_is_loaded():
    """Missing, unknown and mistyped entries are listed in one error by path, and the dataclass is as it was."""
    target = program(3)
    before = snapshot(target)
    wrong = state.as_stateful(program(5)).dump_state()
    del wrong["raw"]
    wrong |= {"more": 1, "tags": {1}, "inner": {"sizes": (1,), "extra": 2}, "colour": "b"}
    with pytest.raises(StateMismatchError) as caught:
        state.as_stateful(target).load_state(wrong)
    assert dict(caught.value.mismatches).keys() == {"raw", "more", "tags", "inner['extra']", "colour"}
    assert all(path in str(caught.value) for path in ("raw: missing", "more: unknown", "inner['extra']: unknown"))
    assert snapshot(target) == before


def test_a_dataclass_that_refuses_a_value_is_as_it_was():
    """When a field cannot be set, those set before it have their old values again."""

    @dataclasses.dataclass
    class Careful:
        first: int
        second: int

        def __setattr__(self, name, value):
            if value == 13:
                raise ValueError("no 13")
            super().__setattr__(name, value)

    target = Careful(1, 2)
    with pytest.raises(StateMismatchError, match="no 13"):
        state.as_stateful(target).load_state({"first": 5, "second": 13})
    assert (target.first, target.second) == (1, 2)


def test_a_frozen_dataclass_takes_no_state():
    """A frozen dataclass gives its state, and says that it takes none."""
    kind = dataclasses.make_dataclass("Frozen", [("x", int)], frozen=True)
    assert state.as_stateful(kind(1)).dump_state() == {"x": 1}
    with pytest.raises(StateError, match="frozen"):
        state.as_stateful(kind(1)).load_state({"x": 2})


def test_a_dict_is_its_state():
    """A dict takes over all items of a state, as copies, and loses those that the state has not."""
    target, loaded = {"a": 1, 0: "x"}, {"b": [1], "0": 2}
    adapter = state.as_stateful(target)
    assert adapter.dump_state() == {"a": 1, 0: "x"}
    adapter.load_state(loaded)
    assert target == {"b": [1], "0": 2}
    assert target["b"] is not loaded["b"]


@pytest.mark.parametrize("wrong", [None, [("a", 1)], "a", {"a": object()}])
def test_a_dict_is_unchanged_by_what_is_no_state(wrong):
    """What is no dict of plain data leaves the dict as it was."""
    target = {"a": 1}
    with pytest.raises(StateError):
        state.as_stateful(target).load_state(wrong)
    assert target == {"a": 1}


def test_an_object_with_the_two_methods_is_stateful():
    """The protocol is recognised by its methods; nothing needs to be inherited."""
    target = Predictor()
    assert isinstance(target, state.Stateful)
    assert isinstance(state.as_stateful(target), state.Stateful)
    state.as_stateful(target).load_state({"demos": [1], "lm": "x"})
    assert state.as_stateful(target).dump_state() == {"demos": [1], "lm": "x"}


def test_loading_that_fails_half_way_is_undone():
    """An object whose own loading fails after half of it gets its old state back, though its dump shares its lists."""
    target = Predictor()
    target.load_state({"demos": ["old"], "lm": "old"})
    with pytest.raises(StateMismatchError, match="Predictor did not take the state: KeyError: 'lm'"):
        state.as_stateful(target).load_state({"demos": ["new"]})
    assert target.dump_state() == {"demos": ["old"], "lm": "old"}


def test_an_undoing_that_fails_is_said():
    """When even the old state is refused, the error holds both causes."""
    target = Predictor()
    target.broken = True
    with pytest.raises(StateError, match="so did putting the old state back") as caught:
        state.as_stateful(target).load_state({})
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("target", [None, 5, [1], "text", Predictor, Program, object()])
def test_what_has_no_state_is_refused(target):
    """Classes, and objects that are none of the three, have no state."""
    with pytest.raises(UsageError, match="has no state"):
        state.as_stateful(target)
