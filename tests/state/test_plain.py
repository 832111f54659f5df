"""Values of programs become plain data, without a trace of their classes."""

import collections
import dataclasses
import datetime as dt
import enum
import pathlib
import re
import types
import typing
import zoneinfo

import msgspec
import numpy
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings

from dspex import state
from dspex.errors import StateError
from state.states import EVERYTHING, same, states

MATRIX = numpy.ones((2, 2)).view(numpy.matrix)  # its constructor warns


class Colour(enum.Enum):
    RED = ("r", 1)


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()

    def __str__(self):
        return "lie"


class Count(int):
    __slots__ = ()

    def __int__(self):
        return -1


class Raw(bytes):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: int
    inner: object = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    colour: Colour
    path: pathlib.Path


class Struct(msgspec.Struct):
    names: tuple[str, ...]


class Pair(typing.NamedTuple):
    a: int
    b: Level


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, ("r", 1)),
        (Level.LOW, 1),
        (Name("x"), "x"),
        (Count(7), 7),
        (Raw(b"x"), b"x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"xy")[:1], b"x"),
        (Point(1, Point(2)), {"x": 1, "inner": {"x": 2, "inner": None}}),
        (Model(colour=("r", 1), path="a/b", more={1}), {"colour": ("r", 1), "path": "a/b", "more": {1}}),
        (Struct(("a",)), {"names": ("a",)}),
        (Pair(1, Level.LOW), (1, 1)),
        (pathlib.PurePosixPath("/a"), "/a"),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[Level.LOW]), {"a": [1]}),
        (types.MappingProxyType({Level.LOW: 1}), {1: 1}),
        (collections.deque([1]), [1]),
        (range(2), [0, 1]),
        ({"a": 1}.keys(), {"a"}),
        (numpy.float32(1.5), 1.5),
        (numpy.int64(3), 3),
        (numpy.bool_(True), True),
        (numpy.str_("x"), "x"),
        (numpy.complex64(1j), 1j),
        (numpy.datetime64("2024-01-01"), numpy.array("2024-01-01", "M8[D]")),
        (numpy.array([1, 2]), numpy.array([1, 2])),
        (numpy.timedelta64("NaT", "s"), numpy.array("NaT", "m8[s]")),
        (dt.datetime(2024, 7, 1, tzinfo=BERLIN), dt.datetime(2024, 7, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    ],
)
def test_values_of_programs(value, plain):
    """Each kind of value has this plain form, alone and inside others, and a state can hold it."""
    assert same(state.to_plain(value), plain)
    assert same(state.to_plain({"a": [value]}), {"a": [plain]})
    assert same(state.decode(state.encode(state.to_plain(value))), plain)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(value=states)
def test_plain_data_stays_as_it_is(value):
    """Plain data is its own plain form."""
    assert state.canonical(state.to_plain(value)) == state.canonical(value)


def test_nothing_mutable_is_shared():
    """Lists, dicts, sets and arrays of the copy are new."""
    value = {"list": [1], "dict": {}, "set": {1}, "array": numpy.zeros(1)}
    plain = state.to_plain(value)
    assert all(plain[key] is not value[key] for key in value)
    assert not numpy.shares_memory(plain["array"], value["array"])
    assert state.to_plain(EVERYTHING)["sets"][0] is not EVERYTHING["sets"][0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [object()]}, "value['a'][0]: a builtins.object has no plain form"),
        ({"a": Point(1, print)}, "value['a']['inner']: "),
        ([Point], "value[0]: a builtins.type has no plain form"),
        ({pathlib.PurePath("a"): 1, "a": 2}, "value: two keys, or two items of a set, become the same"),
        ({pathlib.PurePath("a"), "a"}, "value: two keys, or two items of a set, become the same"),
        (frozenset({Struct}), "value: a "),
        (dt.time(1, tzinfo=BERLIN), "no offset in the zone Europe/Berlin"),
        (numpy.longdouble(1), "value: a numpy.longdouble has no plain form"),
        (numpy.ma.array([1])[:1], "value: a numpy.ma.MaskedArray has no plain form"),
        (MATRIX, "value: a numpy.matrix has no plain form"),
        ([MATRIX[:1, :1]], "value[0]: a numpy.matrix has no plain form"),
        ((number for number in ()), "value: a builtins.generator has no plain form"),
    ],
)
def test_what_has_no_plain_form(value, message):
    """What has no plain form is refused, with the path to it."""
    with pytest.raises(StateError, match=re.escape(message)):
        state.to_plain(value)


def test_an_item_without_a_hash():
    """A frozen dataclass can be a key, but its fields as a dict cannot: it is refused."""
    kind = dataclasses.make_dataclass("Key", ["x"], frozen=True)
    with pytest.raises(StateError, match="can be none as plain data"):
        state.to_plain({kind(1): 2})


def test_what_holds_itself_is_refused():
    """A circle is refused, through lists and through dataclasses."""
    point = Point(1)
    point.inner = [point]
    with pytest.raises(StateError, match="holds itself"):
        state.to_plain(point)


def test_an_array_in_a_file_is_an_array(tmp_path):
    """A memory-mapped array becomes one in memory, with the same items."""
    mapped = numpy.memmap(tmp_path / "items", dtype="<i4", mode="w+", shape=(2, 3))
    mapped[:] = 7
    plain = state.to_plain({"items": mapped})
    assert same(plain, {"items": numpy.full((2, 3), 7, "<i4")})
    assert not numpy.shares_memory(plain["items"], mapped)
