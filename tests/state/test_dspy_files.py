"""DSPy's own state files: read as they are, written as `dspy.Module.load` reads them."""

import pathlib

import pytest

from dspex import state
from dspex.errors import StateError

FILE = pathlib.Path(__file__).with_name("dspy-3.4.1.json")  # by Module.save of that version


def test_a_file_of_dspy_is_read_as_it_is():
    """A file that DSPy wrote gives its predictors by name, and its metadata."""
    found = state.read_file(FILE)
    assert list(found) == ["a", "b[0].predict", "metadata"]
    assert found["a"]["demos"] == [{"question": "ü?", "answer": 'x"y'}]
    assert found["metadata"]["dependency_versions"]["dspy"] == "3.4.1"


def test_what_was_read_is_written_byte_for_byte(tmp_path):
    """The state of a file of DSPy, written in its format, is that file again."""
    state.write_file(tmp_path / "a.json", state.read_file(FILE), format="dspy")
    assert (tmp_path / "a.json").read_bytes() == FILE.read_bytes()


def test_what_looks_like_a_tag_is_json():
    """A dict such as {"$ref": ...} in a JSON schema is written as it is, and read so."""
    value = {"a": {"schema": [{"$ref": "#/x"}]}, "metadata": {"dependency_versions": {}}}
    data = state.encode(value, format="dspy")
    assert b'"$ref": "#/x"' in data
    assert b"$dict" not in data
    assert state.decode(data) == value


@pytest.mark.parametrize(
    "value", [(1,), b"x", float("nan"), {0: 1}, {1}, 2**70, {"$dict": [["$x", 1]], "more": (1,)}, {1: 2, 3: 4}]
)
def test_what_json_cannot_hold_is_refused(value):
    """A value beyond JSON is refused with its path, as DSPy would read it as something else."""
    with pytest.raises(StateError, match=r"state\['a'\]\[0\].*save it as 'json'"):
        state.encode({"a": [value], "metadata": {"dependency_versions": {}}}, format="dspy")


@pytest.mark.parametrize("value", [{}, [], {"metadata": 5}, {"a": {}, "metadata": {}}])
def test_what_dspy_could_not_load_is_refused(value):
    """Without the versions that `dspy.Module.load` looks for, nothing is written."""
    with pytest.raises(StateError, match="dependency_versions"):
        state.encode(value, format="dspy")


def test_a_state_with_the_envelope_is_no_file_of_dspy():
    """A predictor may be called `dspex` or `state`: only both keys alone make an envelope."""
    value = {"dspex": {"demos": []}, "state": {"demos": []}, "metadata": {"dependency_versions": {}}}
    assert state.decode(state.encode(value, format="dspy")) == value
