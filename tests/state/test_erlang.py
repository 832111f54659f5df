"""Erlang's own reader and writer of terms, in `erl` as Debian ships it, and this one understand each other."""

import pathlib
import subprocess

import pytest

from dspex import state
from dspex.errors import StateFormatError

SCRIPT = pathlib.Path(__file__).with_name("terms.escript")
STATE = {
    "none": None,
    "flags": [True, False],
    "numbers": [0, 255, 256, -1, 2**31, -(2**31) - 1, 2**63, -(2**64), 2**4000],
    "float": 1.5,
    "text": "ünï",
    "empty": [],
    "bytes": b"\xff\0",
    "tuple": (1, "a"),
    "infinite": float("inf"),
    "keys": {0: "int", "0": "str"},
    "nested": {"a": [{}]},
}


def erlang(*arguments):
    """What a run of the script prints."""
    command = ["escript", str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_erlang_reads_and_writes_states(tmp_path):
    """`binary_to_term(Bin, [safe])` gives the expected term, and what Erlang writes of it is the same state."""
    ours, theirs, foreign = tmp_path / "a.etf", tmp_path / "b.etf", tmp_path / "c.etf"
    state.write_file(ours, STATE)
    assert erlang(ours, theirs, foreign) == "same"
    assert state.read_file(theirs) == STATE
    assert state.read_file(foreign) == {
        "string": [97, 98, 99],
        "tuple": (1, (), "x"),
        7: None,
        "floats": [0.1, -1e300],
        "big": -(2**70),
        "wide": tuple(range(1, 301)),
        "long": list(range(250, 261)),
        "tagged": b"\1\2",
    }


@pytest.mark.parametrize(
    ("term", "cause"),
    [
        (b"w\x02ok", "the atom 'ok' is neither nil, true nor false"),
        (b"d\0\x02ok", "the atom 'ok' is neither"),
        (b"m\0\0\0\1\xff", "no UTF-8"),
        (b"l\0\0\0\1a\1a\2", "improper"),
        (b"P\0\0\0\1x", "compressed term"),
        (b"Xw\0", "pid"),
        (b"M\0\0\0\1\1\0", "bit string"),
        (b"h\2m\0\0\0\6$bytesa\1", "no binary stands at a $bytes"),
        (b"h\2m\0\0\0\4$foo" + b"a\1", "the tag '$foo' is unknown"),
        (b"a\1a\2", "2 bytes follow the term"),
        (b"t\0\0\0\2a\1ja\1j", "a key stands in a dict twice"),
    ],
)
def test_what_has_no_place_in_a_state(term, cause):
    """Atoms, functions, references and all that could do harm or mean two things are refused."""
    with pytest.raises(StateFormatError) as caught:
        state.decode(b"\x83" + term)
    assert cause in str(caught.value)
