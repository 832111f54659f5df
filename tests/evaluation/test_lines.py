import gzip

import pytest

from dspex.errors import UsageError
from dspex.evaluation._lines import read_lines

_GOOD = b'{"a": "x"}\n\n  \n{"a": "\xc3\xa9"}'


@pytest.mark.parametrize(
    "data",
    [_GOOD, gzip.compress(_GOOD), gzip.compress(_GOOD[:11]) + gzip.compress(_GOOD[11:])],
    ids=["plain", "gzip", "members"],
)
def test_plain_and_gzip_are_told_apart_by_content(tmp_path, data):
    """Objects come with their places, blank lines are skipped, gzip is found whatever the name."""
    path = tmp_path / "lines"
    path.write_bytes(data)
    assert [(line.place, line.fields) for line in read_lines(path)] == [
        (f"{path}:1", {"a": "x"}),
        (f"{path}:4", {"a": "é"}),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": 1}\n{"a": ', ":2: this line is no JSON"),
        (b"[1]", ":1: this line is a JSON list; it must be an object"),
        (b'{"a": "\xff"}', ":1: byte 8 (0xff) is not UTF-8"),
        (b"[" * 100_000, ":1: this line is no JSON"),
        (gzip.compress(_GOOD)[:-9], ": the gzip file ends too early"),
        (b"\x1f\x8bnonsense and more of it", ": Unknown compression method"),
        (gzip.compress(_GOOD)[:-8] + b"\0" * 8, ": CRC check failed"),
    ],
    ids=["cut", "list", "latin", "deep", "short", "method", "sum"],
)
def test_what_cannot_be_read_is_named(tmp_path, data, words):
    """A malformed line is told with file and line, a malformed file with its name."""
    path = tmp_path / "lines"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        list(read_lines(path))
    assert str(caught.value).startswith(f"{path}{words}")


@pytest.mark.parametrize(("name", "words"), [("missing", "No such file"), (".", "Is a directory")])
def test_a_path_that_cannot_be_opened(tmp_path, name, words):
    """A missing file and a directory are told in words."""
    with pytest.raises(UsageError, match=words):
        list(read_lines(tmp_path / name))


def test_a_field_that_is_no_text(tmp_path):
    """A field that is missing or no text is named, with the place."""
    (tmp_path / "lines").write_text('{"a": 1}')
    (line,) = read_lines(tmp_path / "lines")
    with pytest.raises(UsageError, match="lines:1: the field 'a' is a int; it must be a text"):
        line.texts("a")
    with pytest.raises(UsageError, match="lines:1: the field 'b' is missing"):
        line.texts("b")
