"""Completions: by row, by field, by slice; ragged ones are refused."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex import Completions, Prediction
from dspex.errors import UsageError

ROWS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.fixed_dictionaries({f"f{n}": st.integers() for n in range(width)}), max_size=5)
)


@given(ROWS)
def test_rows_and_columns_are_the_same_completions(rows):
    """Made from either, they are equal, and give the rows back."""
    completions = Completions(rows)
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
    assert completions == Completions(columns)
    assert [prediction.to_dict() for prediction in completions] == rows
    assert len(completions) == len(rows)
    assert dict(completions.items()) == columns


@given(ROWS, st.integers(-6, 6), st.slices(5))
def test_indices_and_slices_are_those_of_a_list(rows, index, part):
    """Negative ones count from the end, and an index outside is an IndexError."""
    completions = Completions(rows)
    assert [prediction.to_dict() for prediction in completions[part]] == rows[part]
    if -len(rows) <= index < len(rows):
        assert completions[index] == Prediction(rows[index])
    else:
        with pytest.raises(IndexError, match=str(len(rows))):
            completions[index]


def test_fields_are_had_by_name():
    """As a list, by bracket and by attribute."""
    completions = Completions({"answer": ["a", "b"], "items": [1, 2]}, signature="question -> answer")
    assert completions["answer"] == completions.answer == ["a", "b"]
    assert completions["items"] == [1, 2]
    assert ("answer" in completions, "why" in completions) == (True, False)
    assert list(completions.keys()) == ["answer", "items"]
    assert completions.signature == completions[:1].signature == "question -> answer"
    with pytest.raises(AttributeError, match="why"):
        completions.why


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": [1, 2], "b": [1]}, "as many values"),
        ({"a": "text"}, "'a' must have a list"),
        ([{"a": 1}, {"b": 2}], "completion 1 has fields"),
        ([{"a": 1}, {"a": 2, "b": 3}], "completion 1 has fields"),
    ],
)
def test_ragged_completions_are_refused(given, message):
    """Nothing is shifted from one answer to another."""
    with pytest.raises(UsageError, match=message):
        Completions(given)


def test_what_they_were_made_from_is_not_shared():
    """A list that grows later changes nothing."""
    values = ["a"]
    completions = Completions({"answer": values})
    values.append("b")
    assert completions.answer == ["a"]


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_are_equal(make):
    """Also through pickle, without falling into `__getattr__`."""
    completions = Completions({"answer": ["a"]}, signature="s")
    assert make(completions) == completions
    assert make(completions).signature == "s"
    assert not hasattr(Completions.__new__(Completions), "answer")


def test_repr_is_dspys():
    """A field a line."""
    assert repr(Completions({"a": [1], "b": ["x"]})) == "Completions(\n    a=[1],\n    b=['x']\n)"
