"""Values keep their type and their content across the wall, both ways; what cannot cross is named."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import os
import pathlib
import subprocess
import sys
import types
import uuid
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import VariableError
from dspex.languages import _values as host
from dspex.languages.guests import python_values as guest

LIMIT = 1 << 30


def out(value, limit=LIMIT):
    """Guest to host."""
    text, buffers, tagged = guest.encode(value, limit)
    return host.decode(text.encode(), b"".join(buffers), tagged=tagged)


def into(value):
    """Host to guest."""
    pickled, buffers = host.encode({"value": value})
    return guest.decode(pickled, buffers)["value"]


both = pytest.mark.parametrize("cross", [out, into], ids=["out", "in"])


def same(a, b):
    """Equal in type and content, -0.0, NaN and fold included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, decimal.Decimal):
        return str(a) == str(b)
    if isinstance(a, (dt.datetime, dt.time)):
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and a.tzinfo == b.tzinfo
    return a == b


points = st.characters(codec=None, exclude_categories=())
texts = st.text(points) | st.text(st.sampled_from("~\ud800\udc00😀a"))
offsets = st.integers(-86_399, 86_399).map(lambda s: dt.timezone(dt.timedelta(seconds=s)))
zones = st.sampled_from([None, dt.UTC, zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("UTC")]) | offsets
folds = st.sampled_from([0, 1])
moments = st.builds(lambda m, z, f: m.replace(tzinfo=z, fold=f), st.datetimes(), zones, folds)
times = st.builds(lambda t, z, f: t.replace(tzinfo=z, fold=f), st.times(), zones, folds)
numbers = st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.complex_numbers()
keys = st.one_of(
    st.none(), st.booleans(), numbers, texts, st.binary(max_size=20), st.decimals(allow_nan=False), st.fractions(),
    st.uuids(), moments, times, st.dates(), st.timedeltas(), texts.map(pathlib.Path), offsets,
)  # fmt: skip
nested_keys = st.recursive(keys, lambda k: st.tuples(k, k) | st.frozensets(k, max_size=3), max_leaves=4)
leaves = keys | st.decimals()
values = st.recursive(
    leaves,
    lambda v: st.lists(v, max_size=4) | st.tuples(v, v) | st.sets(nested_keys, max_size=3)
    | st.frozensets(nested_keys, max_size=3) | st.dictionaries(texts, v, max_size=4)
    | st.dictionaries(nested_keys, v, max_size=3),
    max_leaves=12,
)  # fmt: skip


@both
@settings(max_examples=400, deadline=None)
@given(value=values)
def test_values_of_every_builtin_type_cross(cross, value):
    """What arrives has the type and the content of what was sent."""
    arrived = cross(value)
    assert same(arrived, value), (arrived, value)


@both
@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 2**63, -(2**63) - 1, 2**64, 10**5000, -(10**5000), -0.0, math.inf, -math.inf, math.nan,
        1e-320,
        "", "\ud800", "\ud800\udc00", "😀", "\x00", "~int", b"", b"\x00\xff", [], (), {}, set(), frozenset(), ((),),
        {"~int": "0x1"}, {"~x": 1, "y": 2}, {"\ud800\udc00": 1}, {1: 1, "1": 2}, {(1, (2, frozenset([3]))): [None]},
        {None: 1, b"x": 2},
        [1.5, math.nan], [1, 2**70], [True, 1], [{"a": 1}, {"a": (1,)}], {"a": {"b": {1, 2}}}, complex(-0.0, math.nan),
        decimal.Decimal("1.50"), decimal.Decimal("sNaN12"), decimal.Decimal("-0E+999999"), fractions.Fraction(-1, 3),
        dt.datetime(1, 1, 1), dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.time(1, 2, 3, 4, dt.UTC, fold=1), dt.timedelta.min, dt.timedelta.max, dt.UTC,
        zoneinfo.ZoneInfo("Asia/Tokyo"),
        uuid.UUID(int=5), pathlib.Path("/a/../b"), pathlib.Path("x\udc80"), [b"a", b"", b"b" * 100_000], b"z" * 200_000,
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_awkward_values_cross(cross, value):
    """The corners of each type, exactly."""
    assert same(cross(value), value)


class Colour(enum.Enum):
    RED = "red"
    BLUE = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    A = "a"


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


@dataclasses.dataclass(frozen=True)
class Key:
    x: int


class Hostile(list):
    def __iter__(self):
        raise ZeroDivisionError

    def __len__(self):
        raise ZeroDivisionError

    def __reduce_ex__(self, _):
        raise ZeroDivisionError


class Text(str):
    __slots__ = ()

    def __str__(self):
        raise ZeroDivisionError


Pair = collections.namedtuple("Pair", "a b")
ordered = collections.OrderedDict(a=1, b=2)
ordered.move_to_end("a")


@both
@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Colour.RED, "red"), (Colour.BLUE, (1, 2)), (Level.HIGH, 3), (Name.A, "a"), ({Name.A: Level.HIGH}, {"a": 3}),
        (Point(1, [Point(2)]), {"x": 1, "y": [{"x": 2, "y": None}]}), (Pair(1, Pair(2, 3)), (1, (2, 3))),
        (collections.Counter("aab"), {"a": 2, "b": 1}), (collections.defaultdict(list, {1: [2]}), {1: [2]}),
        (ordered, {"b": 2, "a": 1}), (Hostile([1, {2}]), [1, {2}]), ({Text("k"): Text("v")}, {"k": "v"}),
        (memoryview(b"abcd")[::2], b"ac"), (pathlib.PurePosixPath("a/b"), pathlib.Path("a/b")),
        (types.new_class("B", (bytes,))(b"x"), b"x"), (types.new_class("I", (int,))(2**80), 2**80),
        (types.new_class("F", (float,))("nan"), math.nan), (types.new_class("S", (frozenset,))([1]), frozenset([1])),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_classes_cross_as_what_they_are_made_of(cross, value, arrives):
    """Enums as their value, dataclasses as dicts, subclasses as their base, without their own methods."""
    assert same(cross(value), arrives)


def test_a_bytearray_leaves_as_bytes():
    """The guest's bytearray is bytes on the host."""
    assert same(out([bytearray(b"ab")]), [b"ab"])


def test_plain_data_leaves_untagged():
    """What JSON says exactly is JSON, without buffers."""
    value = {"a": [1, 2.5, "x", None, True, {"b": []}], "c": -(2**63)}
    text, buffers, tagged = guest.encode(value, LIMIT)
    assert (json.loads(text), buffers, tagged) == (value, [], False)


def test_shared_parts_stay_shared_on_the_way_in():
    """A list that holds itself reaches the guest as such."""
    loop = [1]
    loop.append(loop)
    arrived = into(loop)
    assert arrived[1] is arrived


def contains_itself(kind):
    loop = []
    loop.extend([loop] * kind)
    return loop


def deep(levels, value=0):
    for _ in range(levels):
        value = [value]
    return value


def loop_of_dicts():
    loop = {1: 2}
    loop["me"] = loop
    return loop


@pytest.mark.parametrize(
    "value",
    [
        len, lambda: 0, int, json, range(3), (x for x in "ab"), object(), [open], {"a": {"b": print}}, {1: sys}, ...,
        contains_itself(1), contains_itself(2), contains_itself(1000), loop_of_dicts(), deep(201), deep(201, (1,)),
        deep(100_000),
        {Key(1): 2}, {Key(1)}, {(1, Key(1)): 2}, {Colour.RED: 1, "red": 2}, fractions.Fraction(1, 3**100_000),
        pathlib.PureWindowsPath("a"),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_cannot_leave_is_said_in_words(value):
    """Functions, cycles, depth and keys without hash raise NotCarried, never anything else."""
    with pytest.raises(guest.NotCarried, match=r"\w+"):
        guest.encode(value, 1 << 24)


def test_two_hundred_levels_leave():
    """The stated depth is reached, tagged or not, also with the interpreter's usual recursion limit."""
    assert out(deep(199)) == deep(199)
    value = 0
    for _ in range(190):
        value = {(1,): value}
    assert out(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "x" * 200,
        [0] * 100,
        {"k" * 200: 1},
        b"x" * 200,
        (b"x" * 150, b"y" * 60),
        10**1000,
        ["é" * 40],
        {"a" * 99: {1, "a" * 99}},
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_is_too_large_is_found(value):
    """Text and buffers count together against the limit."""
    with pytest.raises(guest.TooLarge):
        guest.encode(value, 199)
    guest.encode(value, 2000)


def test_shared_parts_count_each_time():
    """A value that is small in memory and endless in text ends as too large, quickly."""
    value = ["x" * 1000]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(guest.TooLarge):
        guest.encode(value, 1 << 20)
    with pytest.raises(guest.TooLarge):
        guest.encode((value,), 1 << 20)


class Bad:
    def __repr__(self):
        raise ZeroDivisionError


class Leaves:
    def __repr__(self):
        raise SystemExit


class Meta(type):
    def __getattribute__(cls, name):
        raise ZeroDivisionError


def test_describe_survives_any_repr():
    """A repr that raises becomes text, a long one is cut."""
    assert guest.describe(Bad()).endswith("Bad object; its repr raised ZeroDivisionError>")
    assert "SystemExit" in guest.describe(Leaves())
    assert guest.describe("x" * 9000, 100) == "'" + "x" * 98 + "…"


def test_type_name_asks_no_code_of_the_value():
    """Builtins and the program's own have no prefix; a lying metaclass is not asked."""
    own = type("Own", (), {"__module__": "__main__"})
    assert [guest.type_name(v) for v in (1, collections.Counter(), own())] == ["int", "collections.Counter", "Own"]
    assert guest.type_name(Meta("Odd", (), {"__module__": 7})()) == "Odd"


class Raises:
    x = property(lambda self: 1 / 0)


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"xs": [0, 1, 2, {"key": len}]}, "xs[3]['key']"), ({"f": lambda: 0}, "f"), ({"m": json}, "m"),
        ({"t": int}, "t"),
        ({"a": 1, "g": (x for x in "ab")}, "g"), ({"p": Point(1, {2: object()})}, "p['y'][2]"),
        ({"s": {1, open}}, "s (member"),
        ({"d": {print: 1}}, "d (key"), ({"k": {Key(1): 2}}, "k"), ({"k": [{(1, Key(1))}]}, "k[0]"), ({"e": ...}, "e"),
        ({"f": fractions.Fraction(1, 3**100_000)}, "f"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else v,
)  # fmt: skip
def test_a_variable_that_cannot_cross_is_named(variables, path):
    """VariableError says where it lies and what can cross."""
    with pytest.raises(VariableError, match="What can") as caught:
        host.encode(variables)
    assert caught.value.path.startswith(path)


def test_deep_variables_are_refused():
    """Depth beyond the interpreter's recursion is a VariableError."""
    with pytest.raises(VariableError, match="deep"):
        host.encode({"x": deep(100_000)})


def test_no_reduce_of_the_caller_is_called():
    """An object that would pickle as a call of os.system is refused."""

    class Odd:
        def __reduce__(self):
            return os.system, ("true",)

    with pytest.raises(VariableError, match="Odd"):
        host.encode({"x": Odd()})


def test_the_guest_knows_one_global_only():
    """A pickle that names any other is refused."""
    import pickle

    with pytest.raises(pickle.UnpicklingError, match="system"):
        guest.decode(pickle.dumps(os.system), [])


@pytest.mark.parametrize(
    "name",
    ["", "1a", "a b", "class", "None", "__builtins__", "__name__", "ﬁ", "x\n", 3, None, "a.b", "é" + "\u0301" + " "],
)
def test_bad_names_are_refused(name):
    """A name that the program could not use, or that hides the engine, is a VariableError."""
    with pytest.raises(VariableError, match="variable"):
        host.check_names({name: 1})


def test_good_names_pass():
    """Soft keywords, other scripts and underscores are names."""
    host.check_names(dict.fromkeys(["x", "match", "type", "_", "__x", "été", "名", "print"]))


FRESH = """
import sys
sys.path.insert(0, {folder!r})
import python_values as guest
assert not set(sys.modules) & {{"dspex", "numpy", "decimal", "uuid", "zoneinfo", "fractions"}}
assert guest.encode((1, b"x"), 100) == ('{{"~tuple":[1,{{"~bytes":[0,1]}}]}}', [b"x"], True)
"""


def test_the_guest_file_stands_alone():
    """It runs as a top-level file, and loads nothing that no value needs."""
    folder = os.path.dirname(guest.__file__)
    subprocess.run([sys.executable, "-I", "-S", "-c", FRESH.format(folder=folder)], check=True)


def test_the_host_file_loads_little():
    """Importing it brings in none of the modules that only some values need."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; import dspex.languages._values\n"
    code += "assert not set(sys.modules) & {'numpy', 'pandas', 'polars', 'decimal', 'uuid', 'zoneinfo', 'fractions'}"
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
