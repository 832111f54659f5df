"""Examples from files and data frames, and to frames."""

import numpy as np
import pandas
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex import Example, Prediction
from dspex.errors import UsageError

ROWS = st.lists(
    st.fixed_dictionaries({"q": st.text(), "n": st.none() | st.integers(-(2**62), 2**62), "b": st.booleans()})
)


def written(tmp_path, data):
    path = tmp_path / "rows"
    path.write_bytes(data)
    return path


# --- JSON lines ---


def test_each_line_is_an_example(tmp_path):
    """Blank lines and a byte order mark are no examples; other line separators of Unicode end no line."""
    path = written(tmp_path, '\ufeff{"q": "\u2028é", "a": [1]}\n\n  \r\n{"q": "x"}'.encode())
    examples = Example.from_jsonl(path, inputs=["q"])
    assert [example.to_dict() for example in examples] == [{"q": "\u2028é", "a": [1]}, {"q": "x"}]
    assert examples[0].labels().keys() == ["a"]
    assert type(Prediction.from_jsonl(str(path))[0]) is Prediction


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1}\n\n{"a":', "rows, line 3 is not JSON"),
        (b'{"a": 1}\n[1]\n', "rows, line 2 is not a JSON object but list"),
        (b'{"a": "\xff"}', "rows, line 1 is not JSON"),
        (b'{"a": 1}\n' + b"[" * 100_000, "rows, line 2 is not JSON"),
    ],
    ids=["cut", "list", "latin", "deep"],
)
def test_a_bad_line_is_named_with_its_file(tmp_path, data, message):
    """Where it is and what is wrong."""
    with pytest.raises(UsageError, match=message):
        Example.from_jsonl(written(tmp_path, data))


# --- CSV ---


def test_each_row_is_an_example(tmp_path):
    """Quoted cells may hold line ends; rows that are empty are none."""
    path = written(tmp_path, '\ufeffq,a\r\n"x, ""y""\nz",1\r\n\r\né,\r\n'.encode())
    examples = Example.from_csv(path, inputs=["q"])
    assert [example.to_dict() for example in examples] == [{"q": 'x, "y"\nz', "a": "1"}, {"q": "é", "a": ""}]
    assert examples[0].input_keys == {"q"}


def test_delimiter_can_be_another(tmp_path):
    """Tabs, as in TSV."""
    assert Example.from_csv(written(tmp_path, b"q\ta\n1,2\t3\n"), delimiter="\t") == [Example(q="1,2", a="3")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"q,a\n1,2\n3\n", "rows, line 3: 1 cells, but 2 fields"),
        (b"q,a\n1,2,3\n", "rows, line 2: 3 cells, but 2 fields"),
        (b"q,q\n1,2\n", "rows, line 1: the name 'q' occurs twice"),
        (b"q,\n1,2\n", "rows, line 1: a field must be named"),
        (b'q,a\n1,"2\n', "rows, line 2: unexpected end of data"),
        (b"q\n\xff\n", "rows, line .*codec"),
    ],
    ids=["short", "long", "twice", "nameless", "open", "latin"],
)
def test_a_bad_row_is_named_with_its_file(tmp_path, data, message):
    """No cell slides into another field, and none is dropped."""
    with pytest.raises(UsageError, match=message):
        Example.from_csv(written(tmp_path, data))


def test_an_empty_file_holds_no_examples(tmp_path):
    """In either form."""
    path = written(tmp_path, b"")
    assert Example.from_csv(path) == Example.from_jsonl(path) == []


@pytest.mark.parametrize("read", [Example.from_csv, Example.from_jsonl])
def test_a_missing_file_is_an_os_error(tmp_path, read):
    """As for any file."""
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


# --- frames ---


@pytest.mark.parametrize("library", ["pandas", "polars"])
@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_frames_give_back_the_examples(library, rows):
    """Strings, numbers beside None, and truth values."""
    examples = [Example(row) for row in rows]
    frame = Example.to_frame(examples, library)
    assert len(frame) == len(rows)
    back = Example.from_frame(frame)
    assert back == examples
    for one, other in zip(back, examples, strict=True):
        assert all(type(one[name]) is type(other[name]) for name in other)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_field_that_is_lacking_is_none_in_the_frame(library):
    """Columns come in the order in which fields first occur; hidden fields do not."""
    frame = Example.to_frame([Example(a=1, dspy_uuid=1), Example(b=[2])], library)
    assert list(frame.columns) == ["a", "b"]
    assert Example.from_frame(frame, inputs=["a"]) == [Example(a=1, b=None), Example(a=None, b=[2])]


def test_rows_of_a_frame_are_examples_of_the_class():
    """With values as the frame gives them."""
    frame = pandas.DataFrame({"q": ["x"], "n": [1.5]})
    (example,) = Prediction.from_frame(frame, inputs=["q"])
    assert (type(example), example.n, example.inputs().q) == (Prediction, 1.5, "x")
    assert Example.from_frame(polars.DataFrame({"q": ["x"]})) == [Example(q="x")]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pandas.DataFrame(np.zeros((1, 2))), "named by a str"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "'a' occurs twice"),
        ([{"a": 1}], "not list"),
    ],
)
def test_what_is_no_frame_of_named_columns_is_refused(frame, message):
    """No column is lost."""
    with pytest.raises(UsageError, match=message):
        Example.from_frame(frame)


def test_libraries_are_two():
    """Another one is named in the error."""
    with pytest.raises(UsageError, match="'arrow'"):
        Example.to_frame([], "arrow")
