"""Every format and compression gives back just the state that it was given."""

import fractions
import gzip
import itertools
import json

import numpy
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex import state
from dspex.errors import StateError, StateFormatError, UsageError
from state.states import COMPRESSIONS, EVERYTHING, FORMATS, same, states

relaxed = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("compression", [*COMPRESSIONS, None])
@pytest.mark.parametrize("format", FORMATS)
def test_one_of_everything_comes_back(format, compression):
    """One of every type of plain data is the same after a round trip."""
    data = state.encode(EVERYTHING, format=format, compression=compression)
    assert same(EVERYTHING, state.decode(data))


@relaxed
@given(value=states, format=st.sampled_from(FORMATS), compression=st.sampled_from(COMPRESSIONS))
def test_every_state_comes_back(value, format, compression):
    """A random state is the same after a round trip through any format and compression."""
    assert same(value, state.decode(state.encode(value, format=format, compression=compression)))


@relaxed
@given(value=states, format=st.sampled_from(FORMATS), compression=st.sampled_from(COMPRESSIONS))
def test_equal_states_give_equal_bytes(value, format, compression):
    """Encoding is a function of the state alone: what was read encodes to the bytes it was read from."""
    data = state.encode(value, format=format, compression=compression)
    assert state.encode(state.decode(data), format=format, compression=compression) == data


def test_json_is_for_people():
    """JSON is indented by two, keeps the order of keys, shows text as it is and ends with a newline."""
    text = state.encode({"b": "ü", "a": [1]}).decode()
    assert text.endswith('  "state": {\n    "b": "ü",\n    "a": [\n      1\n    ]\n  }\n}\n')


def test_one_change_is_one_line_and_the_checksum():
    """Two JSON files that differ in one value differ in that line and in the checksum."""
    one, other = (state.encode({"a": 1, "b": value, "c": 3}).splitlines() for value in (1, 2))
    assert sum(a != b for a, b in zip(one, other, strict=True)) == 2


def test_json_may_be_reindented_and_reordered():
    """A JSON file that other tools laid out anew loads: its checksum is of the content."""
    tree = json.loads(state.encode(EVERYTHING))
    assert state.decode(json.dumps(tree, sort_keys=True).encode()).keys() == EVERYTHING.keys()


def test_arrays_read_are_writable_and_own_their_memory():
    """An array that was read can be changed, and does not change another reading of the same bytes."""
    data = state.encode(numpy.arange(3), format="msgpack")
    first = state.decode(data)
    first += 1
    assert state.decode(data).tolist() == [0, 1, 2]


def test_the_bytes_of_other_compressors_load():
    """What gzip and zstd tools write, several frames too, is read."""
    data = state.encode({"a": 1})
    for parts in (gzip.compress(data[:9]) + gzip.compress(data[9:]), zstd.compress(data[:9]) + zstd.compress(data[9:])):
        assert state.decode(parts) == {"a": 1}


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_many_frames_load(pack):
    """Frames of every size load, empty ones and such as are larger than what is read at once; a cut one is refused."""
    noise = "".join(map(chr, numpy.random.default_rng(0).integers(32, 127, 60_000)))
    data = state.encode({"a": noise}, format="msgpack")
    ends = [*range(0, 9_000, 3), 9_000, 9_000, 50_000, len(data)]
    packed = b"".join(pack(data[start:end]) for start, end in itertools.pairwise(ends))
    assert state.decode(packed) == {"a": noise}
    for missing in (1, 4096, 30_000):
        with pytest.raises(StateFormatError, match="cut short"):
            state.decode(packed[:-missing])


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_compressed_bytes_count_too(pack):
    """More compressed bytes than allowed are refused, even where they expand to less."""
    data = pack(state.encode({})) + pack(b"") * 100
    assert state.decode(data, max_size=len(data)) == {}
    with pytest.raises(StateFormatError, match="larger than"):
        state.decode(data, max_size=len(data) - 1)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_bomb_is_refused(pack):
    """Compressed data that expands beyond the bound is refused, and one at the bound is not."""
    data = state.encode({"a": "x" * 1_000_000})
    assert state.decode(pack(data), max_size=len(data)) == {"a": "x" * 1_000_000}
    with pytest.raises(StateFormatError, match="expands to more than"):
        state.decode(pack(data), max_size=len(data) - 1)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, {"b": object()}]}, r"state\['a'\]\[1\]\['b'\]: a builtins.object"),
        ({"a": "\ud800"}, r"state\['a'\]: the text has half a surrogate pair"),
        ({10**5000: object()}, "state.<int with a huge integer>.: a builtins.object"),
        ([fractions.Fraction(1, 2**65536)], r"state\[0\]: a fraction of integers of more than 65536 bits"),
        ({"\udfff": 1}, "state: the text has half a surrogate pair"),
        ([numpy.array([object()])], r"state\[0\]: an array of object"),
        ([type("Named", (str,), {})("x")], r"state\[0\]: a .*Named"),
    ],
)
def test_what_is_no_plain_data_is_named_by_its_path(value, path):
    """A value that a state cannot hold is refused, with the path to it."""
    with pytest.raises(StateError, match=path):
        state.encode(value)


@pytest.mark.parametrize("format", FORMATS)
def test_nesting_has_a_bound_when_written(format):
    """A state that is too deep, or that holds itself, is refused with StateError by every format."""
    deep = []
    for _ in range(100_000):
        deep = [deep]
    circle = []
    circle.append(circle)
    for value in (deep, circle):
        with pytest.raises(StateError, match="nested deeper than 100 levels"):
            state.encode(value, format=format)


@pytest.mark.parametrize("leaf", [1, b"1", 1j, numpy.arange(3)])
@pytest.mark.parametrize(("format", "levels"), [("json", 100), ("msgpack", 100), ("etf", 100), ("protobuf", 45)])
def test_the_deepest_state_comes_back(format, levels, leaf):
    """A state of as many levels as the format allows is written and read, whatever stands at its bottom."""
    value = leaf
    for _ in range(levels):
        value = [value]
    assert same(value, state.decode(state.encode(value, format=format)))


def test_unknown_names_are_refused():
    """A format or compression that does not exist is a UsageError that lists those that do."""
    with pytest.raises(UsageError, match="json, msgpack, protobuf, etf, dspy"):
        state.encode({}, format="pickle")
    with pytest.raises(UsageError, match="plain, gzip, zstd"):
        state.encode({}, compression="rar")
