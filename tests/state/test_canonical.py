"""The canonical form: equal states have equal bytes, on every machine and in every process."""

import datetime as dt
import os
import pathlib
import subprocess
import sys

import msgspec
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex import state
from dspex.errors import StateFormatError
from state.states import EVERYTHING, states

relaxed = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(value=states)
def test_the_canonical_form_comes_back(value):
    """Every state is read from its canonical form, and has it again."""
    data = state.canonical(value)
    assert state.canonical(state.from_canonical(data)) == data


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    if isinstance(value, list | tuple):
        return type(value)(map(reordered, value))
    return value


@relaxed
@given(value=states)
def test_the_order_of_keys_is_no_part_of_it(value):
    """A state whose dicts are in another order has the same canonical form."""
    assert state.content_id(reordered(value)) == state.content_id(value)


@pytest.mark.parametrize(
    "values",
    [
        [1, 1.0, True, "1", b"1", [1], (1,), {1}, frozenset({1}), {1: None}, {"1": None}, numpy.array(1)],
        [0.0, -0.0, 0, False, None, "", b"", [], (), {}, set()],
        [{0: 1}, {"0": 1}, {(0,): 1}],
        [{"$int": "0x1"}, {"int": "0x1"}, 1],
        [dt.datetime(2024, 1, 1), dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)],
        [numpy.zeros(2, "f4"), numpy.zeros(2, "f8"), numpy.zeros((2, 1), "f4"), numpy.zeros(2, "i4")],
        ["é", "e\u0301"],
    ],
)
def test_what_differs_has_another_name(values):
    """Values of other types, -0.0 and 0.0, text in other normal forms: all have names of their own."""
    assert len({state.content_id(value) for value in values}) == len(values)


def test_layout_in_memory_is_no_part_of_it():
    """An array has one name, whatever its byte order and strides."""
    array = numpy.arange(6, dtype="<i4").reshape(2, 3)
    for other in (array.astype(">i4"), numpy.asfortranarray(array), array.repeat(2, axis=1)[:, ::2]):
        assert state.content_id(other) == state.content_id(array)


def test_names_are_the_same_in_every_process():
    """The name does not depend on the seed of hashes, by which sets are ordered."""
    source = "from dspex import state; print(state.content_id({'s': {'a', 'b', 'c', b'd', None}, 'k': {0: 1, '0': 2}}))"
    root = str(pathlib.Path(state.__file__).parents[2])
    names = {
        subprocess.run(
            [sys.executable, "-c", source],
            env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": root},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(names) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xcc\x01",  # 1 in two bytes
        b"\x82\xa1b\x01\xa1a\x02",  # keys not in their order
        b"\x82\xa1a\x01\xa1a\x01",
        b"\x01\x01",
        b"\xca\0\0\0\0",  # a 32-bit float
        b"\x81\xa4$set\x92\x02\x01",
        msgspec.msgpack.encode({"$date": "20240101"}),
        msgspec.msgpack.encode({"$float": "nan", "x": b""}),
        b"\x91" * 1000 + b"\xc0",
    ],
)
def test_only_the_canonical_form_is_read(data):
    """Other bytes for the same state, and bytes that are none, are refused."""
    with pytest.raises(StateFormatError):
        state.from_canonical(data)


@relaxed
@given(data=st.binary(max_size=60))
def test_random_bytes_are_refused_or_canonical(data):
    """Random bytes are refused, or are the canonical form of what they give."""
    try:
        value = state.from_canonical(data)
    except StateFormatError:
        return
    assert state.canonical(value) == data


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "e4ff5e7d7a7f08e9800a3e25cb774533cb20040df30b6ba10f956f9acd0eb3f7"),
        ({"b": [1, 2.5, "x"], "a": (b"y",)}, "fa32cf96379abfd166fd8b250ef858dcacb451cf1951cdbf18380df94c1112f5"),
        (EVERYTHING, "525d1ed42dda43e7cd686c36c2c92285c380e3e1f0f85aadf78422d44efb32a9"),
    ],
)
def test_the_canonical_form_never_changes(value, name):
    """The names of these states are what they were in the first version: what was stored is found under them."""
    assert state.content_id(value) == f"sha256:{name}"
