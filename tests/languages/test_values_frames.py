"""Arrays and frames keep dtype, shape, index and content across the wall, both ways."""

import datetime as dt
import sys

import pytest

from dspex.errors import VariableError
from dspex.languages import _values as host
from dspex.languages.guests import python_values as guest
from languages.test_values import both

numpy = pytest.importorskip("numpy")

DTYPES = [
    "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", "f2", "f4", "f8", ">f8", "longdouble", "c8", "c16",
    "M8[ns]",
    "M8[D]", "M8[25s]", "m8[us]", "m8", "S5", "U3", ">U3",
]  # fmt: skip


@both
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 5), (2, 1, 2), (40_000,)])
def test_arrays_cross(cross, dtype, shape):
    """Every dtype and shape, writable and aligned on arrival."""
    count = int(numpy.prod(shape))
    array = numpy.arange(count).astype("i8").reshape(shape).astype(dtype)
    arrived = cross([b"odd", array])[1]
    assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
    assert arrived.tobytes() == array.tobytes()
    assert arrived.flags.writeable
    assert arrived.flags.aligned


@both
def test_arrays_that_are_no_straight_memory_cross(cross):
    """Slices, transposes, Fortran order arrive with the same content."""
    base = numpy.arange(24.0).reshape(4, 6)
    for array in (base[::2, ::-1], base.T, numpy.asfortranarray(base), base[:, 1]):
        numpy.testing.assert_array_equal(cross(array), array)


@both
def test_object_arrays_cross_by_their_items(cross):
    """Lists within stay lists, in their shape."""
    array = numpy.empty((2, 2), object)
    array[0, 0], array[0, 1], array[1, 0] = [1, 2], {"a": (1,)}, "x"
    arrived = cross(array)
    assert arrived.dtype == object
    assert arrived.tolist() == array.tolist()


@both
def test_numpy_scalars_cross_as_pythons(cross):
    """Except for times that Python cannot hold, which stay numpy's."""
    scalars = [
        numpy.float64(1.5),
        numpy.int8(-3),
        numpy.bool_(True),
        numpy.str_("x"),
        numpy.bytes_(b"y"),
        numpy.complex64(1j),
    ]
    arrived = cross(scalars)
    assert [type(v) for v in arrived] == [float, int, bool, str, bytes, complex]
    assert arrived == [1.5, -3, True, "x", b"y", 1j]
    assert cross(numpy.datetime64("2020-01-02")) == dt.date(2020, 1, 2)
    fine = numpy.datetime64("2020-01-02T00:00:00.123456789")
    assert cross(fine) == fine
    assert numpy.isnat(cross(numpy.datetime64("NaT", "ns")))
    assert type(cross(numpy.longdouble(2))) is float


def test_odd_arrays_are_refused():
    """Structured and masked arrays say so, both ways."""
    for array in (numpy.zeros(2, "i4,f8"), numpy.ma.masked_array([1, 2], [0, 1]), numpy.array([open], object)):
        with pytest.raises(guest.NotCarried):
            guest.encode(array, 1 << 20)
        with pytest.raises(VariableError):
            host.encode({"a": array})


def test_a_large_array_leaves_without_a_copy():
    """The guest's buffer is the array's own memory."""
    array = numpy.zeros(1000)
    (buffer,) = guest.encode(array, 1 << 20).buffers
    array[0] = 1
    assert bytes(buffer) == array.tobytes()


def test_writable_memory_is_shared_by_the_host():
    """An array in private writable memory is not copied again."""
    text, buffers, tagged = guest.encode(numpy.arange(4.0), 1 << 20)
    memory = bytearray(b"".join(buffers))
    arrived = host.decode(text, memoryview(memory), tagged=tagged)
    arrived[0] = 7
    assert memory[:8] == numpy.float64(7).tobytes()


def pandas_frames():
    pandas = pytest.importorskip("pandas")
    zoned = pandas.date_range("2024-03-30", periods=3, tz="Europe/Berlin")
    yield "empty", pandas.DataFrame()
    yield "no columns", pandas.DataFrame(index=range(3))
    yield "no rows", pandas.DataFrame({"a": [1.5], "b": ["x"], "c": zoned[:1]}).iloc[:0]
    yield "plain", pandas.DataFrame({"a": [1, 2, 3], "b": [1.5, None, -0.0], "c": [True, False, True], 4: [1j, 2, 3]})
    yield "duplicates", pandas.DataFrame([[1, 2.5, "x"]], columns=["a", "a", "a"])
    yield "text", pandas.DataFrame({"a": ["x", None, "é\ud800😀"], "b": pandas.array(["", None, "y"], dtype="string")})
    yield "objects", pandas.DataFrame({"a": pandas.Series([1, "x", [2, (3,)]], dtype=object)})
    yield "times", pandas.DataFrame({"a": zoned, "b": zoned.tz_localize(None), "c": zoned - zoned[0]})
    yield "offset", pandas.DataFrame({"a": zoned.tz_convert(dt.timezone(dt.timedelta(hours=2)))})
    yield "utc", pandas.DataFrame({"a": zoned.tz_convert("UTC")})
    names = ["Int8", "UInt64", "Int64", "Float32", "Float64", "boolean"]
    yield "masked", pandas.DataFrame({n: pandas.array([1, None, 0], dtype=n) for n in names})
    kinds = pandas.Categorical(["b", "a", None], categories=["b", "a", "c"], ordered=True)
    yield (
        "categories",
        pandas.DataFrame({"a": kinds, "b": pandas.Categorical([3, 3, 1]), "c": pandas.Categorical(zoned)}),
    )
    yield "index", pandas.DataFrame({"a": [1, 2, 3]}, index=pandas.Index(["x", "y", "z"], name="who"))
    yield "times as index", pandas.DataFrame({"a": [1, 2, 3]}, index=pandas.DatetimeIndex(zoned.to_list(), name="when"))
    yield "range", pandas.DataFrame({"a": [1, 2, 3]}, index=pandas.RangeIndex(10, 4, -2, name="r"))
    yield "float index", pandas.DataFrame({"a": [1, 2]}, index=[0.5, float("nan")])
    yield "category index", pandas.DataFrame({"a": [1, 2, 3]}, index=pandas.CategoricalIndex(kinds))
    many = pandas.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["k", None])
    yield "levels", pandas.DataFrame({"a": [1, 2, 3]}, index=many)
    yield "levels above", pandas.DataFrame([[1, 2, 3]], columns=many)
    pairs = pandas.Index([("a", 1), ("b", 2)], tupleize_cols=False)
    yield "tuples as labels", pandas.DataFrame([[1, 2]], columns=pairs)
    yield "grouped", pandas.DataFrame({"k": ["a", "b", "a"], "v": [1, 2, 3]}).groupby("k").agg(["sum", "mean"])


@both
def test_pandas_frames_and_series_cross(cross):
    """As pandas' own comparison sees it; and each column alone as a Series."""
    for name, frame in pandas_frames():
        testing = sys.modules["pandas"].testing
        testing.assert_frame_equal(cross({"f": frame})["f"], frame, check_freq=False, obj=name)
        for place in range(frame.shape[1]):
            series = frame.iloc[:, place]
            testing.assert_series_equal(cross(series), series, check_freq=False)


@both
def test_pandas_scalars_cross(cross):
    """Timestamps and durations as Python's, what is missing as None."""
    pandas = pytest.importorskip("pandas")
    moment = pandas.Timestamp("2024-01-02 03:04:05.678", tz="Europe/Berlin")
    arrived = cross([moment, pandas.Timedelta("1s"), pandas.NaT, pandas.NA])
    assert arrived == [moment.to_pydatetime(), dt.timedelta(seconds=1), None, None]
    assert [type(v) for v in arrived[:2]] == [dt.datetime, dt.timedelta]


def test_pandas_columns_that_cannot_cross_are_refused():
    """A column of objects is no stronger than its items."""
    pandas = pytest.importorskip("pandas")
    for items in ([open], pandas.period_range("2024", periods=2), pandas.Series([{"a": [len]}])):
        with pytest.raises(guest.NotCarried):
            guest.encode(pandas.DataFrame({"a": items}), 1 << 20)
        with pytest.raises(VariableError):
            host.encode({"f": pandas.DataFrame({"a": items})})


def polars_frames():
    polars = pytest.importorskip("polars")
    yield polars.DataFrame()
    sizes = [
        polars.Int8,
        polars.UInt8,
        polars.Int16,
        polars.UInt16,
        polars.Int32,
        polars.UInt32,
        polars.Int64,
        polars.UInt64,
    ]
    kinds = [*sizes, polars.Float32, polars.Float64]
    numbers = polars.DataFrame({str(k): polars.Series([1, None, 3], dtype=k) for k in kinds})
    yield from (numbers, numbers.drop_nulls(), numbers.clear())
    yield polars.DataFrame({"a": [True, None, False], "b": ["x", None, "é😀"], "c": [b"", None, b"x"], "d": [None] * 3})
    when = [dt.datetime(2024, 1, 1), None, dt.datetime(1960, 1, 1, 5)]
    frame = polars.DataFrame(
        {"a": when, "b": [dt.date(2024, 1, 1), None, dt.date.min], "c": [dt.time(1), None, dt.time.max]}
    )
    yield frame.with_columns(
        polars.col("a").dt.replace_time_zone("Europe/Berlin").alias("z"),
        (polars.col("a") - dt.datetime(2000, 1, 1)).alias("d"),
        polars.col("a").cast(polars.Datetime("ns")).alias("n"),
    )
    names = polars.Series(["x", None, "y"])
    yield polars.DataFrame({"a": names.cast(polars.Categorical), "b": names.cast(polars.Enum(["y", "x", "z"]))})
    yield polars.DataFrame({"a": [[1, 2], None, []], "b": [{"u": 1, "v": "x"}, None, {"u": None, "v": "y"}]})
    yield polars.DataFrame({"a": polars.Series(["1.50", None], dtype=polars.String).cast(polars.Decimal(10, 2))})
    yield frame.clear()


@both
def test_polars_frames_and_series_cross(cross):
    """As Polars' own comparison sees it, dtypes included."""
    for frame in polars_frames():
        testing = __import__("polars.testing").testing
        testing.assert_frame_equal(cross([frame])[0], frame, categorical_as_str=True)
        for series in frame.get_columns():
            testing.assert_series_equal(cross(series), series, categorical_as_str=True)


def test_a_missing_package_is_named(monkeypatch):
    """The host says which; so does the guest."""
    text, buffers, tagged = guest.encode(numpy.zeros(2), 1000)
    pickled, given = host.encode({"a": numpy.zeros(2)})
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(host.NeedsPackage, match="numpy") as caught:
        host.decode(text, b"".join(buffers), tagged=tagged)
    assert caught.value.name == "numpy"
    with pytest.raises(ImportError, match="numpy"):
        guest.decode(pickled, given)


@both
def test_arrays_alone_in_small_buffers(cross):
    """Many small arrays keep their places in the buffers."""
    arrays = [numpy.full(n, n) for n in range(50)]
    assert [a.tolist() for a in cross(arrays)] == [a.tolist() for a in arrays]
