"""Values in other forms: plain data and JSON."""

import dataclasses
import datetime
import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex import Example, Prediction
from dspex.errors import UsageError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Pair(NamedTuple):
    one: int
    other: int


class Model:
    """What a pydantic model has."""

    def model_dump(self):
        return {"dumped": True}


@dataclasses.dataclass
class Record:
    a: int


def test_nested_examples_and_models_become_dicts():
    """At any depth of lists, tuples and dicts."""
    example = Example(a=[Example(b=1), {"c": (Prediction(d=2), Model())}])
    assert example.to_dict() == example.toDict() == {"a": [{"b": 1}, {"c": ({"d": 2}, {"dumped": True})}]}


@pytest.mark.parametrize("value", [Pair(1, 2), Record(1), {1, 2}, Model, datetime.date(2024, 1, 1), b"x"])
def test_all_else_stays_as_it_is(value):
    """Nothing that is not meant is taken apart."""
    assert Example(a=value).to_dict()["a"] is value


def test_plain_data_is_apart_from_the_example():
    """Lists and dicts are new ones."""
    example = Example(a=[{"b": 1}])
    example.to_dict()["a"][0]["b"] = 2
    assert example.a == [{"b": 1}]


def test_dict_makes_an_example_with_inputs():
    """The way back, with the names that are inputs."""
    example = Example.from_dict({"q": 1, "a": 2}, inputs=["q"])
    assert (example, example.input_keys) == (Example(q=1, a=2), {"q"})
    assert Example.from_dict({"q": 1}).input_keys is None


@given(st.dictionaries(st.text(), JSON))
def test_json_comes_back_the_same(fields):
    """Every object that JSON can hold."""
    example = Example(fields)
    assert Example.from_json(example.to_json()) == example
    assert json.loads(example.to_json(indent=2)) == fields


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", datetime.date(2024, 1, 1), {(1, 2): 3}])
def test_what_json_cannot_hold_is_named_by_its_field(value):
    """Nothing is turned into something else in silence."""
    with pytest.raises(UsageError, match="field 'bad' has no JSON form"):
        Example(good=1, bad=[value]).to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[1]", "not a JSON object but list"), (b"\xff", "not JSON"), ("[" * 100_000, "not JSON")],
)
def test_text_that_is_no_object_is_refused(text, message):
    """Whatever it is instead, it is one error."""
    with pytest.raises(UsageError, match=message):
        Example.from_json(text)


def test_kind_is_that_of_the_class():
    """A prediction from JSON is a prediction."""
    assert type(Prediction.from_json('{"score": 1}', inputs=["x"])) is Prediction
