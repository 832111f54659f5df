"""Bytes that are no state, or a damaged one, raise StateFormatError and nothing else, and change nothing."""

import json
import struct
import sys

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex import state
from dspex.errors import StateFormatError
from dspex.state import _unpacked
from state.states import COMPRESSIONS, EVERYTHING, FORMATS, same

relaxed = settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
GOOD = {(f, c): state.encode(EVERYTHING, format=f, compression=c) for f in FORMATS for c in COMPRESSIONS}
STARTS = {f: GOOD[f, "plain"][:40] for f in FORMATS} | {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd", "": b""}
COLLIDING = [{"$int": hex(sys.hash_info.modulus * number)} for number in range(10, 2000)]  # all of hash 0
kinds = st.sampled_from(sorted(GOOD))


def refused(data):
    """The error of such bytes; a state is None, every other exception is the test's failure."""
    try:
        state.decode(data, source="file.x")
    except StateFormatError as error:
        found = error
    else:
        return None
    assert str(found).startswith("file.x")
    assert found.cause
    return found


@relaxed
@given(start=st.sampled_from(sorted(STARTS.values())), data=st.binary(max_size=300))
def test_random_bytes(start, data):
    """Random bytes, and such behind a good start, never do more than be refused."""
    refused(start + data)


@relaxed
@given(kind=kinds, place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit(kind, place, bit):
    """A file with one bit flipped is refused, or its content is what it was."""
    data = bytearray(GOOD[kind])
    data[int(place * len(data))] ^= 1 << bit
    if refused(bytes(data)) is None:
        assert same(EVERYTHING, state.decode(bytes(data)))


@relaxed
@given(kind=kinds, place=st.floats(0, 1, exclude_max=True))
def test_cut_short(kind, place):
    """A file cut short at any byte is refused; the newline that ends JSON holds nothing."""
    data = GOOD[kind][: int(place * len(GOOD[kind]))]
    if data.rstrip() != GOOD[kind].rstrip():
        assert refused(data)


@relaxed
@given(kind=kinds, start=st.floats(0, 1), size=st.integers(1, 30), other=st.binary(max_size=30))
def test_a_part_replaced(kind, start, size, other):
    """A file with some bytes replaced by others is refused, or its content is what it was."""
    data = GOOD[kind]
    at = int(start * len(data))
    changed = data[:at] + other + data[at + size :]
    if refused(changed) is None:
        assert same(EVERYTHING, state.decode(changed))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
        | st.builds(
            lambda tag, content: {tag: content},
            st.sampled_from([*_unpacked._UNPACKERS, "$new"]),
            inner,
        )
    ),
    max_leaves=8,
)


@relaxed
@given(header=st.just({"format": "1.0"}) | values, tree=values)
def test_forged_trees(header, tree):
    """An envelope around any tree, tags with any content, is read or refused."""
    refused(msgspec.msgpack.encode({"dspex": header, "state": tree}))


@pytest.mark.parametrize(
    "tree",
    [
        {"$int": "12"},
        {"$int": "0x" + "f" * 9 + "g"},
        {"$float": "1.5"},
        {"$fraction": [1, 0]},
        {"$fraction": [{"$int": "0x" + "f" * 40_000}, 3]},
        {"$date": "2024-13-01"},
        {"$date": 5},
        {"$timedelta": [10**12, 0, 0]},
        {"$timedelta": [1, 2]},
        {"$set": [1, 1]},
        {"$set": [[1]]},
        {"$dict": [[1, 2, 3]]},
        {"$dict": [[[], 2]]},
        {"$dict": [[0, 1], [0, 2]]},
        {"$uuid": "x"},
        {"$decimal": "x"},
        {"$bytes": "text"},
        {"$pickle": "x"},
        {"$array": {"$bytes": b""}},
        {"$array": {"dtype": "|O", "shape": [1], "data": {"$bytes": b"12345678"}}},
        {"$array": {"dtype": "<f8", "shape": [2**62, 4], "data": {"$bytes": b""}}},
        {"$array": {"dtype": "<f8", "shape": [-1], "data": {"$bytes": b"12345678"}}},
        {"$array": {"dtype": "<f8", "shape": [1], "data": {"$bytes": b"1"}}},
        {"$array": {"dtype": "|b1", "shape": [1], "data": {"$bytes": b"\2"}}},
        {"$array": {"dtype": "<M8[0s]", "shape": [1], "data": {"$bytes": b"12345678"}}},
        {"$set": COLLIDING},
        {"$frozenset": COLLIDING},
        {"$dict": [[key, 0] for key in COLLIDING]},
        {"$set": [{"$tuple": [key]} for key in COLLIDING]},
        b"bytes without a tag",
    ],
)
def test_tags_hold_what_they_must(tree):
    """A tag with content that it cannot have is refused, with the path to it."""
    data = msgspec.msgpack.encode({"dspex": {"format": "1.0"}, "state": {"here": [tree]}})
    assert refused(data).place.startswith("state['here'][0]")


def nested_messages(levels):
    """Lists in lists, of one item each, as Protocol Buffers."""
    parts, size = [], 0
    for _ in range(2 * levels - 1):
        tag = b"\x0a" if len(parts) % 2 else b"\x3a"
        parts.append(tag + _varint(size))
        size += len(parts[-1])
    return b"\x22" + _varint(size) + b"".join(reversed(parts))


def _varint(number):
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n0000",
        b"\x80\x04\x95\x00\x00\x00\x00",  # a pickle
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1} {"b": 2}',
        b'{"a": "\xff"}',
        b"[1, 2]",
        b'{"dspex": {"format": "1.0"}, "stat": {}}',
        b'{"dspex": {"format": "1"}, "state": {}}',
        b'{"dspex": {"format": "1.0", "sha512": ""}, "state": {}}',
        b'{"dspex": {"format": "1.0", "sha256": 5}, "state": {}}',
        b'{"dspex": 5, "state": {}}',
        b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}",
        b'{"a": ' + b"[" * 1_000_000,
        b"\x83" + b"l\0\0\0\1" * 1_000_000,
        b"\x83" + b"h\1" * 300 + b"j",
        b"\x83l\xff\xff\xff\xff",
        b"\x83o\xff\xff\xff\xff\0",
        b"\x83w\x05other",
        b"\x83F" + struct.pack(">d", float("nan")),
        b"\x83t\0\0\0\2m\0\0\0\1aj" + b"m\0\0\0\1aj",
        b"\x83P\0\0\0\x0fx\x9c",
        b"\x82\xa5dspex" + b"\x91" * 1_000_000,
        b"\x82\xa5dspex\x81\xa6format\xa31.0\xa5state\xdd\xff\xff\xff\xff",
        b"\x82\xa5dspex\x81\xa6format\xa31.0\xa5state\xd6\xff\0\0\0\0",  # a timestamp
        b"\x82\xa5dspex\x01\x05\x01",
        b"\x0a\x0bdspex.state" + b"\x22\x7f" * 40,
        b"\x0a\x0bdspex.state\x12\x031.0" + nested_messages(60),
        b"\x0a\x0bdspex.state\x12\x031.0" + nested_messages(10_000),
    ],
)
def test_foreign_and_crafted_bytes(data):
    """Foreign files, duplicate keys, numbers that JSON has not, and nesting without end are refused."""
    assert refused(data)


@pytest.mark.parametrize("format", FORMATS)
def test_a_key_that_stands_twice(format):
    """A key that stands twice in one map of the file is refused in every format, even without a checksum."""
    data = state.encode({"first": 1, "other": 2}, format=format).replace(b"other", b"first")
    assert "twice" in refused(data).cause


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_value_changed_by_hand(format):
    """A file whose content was changed and whose checksum was not is refused, and the error says so."""
    data = state.encode({"answer": "yes"}, format=format)
    assert "checksum" in refused(data.replace(b"yes", b"no!")).cause


def test_the_error_names_the_byte():
    """Malformed JSON names the byte where it ends to be JSON."""
    assert refused(b'{"a": 1, "b": }').place == "byte 14"


def test_looking_for_the_place_ends_soon():
    """The place of an error deep inside a tree is found without trying all 2**80 ways to it."""
    tree = {"$pickle": 1}
    for _ in range(90):
        tree = [tree]
    assert refused(json.dumps({"dspex": {"format": "1.0"}, "state": tree}).encode()).place == "state" + "[0]" * 8
