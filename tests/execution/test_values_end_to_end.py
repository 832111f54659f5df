"""Every kind of value goes into a guest and comes back the same."""

import datetime as dt
import decimal
import fractions
import math
import pathlib
import uuid
import zoneinfo

import pytest

from dspex import CodeExecutor, ResourceLimits, SecurityPolicy

VALUES = {
    "none": None,
    "bools": [True, False],
    "ints": [0, -1, 2**53 + 1, 2**64, -(10**400)],
    "floats": [0.1, -0.0, 1e308, 5e-324, math.inf, -math.inf],
    "text": "caf\u00e9 \U0001f600 \0 \r\n \ud800 ~dict",
    "bytes": [b"", bytes(range(256)), b"x" * 10**6],
    "list": [1, [2, [3, []]]],
    "tuple": (1, (2,), ()),
    "dict": {"a": 1, "~set": [1], 2: "b", (1, 2): None, None: 0, 1.5: {}, frozenset({1}): 1, b"k": 2},
    "set": {1, "a", (2, 3), frozenset({4})},
    "frozenset": frozenset({1, 2}),
    "complex": [1 + 2j, complex(math.inf, -0.0)],
    "decimal": [decimal.Decimal("1.50"), decimal.Decimal("-0"), decimal.Decimal("Infinity"), decimal.Decimal("1E+400")],
    "fraction": fractions.Fraction(-22, 7),
    "dates": [dt.date(2024, 2, 29), dt.time(1, 2, 3, 4), dt.timedelta(days=-1, microseconds=5), dt.datetime(1, 1, 1)],
    "aware": [
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3.5))),
    ],
    "uuid": uuid.UUID(int=2**127 + 1),
    "path": pathlib.Path("/a/b c"),
    "nested": {"k": [(1, {2}), {"d": dt.date(2024, 1, 1)}], "l": [{}] * 100},
}


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


@pytest.fixture(scope="module")
def scientific():
    pytest.importorskip("numpy")
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    with CodeExecutor(policy=SecurityPolicy(packages=("numpy", "pandas", "polars")), max_concurrency=1) as shared:
        yield shared


@pytest.mark.parametrize("name", VALUES)
def test_value_goes_in_and_comes_back_the_same(executor, name):
    """A variable that the program returns is equal to what was given, also its repr."""
    value = VALUES[name]
    result = executor.execute("x", {"x": value})
    assert result.unwrap() == value
    if name not in ("set", "dict"):
        assert repr(result.value) == repr(value)


@pytest.mark.parametrize("name", VALUES)
def test_guest_sees_the_value_itself(executor, name):
    """In the guest the variable is of the same type, with the same content."""
    value = VALUES[name]
    if name in ("set", "dict"):
        assert executor.execute("type(x).__name__", {"x": value}).value == type(value).__name__
    else:
        assert executor.execute("repr(x)", {"x": value}).value == repr(value)


def test_nan_survives(executor):
    """Not-a-number is not a number on both sides."""
    found = executor.execute("[x, x != x]", {"x": math.nan}).value
    assert math.isnan(found[0])
    assert found[1] is True


def test_zone_survives(executor):
    """A datetime keeps its zone by name, and its fold."""
    moment = dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1)
    found = executor.execute("x", {"x": moment}).unwrap()
    assert (found, found.fold, str(found.tzinfo)) == (moment, 1, "Europe/Berlin")


@pytest.mark.parametrize(
    "code",
    ["object()", "lambda: 1", "open('f', 'w')", "(n for n in 'ab')", "type", "import_ = __import__('os')\nimport_"],
)
def test_value_that_cannot_be_carried_is_described(executor, code):
    """What is no data gives value None with its repr and its type."""
    result = executor.execute(code)
    assert (result.ok, result.value) == (True, None)
    assert result.value_repr
    assert result.value_type


@pytest.mark.parametrize(
    "body",
    [
        "def __repr__(self): raise ValueError",
        "def __repr__(self): return 5",
        "def __repr__(self): return 'x' * 10**9",
        "def __repr__(self): raise SystemExit",
        "__class__ = property(lambda self: 1 / 0)",
        "def __getattribute__(self, name): raise RuntimeError",
        "def __del__(self): import os; os._exit(9)",
    ],
)
def test_hostile_object_is_described_or_fails_alone(executor, body):
    """An object whose methods misbehave ends in a description or an error of this run."""
    result = executor.execute(f"class Bad:\n    {body}\nBad()", timeout=20)
    assert result.value is None
    assert len(result.value_repr or "") < 100_000
    assert executor.execute("1").value == 1


@pytest.mark.parametrize(
    "code", ["x = []\nx.append(x)\nx", "x = {}\nx['x'] = x\nx", "x = []\nfor _ in range(10**5): x = [x]\nx"]
)
def test_value_without_end_is_an_error_or_described(executor, code):
    """Cycles and endless nesting are told, and end nobody but the run."""
    result = executor.execute(code)
    assert result.value is None
    assert result.value_repr or result.error


def test_subclasses_arrive_as_the_builtin(executor):
    """A subclass of a container arrives as the container, and names its class."""
    result = executor.execute("import collections\ncollections.OrderedDict(a=1)")
    assert (result.value, type(result.value)) == ({"a": 1}, dict)
    assert result.value_type == "collections.OrderedDict"


@pytest.mark.parametrize("size", [10, 1 << 10, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 20 << 20])
def test_buffers_of_any_size_cross(executor, size):
    """Small buffers go inline, large ones in a memory file, both ways, in `execute` as in a session."""
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert executor.execute("x[::-1]", {"x": data}).unwrap() == data[::-1]
    with executor.session() as session:
        for _ in range(2):
            assert session.execute("x[::-1]", {"x": data}).unwrap() == data[::-1]


@pytest.mark.parametrize(
    "kind", ["i1", "<i8", ">i4", "u2", "f2", "f4", "f8", "c16", "?", "M8[ns]", "m8[s]", "S5", "U3"]
)
def test_numpy_arrays_cross(scientific, kind):
    """Arrays keep dtype, shape and content, small and large."""
    numpy = pytest.importorskip("numpy")
    for count in (0, 12, 120_000):
        array = (numpy.arange(count) % 100).astype(kind).reshape(-1, 3, 2)
        found = scientific.execute("x", {"x": array}).unwrap()
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()


def test_numpy_arrays_that_are_not_contiguous_cross(scientific):
    """Views with strides and transposed arrays arrive with the same elements."""
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100_000.0).reshape(100, 1000)[::2, ::-3]
    assert (scientific.execute("x.T", {"x": array}).unwrap() == array.T).all()


def test_frames_cross(scientific):
    """pandas and polars frames keep columns, types and index."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, math.nan]}, index=[10, 20])
    pandas.testing.assert_frame_equal(scientific.execute("x", {"x": frame}).unwrap(), frame)
    other = polars.DataFrame({"a": [1, 2], "b": ["x", None], "c": [[1], [2, 3]]})
    assert scientific.execute("x", {"x": other}).unwrap().equals(other)


def test_arrays_the_guest_keeps_mapped_are_safe(scientific):
    """An array that came from a loan can be changed by the host's own code or is read-only, and stays as it was."""
    found = scientific.execute("import numpy\nnumpy.arange(200_000)").unwrap()
    assert int(found.sum()) == 199_999 * 100_000


def test_an_array_larger_than_the_disk_comes_back_whole():
    """The limit of files does not bound what crosses in memory files."""
    numpy = pytest.importorskip("numpy")
    limits = ResourceLimits(disk=1 << 20, value="64MiB")
    with CodeExecutor(policy=SecurityPolicy(packages=("numpy",)), limits=limits) as executor:
        array = numpy.arange(1_000_000, dtype="f8")
        told = executor.execute("array * 2", {"array": array}).unwrap()
        assert (told == array * 2).all()
