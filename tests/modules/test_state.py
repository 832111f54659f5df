"""States of programs: everything is checked, then all or nothing is loaded."""

import dataclasses
import datetime
import enum
import pathlib

import numpy
import pytest

from dspex import Module, Parameter, Predictor, diff
from dspex.errors import StateError, StateFormatError, StateMismatchError
from programs import Answer, with_demos


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    colors: list[Color] = dataclasses.field(default_factory=list)


def test_a_state_says_what_it_is():
    """Schema version, module, paths and types of parameters, versions and time, beside DSPy's layout."""
    state = Answer().dump_state()
    assert list(state) == ["search", "steps['main'][0]", "metadata"]
    about = state["metadata"]["dspex"]
    assert about["schema"] == 1
    assert about["module"] == "programs:Answer"
    assert set(about["parameters"]) == {"search", "steps['main'][0]"}
    assert datetime.datetime.fromisoformat(about["time"]).utcoffset() == datetime.timedelta(0)
    assert "python" in state["metadata"]["dependency_versions"]
    assert "metadata" not in Answer().dump_state(metadata=False)


def test_a_state_loads_into_another_program():
    """And shares nothing with either."""
    source, target = with_demos(Answer()), Answer()
    state = source.dump_state()
    assert target.load_state(state) == ()
    assert not diff(source, target)
    state["search"]["demos"].clear()
    assert not diff(source, target)


def test_all_mismatches_are_in_one_error_and_nothing_changes():
    """Missing, unknown and wrong, each by its path."""
    target = with_demos(Answer())
    before = target.dump_state(metadata=False)
    state = Answer().dump_state()
    state["extra"] = state.pop("steps['main'][0]")
    state["search"] = {**state["search"], "demos": 5, "evil": 1}
    with pytest.raises(StateMismatchError) as caught:
        target.load_state(state)
    assert dict(caught.value.mismatches).keys() == {"steps['main'][0]", "extra", "search.demos", "search.evil"}
    assert all(path in str(caught.value) for path, _ in caught.value.mismatches)
    assert target.dump_state(metadata=False) == before


def test_without_strict_what_fits_is_loaded_and_the_rest_told():
    """Nothing is lost without a word."""
    target = with_demos(Answer())
    state = Answer().dump_state()
    state["search"]["signature"]["instructions"] = "New."
    state["search"]["demos"] = 5
    del state["steps['main'][0]"]
    skipped = target.load_state(state, strict=False)
    assert [path for path, _ in skipped] == ["steps['main'][0]", "search.demos"]
    assert target.search.instructions == "New."
    assert len(target.search.demos) == 2


class Custom(Parameter):
    """A parameter that loads in its own way, changing what it holds in place, and may fail."""

    def __init__(self):
        self.items = [1]
        self.armed = []

    def load_state(self, state):
        self.items.append(state["item"])
        if self.armed:
            self.armed.append("fired")
            raise RuntimeError("midway")

    def dump_state(self, json_mode=True):
        return {"item": self.items[-1]}


def test_a_custom_parameter_that_fails_is_found_before_anything_changes():
    """It is tried on a copy, and named with the others."""
    module = Module()
    module.a, module.b = Parameter(1), Custom()
    with pytest.raises(StateMismatchError) as caught:
        module.load_state({"a": {"value": "text"}, "b": {}})
    assert [path for path, _ in caught.value.mismatches] == ["a.value", "b"]
    assert (module.a.value, module.b.items) == (1, [1])
    module.load_state({"a": {"value": 2}, "b": {"item": 3}})
    assert (module.a.value, module.b.items) == (2, [1, 3])


def test_when_loading_fails_after_all_everything_is_put_back():
    """A parameter that loads on trial and then fails does not leave the others changed."""

    class Fickle(Custom):
        calls = 0

        def load_state(self, state):
            type(self).calls += 1
            super().load_state(state)
            if self.calls == 2:
                raise RuntimeError("midway")

    module = Module()
    module.a, module.b, module.c = Parameter(1), Fickle(), Parameter(1)
    with pytest.raises(RuntimeError, match="midway"):
        module.load_state({"a": {"value": 2}, "b": {"item": 3}, "c": {"value": 2}})
    assert (module.a.value, module.b.items, module.c.value) == (1, [1], 1)


def rich():
    return Parameter(
        {
            "array": numpy.zeros((2, 3)),
            "color": Color.RED,
            "point": Point(1, [Color.RED]),
            "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            "bytes": b"\x00\xff",
            "path": pathlib.PurePosixPath("a/b"),
            "set": {1, 2},
            "tuple": (1, "x"),
            "float32": numpy.float32(0.5),
        }
    )


def test_values_of_many_types_become_plain_and_come_back():
    """What the target holds says what a plain value is to become."""
    source, target = rich(), rich()
    source.value.update(color=Color.BLUE, point=Point(5, [Color.BLUE, Color.RED]), array=numpy.ones((2, 3)), set={7})
    state = source.dump_state()
    assert state["value"]["color"] == "blue"
    assert state["value"]["point"] == {"x": 5, "colors": ["blue", "red"]}
    target.load_state(state)
    assert target.value["color"] is Color.BLUE
    assert target.value["point"] == Point(5, [Color.BLUE, Color.RED])
    assert (target.value["array"] == 1).all()
    assert target.value["array"] is not state["value"]["array"]
    assert target.value["set"] == {7}
    assert target.value["path"] == pathlib.PurePosixPath("a/b")


def test_pydantic_models_come_back():
    """Validated by the model that is there."""
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        n: int

    parameter = Parameter(Model(n=1))
    assert parameter.dump_state() == {"value": {"n": 1}}
    parameter.load_state({"value": {"n": 2}})
    assert parameter.value == Model(n=2)
    with pytest.raises(StateMismatchError, match="value"):
        parameter.load_state({"value": {"n": "text"}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("array", numpy.zeros((3, 2))),
        ("array", numpy.zeros((2, 3), dtype="int8")),
        ("array", [1]),
        ("color", "green"),
        ("point", {"x": 1}),
        ("point", {"x": 1, "colors": [], "evil": 1}),
        ("point", {"x": "text", "colors": []}),
        ("when", 5),
        ("tuple", (1,)),
    ],
)
def test_wrong_types_and_shapes_are_named(key, value):
    """By the path within the parameter; nothing changes."""
    parameter = rich()
    before = parameter.value
    state = parameter.dump_state()
    state["value"][key] = value
    with pytest.raises(StateMismatchError) as caught:
        parameter.load_state(state)
    assert caught.value.mismatches[0][0].startswith(f"value['{key}']")
    assert parameter.value is before


def test_a_parameter_called_metadata_is_kept():
    """It does not collide with what is said about the state."""
    module, other = Module(), Module()
    module.metadata, other.metadata = Predictor("a -> b", temperature=1), Predictor("a -> b")
    state = module.dump_state()
    assert set(state) == {"'metadata'", "metadata"}
    other.load_state(state)
    assert other.metadata.config == {"temperature": 1}


def test_keys_that_look_alike_keep_their_states():
    """DSPy writes both 0 and '0' under one name, and loses one."""

    def program():
        module = Module()
        module.d = {0: Predictor("a -> b"), "0": Predictor("a -> b")}
        return module

    source, target = program(), program()
    source.d[0].instructions, source.d["0"].instructions = "number", "text"
    target.load_state(source.dump_state())
    assert (target.d[0].instructions, target.d["0"].instructions) == ("number", "text")


def test_a_state_of_dspys_names_is_understood():
    """DSPy writes the key 0 as '0', and has no metadata of ours."""
    module = Module()
    module.d = {0: Predictor("a -> b")}
    module.d[0].instructions = "x"
    state = module.dump_state(like_dspy=True, metadata=False)
    assert list(state) == ["d['0']"]
    target = Module()
    target.d = {0: Predictor("a -> b")}
    target.load_state(state)
    assert target.d[0].instructions == "x"


def test_frozen_modules_are_neither_dumped_nor_loaded():
    """They are left alone."""
    module = Answer()
    module.frozen = Answer().freeze()
    assert not [path for path in module.dump_state() if path.startswith("frozen")]
    module.load_state(Answer().dump_state())


def test_a_newer_schema_is_refused_with_both_versions():
    """Nobody guesses what a later version may have meant."""
    state = Answer().dump_state()
    state["metadata"]["dspex"] |= {"schema": 2, "version": "9.9"}
    with pytest.raises(StateFormatError, match=r"schema 2.*9\.9.*up to 1"):
        Answer().load_state(state)


@pytest.mark.parametrize("state", [None, [], 5, "text"])
def test_what_is_no_mapping_is_no_state(state):
    """One error class, whatever it is."""
    with pytest.raises(StateMismatchError):
        Answer().load_state(state)


@pytest.mark.parametrize("metadata", [None, 5, {"dspex": 5}, {"dspex": {"schema": "x"}}])
def test_strange_metadata_harm_nothing(metadata):
    """They are not what is loaded."""
    Answer().load_state({**Answer().dump_state(), "metadata": metadata})


def test_what_holds_itself_is_refused_on_dumping():
    """It has no plain form."""
    parameter = Parameter([])
    parameter.value.append(parameter.value)
    with pytest.raises(StateError, match="value"):
        parameter.dump_state()
