"""Predictions: completions, usage, and scores that count as numbers."""

import copy
import operator
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex import Completions, Example, Prediction
from dspex.errors import UsageError

SCORES = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-1000, 1000)


def test_from_completions_is_the_first_of_them():
    """Its fields are those of the first, and all stay at hand."""
    prediction = Prediction.from_completions([{"answer": "a", "why": 1}, {"answer": "b", "why": 2}])
    assert prediction.items() == [("answer", "a"), ("why", 1)]
    assert prediction.completions.answer == ["a", "b"]
    assert prediction.completions[1].answer == "b"


def test_completions_stay_as_they_were():
    """A change of the prediction does not reach them."""
    prediction = Prediction.from_completions({"answer": ["a", "b"]})
    prediction.answer = "c"
    assert prediction.completions.answer == ["a", "b"]


@pytest.mark.parametrize("none", [[], {}, {"answer": []}])
def test_no_completions_give_no_fields(none):
    """An empty answer can be looked at like any other."""
    prediction = Prediction.from_completions(none)
    assert (len(prediction), len(prediction.completions)) == (0, 0)
    assert repr(prediction) == "Prediction(\n    \n)"


@pytest.mark.parametrize(
    "derive",
    [
        lambda p: p.copy(extra=1),
        lambda p: p.replace(answer="z"),
        Prediction,
        copy.copy,
        copy.deepcopy,
        lambda p: pickle.loads(pickle.dumps(p)),
    ],
)
def test_copies_keep_completions_and_usage(derive):
    """Whatever is made from a prediction still says where it came from."""
    prediction = Prediction.from_completions({"answer": ["a", "b"]})
    prediction.set_lm_usage({"model": {"tokens": 3}})
    derived = derive(prediction)
    assert derived.completions == prediction.completions
    assert derived.get_lm_usage() == {"model": {"tokens": 3}}


def test_deepcopy_shares_no_completions():
    """A change in the copy stays there."""
    prediction = Prediction.from_completions({"answer": ["a", "b"]})
    prediction.set_lm_usage({"tokens": 3})
    copied = copy.deepcopy(prediction)
    copied.completions.answer.append("c")
    copied.get_lm_usage()["tokens"] = 4
    assert prediction.completions.answer == ["a", "b"]
    assert prediction.get_lm_usage() == {"tokens": 3}


def test_fields_of_an_example_are_kept():
    """An example becomes a prediction with all its fields, and back."""
    example = Example(a=1).with_inputs("a")
    assert Prediction(example).inputs().a == 1
    assert Example(Prediction(a=1)) == Example(a=1)


def test_inputs_of_a_prediction_are_not_set():
    """It says so, as an example does."""
    with pytest.raises(ValueError, match="with_inputs"):
        Prediction(a=1).inputs()


def test_usage_is_none_until_set():
    """Nobody counted."""
    prediction = Prediction(a=1)
    assert (prediction.get_lm_usage(), prediction.completions) == (None, None)


def test_field_called_completions_is_had_by_bracket():
    """The property stays what it is."""
    prediction = Prediction(completions=[1], get_lm_usage=2)
    assert (prediction["completions"], prediction.completions) == ([1], None)
    assert (prediction["get_lm_usage"], prediction.get_lm_usage()) == (2, None)


@pytest.mark.parametrize("operate", [operator.add, operator.lt, operator.le, operator.gt, operator.ge])
@given(one=SCORES, other=SCORES)
def test_scores_count_as_numbers(operate, one, other):
    """Between predictions, and with a number on either side."""
    expected = operate(float(one), float(other))
    assert operate(Prediction(score=one), Prediction(score=other)) == expected
    assert operate(Prediction(score=one), other) == expected
    assert operate(one, Prediction(score=other)) == expected


def test_scores_are_divided_and_summed():
    """As metrics do it: `sum(scores) / len(scores)`."""
    scores = [Prediction(score=n) for n in (1, 2, 3)]
    assert sum(scores) / len(scores) == 2.0
    assert (scores[0] / scores[1], 3 / scores[1], scores[1] / 4) == (0.5, 1.5, 0.5)
    assert max(scores).score == 3


def test_without_a_score_there_is_no_number():
    """The error names the field."""
    with pytest.raises(UsageError, match="'score'"):
        float(Prediction(answer=1))
    with pytest.raises(ValueError, match="'score'"):
        assert Prediction(answer=1) < 2


@pytest.mark.parametrize("operate", [operator.add, operator.truediv, operator.lt, operator.ge])
def test_scores_go_with_numbers_only(operate):
    """As with numbers, another type is a TypeError."""
    with pytest.raises(TypeError):
        operate(Prediction(score=1), "1")
    with pytest.raises(TypeError):
        operate("1", Prediction(score=1))


def test_repr_is_dspys():
    """A field a line, and how many completions are not shown."""
    assert repr(Prediction(a=1, b="x")) == "Prediction(\n    a=1,\n    b='x'\n)"
    many = Prediction.from_completions({"a": [1, 2, 3]})
    assert repr(many) == "Prediction(\n    a=1,\n    completions=Completions(...)\n) (2 completions omitted)"
    assert repr(Prediction.from_completions({"a": [1]})) == "Prediction(\n    a=1\n)"
    assert isinstance(many.completions, Completions)
