"""Arrays and frames taken apart into plain data and flat arrays, and put together again; for host and guest alike.

Theory of operation. Every frame becomes columns, every column one of a few kinds, each a dict of numpy arrays and plain
data; an array becomes a dtype's name, a shape and its bytes. Nothing is pickled and no reader of Arrow, npy or Polars
runs. The functions that put together trust nothing: a dtype is looked up by a pattern, lengths and offsets are
compared, strings must be UTF-8. Whatever is wrong raises an ordinary exception, which the caller translates.

numpy, pandas and polars are imported only when data of that kind arrives (`ImportError` with the reason if they are
missing); what is taken apart has imported them already.

Kinds of columns (`values`, `mask`, `codes`, `data`, `offsets` are arrays of one dimension; `mask` is true where a value
is missing):

    plain     values                              a numpy dtype as it is
    masked    values, mask                        pandas' nullable integers, floats and booleans
    text      data, offsets, mask | None, dtype   UTF-8, one behind the other; offsets has one more than there are rows
    zoned     values (UTC), zone                  zone: a key such as Europe/Berlin, or a timedelta
    category  codes, categories, ordered          categories: a column; code -1 is missing
    objects   items                               a list of any values that can be carried
    physical  values, mask | None, dtype          Polars' numbers, and its dates and times as numbers
"""

from __future__ import annotations

import datetime
import functools
import importlib
import itertools
import re
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Parts = dict[str, Any]

_UNIT: Final = r"(?:\[[1-9]?[0-9]{0,5}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
_DTYPE: Final = re.compile(
    rf"[<>|=](?:b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|[mM]8{_UNIT}|[SU][1-9][0-9]{{0,8}})", re.ASCII
)
_ZONE: Final = re.compile(r"[A-Za-z0-9_+\-]{1,40}(?:/[A-Za-z0-9_+\-]{1,40}){0,2}", re.ASCII)
_MASKED: Final = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)) | {
    "Float32",
    "Float64",
    "boolean",
}


_POLARS_DEPTH: Final = 16  # levels of a Polars dtype: its Rust recurses without a bound of its own
_PATIENCE: Final = 100  # names of zones that may be unknown before all names are listed
MOST_PARTS: Final = 50_000  # of one value, by `count_parts`; each takes some 0.1 ms to build


class NotCarried(Exception):  # noqa: N818  (it is a verdict on a value, told to the user in words)
    """A value cannot cross the wall; the text says which and why."""


def need(package: str) -> Any:
    """The module `package`; raises `ImportError` that says what it was needed for."""
    found = sys.modules.get(package)
    if found is not None:
        return found
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"the value holds {package} data, and {package} is not installed here", name=package
        ) from error


_unknown_zones: set[str] = set()


def zone_named(key: str) -> datetime.tzinfo | None:
    """The time zone of that name, None if there is none here."""
    if not _ZONE.fullmatch(key) or key in _unknown_zones:
        return None
    if len(_unknown_zones) >= _PATIENCE and key not in _all_zones():  # to look for each in the file system is slow
        return None
    try:
        return need("zoneinfo").ZoneInfo(key)  # type: ignore[no-any-return]
    except (KeyError, ValueError, OSError):  # not found; not a zone's file; a folder of zones
        _unknown_zones.add(key)
        return None


@functools.cache
def _all_zones() -> frozenset[str]:
    return frozenset(need("zoneinfo").available_timezones())


def zone_key(zone: object) -> str | None:
    """The name by which the other side finds this time zone (zoneinfo's and pytz's have one), or None."""
    key = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return str.__str__(key) if isinstance(key, str) and _ZONE.fullmatch(key) else None


def check_spread(keys: Iterable[Any]) -> None:
    """Raise `ValueError` if many of the keys share a hash, as made to let a dict or set take quadratic time."""
    counts: dict[int, int] = {}
    total = 0
    for value in map(hash, keys):
        counts[value] = counts.get(value, 0) + 1
        total += 1
    if len(counts) < total and sum(n * n for n in counts.values()) > 10_000 + 100 * total:
        raise ValueError("too many keys share a hash")


# --- Arrays --------------------------------------------------------------------------------------------------------


def array_parts(array: Any) -> Parts:
    """{dtype, shape, data: memoryview of bytes}, of object arrays {dtype: "object", shape, items}."""
    numpy = sys.modules["numpy"]
    if type(array).__name__ == "MaskedArray":
        raise NotCarried("a masked array cannot be carried; take its .filled() values")
    array = numpy.asarray(array)
    shape = list(array.shape)
    if array.dtype.kind == "O":
        return {"dtype": "object", "shape": shape, "items": array.reshape(-1).tolist()}
    if not _DTYPE.fullmatch(array.dtype.str):
        raise NotCarried(f"an array of dtype {array.dtype} cannot be carried")
    flat = numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)
    return {"dtype": array.dtype.str, "shape": shape, "data": memoryview(flat)}


def build_array(dtype: str, shape: list[int], data: Any) -> Any:
    """The array of `data`, whose size must be exactly right; it shares writable, aligned memory, else copies."""
    numpy = need("numpy")
    if type(dtype) is not str or not _DTYPE.fullmatch(dtype):
        raise ValueError("an array of unknown dtype")
    kind = numpy.dtype(dtype)
    if _product(shape) * kind.itemsize != len(data):
        raise ValueError("an array's shape does not fit its data")
    array = numpy.frombuffer(data, kind) if len(data) else numpy.empty(0, kind)
    if not (array.flags.writeable and array.flags.aligned):
        array = array.copy()
    _check_patterns(array, numpy)
    return array.reshape(shape)


def build_objects(shape: list[int], items: list[Any]) -> Any:
    """The array of dtype object that holds `items` in that shape."""
    numpy = need("numpy")
    if type(items) is not list or _product(shape) != len(items):
        raise ValueError("an array's shape does not fit its items")
    return _object_array(items, numpy).reshape(shape)


def _product(shape: list[int]) -> int:
    if type(shape) is not list or len(shape) > 32:
        raise ValueError("an array's shape is no list of at most 32 numbers")
    total = 1
    for length in shape:
        if type(length) is not int or not 0 <= length < 1 << 40:
            raise ValueError("an array's shape holds something other than lengths")
        total *= length
    return total


def _check_patterns(array: Any, numpy: Any) -> None:
    """Not every byte pattern is a bool or a character; numpy itself would take any."""
    if array.dtype.kind == "b" and array.size and array.view(numpy.uint8).max() > 1:
        raise ValueError("an array of bool holds something else")
    if array.dtype.kind == "U" and array.size:
        points = array.view(numpy.dtype(numpy.uint32).newbyteorder(array.dtype.byteorder))
        if points.max() > 0x10FFFF:
            raise ValueError("an array of str holds something else")


def _object_array(items: list[Any], numpy: Any) -> Any:
    array = numpy.empty(len(items), object)
    for place, item in enumerate(items):  # a slice assignment would spread lists over dimensions
        array[place] = item
    return array


# --- Text columns --------------------------------------------------------------------------------------------------


def _text_parts(strings: list[str]) -> Parts:
    numpy = need("numpy")
    joined = "".join(strings)
    if joined.isascii():
        data, lengths = joined.encode(), map(len, strings)
    else:
        encoded = [text.encode("utf-8", "surrogatepass") for text in strings]
        data, lengths = b"".join(encoded), map(len, encoded)
    offsets = numpy.zeros(len(strings) + 1, numpy.int64)
    numpy.cumsum(numpy.fromiter(lengths, numpy.int64, len(strings)), out=offsets[1:])
    return {"data": numpy.frombuffer(data, numpy.uint8), "offsets": offsets}


def _build_text(column: Parts) -> list[str | None]:
    numpy = need("numpy")
    data, offsets = _flat(column["data"], numpy, "u"), _flat(column["offsets"], numpy, "i")
    if data.itemsize != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(data):
        raise ValueError("a text column's offsets do not fit its data")
    if (offsets[1:] < offsets[:-1]).any():
        raise ValueError("a text column's offsets go backwards")
    raw, bounds = data.tobytes(), itertools.pairwise(offsets.tolist())
    if raw.isascii():
        whole = raw.decode("ascii")
        strings = [whole[start:end] for start, end in bounds]
    else:
        strings = [raw[start:end].decode("utf-8", "surrogatepass") for start, end in bounds]
    mask = _mask(column, len(strings), numpy)
    return strings if mask is None else [None if m else s for s, m in zip(strings, mask.tolist(), strict=True)]


def _flat(array: Any, numpy: Any, kinds: str) -> Any:
    """`array`, which must be a numpy array of one dimension and of one of these kinds."""
    if type(array) is not numpy.ndarray or array.ndim != 1 or array.dtype.kind not in kinds:
        raise ValueError("a column's array is of the wrong kind")
    return array


def _mask(column: Parts, length: int, numpy: Any) -> Any:
    if column["mask"] is None:
        return None
    mask = _flat(column["mask"], numpy, "b")
    if len(mask) != length:
        raise ValueError("a column's mask is of another length than its values")
    return mask


# --- Both libraries ------------------------------------------------------------------------------------------------


def frame_parts(frame: Any) -> Parts:
    """A DataFrame of pandas or Polars as {library, columns, labels or names, index}."""
    if _is_polars(frame):
        columns = [_polars_column(column) for column in frame.get_columns()]
        return {"library": "polars", "names": list(frame.columns), "columns": columns}
    columns = [_pandas_column(frame.iloc[:, place]) for place in range(frame.shape[1])]
    labels, index = _index_parts(frame.columns), _index_parts(frame.index)
    return {"library": "pandas", "labels": labels, "index": index, "columns": columns}


def series_parts(series: Any) -> Parts:
    """A Series of pandas or Polars as {library, name, column, index}."""
    if _is_polars(series):
        return {"library": "polars", "name": series.name, "column": _polars_column(series)}
    index = _index_parts(series.index)
    return {"library": "pandas", "name": series.name, "index": index, "column": _pandas_column(series)}


def count_parts(parts: Parts) -> int:
    """What a frame or series costs to build, in columns."""
    return 5 + len(parts.get("columns", ()))


def build_frame(parts: Parts) -> Any:
    """The DataFrame that `frame_parts` took apart."""
    if parts["library"] == "polars":
        polars, names = need("polars"), parts["names"]
        columns = [_build_polars(n, c) for n, c in zip(names, parts["columns"], strict=True)]
        return polars.DataFrame(columns)
    pandas = _only(parts["library"], "pandas")
    index, labels = _build_index(parts["index"]), _build_index(parts["labels"])
    columns = [_as_series(_build_pandas(column), index, pandas) for column in parts["columns"]]
    if len(columns) != len(labels):
        raise ValueError("a frame has another number of labels than of columns")
    frame = pandas.DataFrame(dict(enumerate(columns)), index=index)
    frame.columns = labels
    return frame


def build_series(parts: Parts) -> Any:
    """The Series that `series_parts` took apart."""
    if parts["library"] == "polars":
        return _build_polars(parts["name"], parts["column"])
    pandas = _only(parts["library"], "pandas")
    series = _as_series(_build_pandas(parts["column"]), _build_index(parts["index"]), pandas)
    series.name = parts["name"]
    return series


def _is_polars(value: Any) -> bool:
    return any(base.__module__.startswith("polars.") for base in type(value).__mro__)


def _only(library: object, allowed: str) -> Any:
    if library != allowed:
        raise ValueError("a frame of an unknown library")
    return need(allowed)


# --- pandas --------------------------------------------------------------------------------------------------------


def _pandas_column(series: Any) -> Parts:
    pandas, numpy = sys.modules["pandas"], sys.modules["numpy"]
    dtype = series.dtype
    if isinstance(dtype, numpy.dtype):
        if dtype.kind != "O":
            return {"kind": "plain", "values": series.to_numpy()}
    elif dtype.name in _MASKED:
        mask = series.isna().to_numpy(bool)
        values = series.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        return {"kind": "masked", "values": values, "mask": mask}
    elif isinstance(dtype, pandas.StringDtype):
        return _pandas_text(series)
    elif isinstance(dtype, pandas.DatetimeTZDtype):
        zone = zone_key(dtype.tz) or dtype.tz.utcoffset(None)
        values = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return {"kind": "zoned", "values": values, "zone": zone if zone is not None else "UTC"}
    elif isinstance(dtype, pandas.CategoricalDtype):
        categories = _pandas_column(pandas.Series(dtype.categories))
        codes = series.cat.codes.to_numpy()
        return {"kind": "category", "codes": codes, "categories": categories, "ordered": bool(dtype.ordered)}
    return {"kind": "objects", "items": series.tolist()}


def _pandas_text(series: Any) -> Parts:
    mask, items = series.isna().to_numpy(bool), series.tolist()
    missing = bool(mask.any())
    if missing:
        items = ["" if absent else item for item, absent in zip(items, mask.tolist(), strict=True)]
    name = "str" if str(series.dtype) == "str" else "string"
    return {"kind": "text", **_text_parts(items), "mask": mask if missing else None, "dtype": name}


def _index_parts(index: Any) -> Parts:
    pandas = sys.modules["pandas"]
    if isinstance(index, pandas.MultiIndex):
        levels = [_pandas_column(pandas.Series(index.get_level_values(n))) for n in range(index.nlevels)]
        return {"kind": "multi", "levels": levels, "names": list(index.names)}
    if isinstance(index, pandas.RangeIndex):
        return {"kind": "range", "range": [index.start, index.stop, index.step], "name": index.name}
    return {**_pandas_column(pandas.Series(index)), "name": index.name}


def _build_index(parts: Parts) -> Any:
    pandas = need("pandas")
    if parts["kind"] == "multi":
        levels = [_hashed(_build_pandas(level)) for level in parts["levels"]]
        return pandas.MultiIndex.from_arrays(levels, names=parts["names"])
    if parts["kind"] == "range":
        if any(type(number) is not int for number in parts["range"]):
            raise ValueError("a range of something other than integers")
        steps = range(*parts["range"])
        if len(steps) >= 1 << 31 or abs(steps.start) >> 62:
            raise ValueError("a range that is too long")
        return pandas.RangeIndex(steps, name=parts["name"])
    values = _hashed(_build_pandas(parts))
    return pandas.Index(values, dtype=values.dtype, name=parts["name"], tupleize_cols=False)


def _hashed(values: Any) -> Any:
    """`values` for use as keys, which hashes them."""
    if values.dtype.kind == "O":
        check_spread(values.tolist())
    return values


def _as_series(values: Any, index: Any, pandas: Any) -> Any:
    if len(values) != len(index):
        raise ValueError("a column is of another length than the index")
    return pandas.Series(values, index=index, dtype=values.dtype)


def _build_pandas(column: Parts) -> Any:
    """A numpy array or one of pandas' own."""
    return _PANDAS[column["kind"]](column, need("pandas"), need("numpy"))


def _plain(column: Parts, _: Any, numpy: Any) -> Any:
    return _flat(column["values"], numpy, "biufcmMSU")


def _masked(column: Parts, pandas: Any, numpy: Any) -> Any:
    values = _flat(column["values"], numpy, "biuf")
    family = {"b": "BooleanArray", "f": "FloatingArray"}.get(values.dtype.kind, "IntegerArray")
    return getattr(pandas.arrays, family)(values, _mask(column, len(values), numpy))


def _text(column: Parts, pandas: Any, numpy: Any) -> Any:
    strings = _build_text(column)
    if column["dtype"] == "str":
        return pandas.array(strings, dtype=pandas.StringDtype(na_value=numpy.nan))
    return pandas.array(strings, dtype=pandas.StringDtype())


def _zoned(column: Parts, pandas: Any, numpy: Any) -> Any:
    values, zone = _flat(column["values"], numpy, "M"), column["zone"]
    tz = datetime.timezone(zone) if isinstance(zone, datetime.timedelta) else zone_named(zone)
    return pandas.DatetimeIndex(values).tz_localize("UTC").tz_convert(tz or "UTC").array


def _category(column: Parts, pandas: Any, numpy: Any) -> Any:
    categories = _hashed(_build_pandas(column["categories"]))
    dtype = pandas.CategoricalDtype(pandas.Index(categories, dtype=categories.dtype), column["ordered"] is True)
    return pandas.Categorical.from_codes(_flat(column["codes"], numpy, "i"), dtype=dtype)


def _objects(column: Parts, _: Any, numpy: Any) -> Any:
    if type(column["items"]) is not list:
        raise ValueError("a column's items are no list")
    return _object_array(column["items"], numpy)


_PANDAS: Final[dict[str, Callable[[Parts, Any, Any], Any]]] = {
    "plain": _plain,
    "masked": _masked,
    "text": _text,
    "zoned": _zoned,
    "category": _category,
    "objects": _objects,
}


# --- Polars --------------------------------------------------------------------------------------------------------

_FIXED: Final = frozenset(
    f"{family}{bits}" for family, sizes in {"Int": (8, 16, 32, 64), "UInt": (8, 16, 32, 64), "Float": (32, 64)}.items()
    for bits in sizes
) | {"Boolean", "Date", "Time", "Datetime", "Duration"}  # fmt: skip
_SIMPLE: Final = (_FIXED | {"String", "Binary", "Null", "Categorical", "Int128"}) - {"Datetime", "Duration"}


def _polars_column(series: Any) -> Parts:
    polars, dtype = sys.modules["polars"], _dtype_parts(series.dtype)
    name = dtype if isinstance(dtype, str) else dtype[0]
    mask = series.is_null().to_numpy() if series.null_count() else None
    if name in _FIXED:
        numbers = series.to_physical()
        if mask is not None:
            numbers = numbers.fill_null(False if name == "Boolean" else 0)
        return {"kind": "physical", "values": need("numpy").asarray(numbers.to_numpy()), "mask": mask, "dtype": dtype}
    if name in ("String", "Categorical", "Enum"):
        strings = series.cast(polars.String).fill_null("").to_list()
        return {"kind": "text", **_text_parts(strings), "mask": mask, "dtype": dtype}
    return {"kind": "objects", "items": _rows(series, name), "dtype": dtype}


def _rows(series: Any, name: str) -> list[Any]:
    if name == "Object":
        raise NotCarried("a Polars column of dtype Object cannot be carried")
    return series.to_list()  # type: ignore[no-any-return]


def _dtype_parts(dtype: Any, depth: int = 0) -> Any:
    """A Polars dtype as a name, or as [name, arguments]. An Array travels as a List."""
    if depth > _POLARS_DEPTH:
        raise NotCarried(f"a Polars column nested more than {_POLARS_DEPTH} levels deep cannot be carried")
    name = type(dtype).__name__ if not isinstance(dtype, type) else dtype.__name__
    if name in ("Datetime", "Duration"):
        return [name, dtype.time_unit, *([dtype.time_zone] if name == "Datetime" else [])]
    if name in ("List", "Array"):
        return ["List", _dtype_parts(dtype.inner, depth + 1)]
    if name == "Struct":
        return [name, [[field.name, _dtype_parts(field.dtype, depth + 1)] for field in dtype.fields]]
    if name == "Decimal":
        return [name, dtype.precision, dtype.scale]
    if name == "Enum":
        return [name, dtype.categories.to_list()]
    if name in _SIMPLE or name == "Object":
        return name
    raise NotCarried(f"a Polars column of dtype {name} cannot be carried")


def _build_dtype(parts: Any, polars: Any, depth: int = 0) -> Any:
    if depth > _POLARS_DEPTH:
        raise ValueError("a column's dtype is nested too deeply")
    if type(parts) is str:
        if parts not in _SIMPLE:
            raise ValueError("a column of an unknown dtype")
        return getattr(polars, parts)
    name, *arguments = parts
    if name == "List":
        return polars.List(_build_dtype(arguments[0], polars, depth + 1))
    if name == "Struct":
        return polars.Struct(
            [polars.Field(field, _build_dtype(inner, polars, depth + 1)) for field, inner in arguments[0]]
        )
    if name not in ("Datetime", "Duration", "Decimal", "Enum"):
        raise ValueError("a column of an unknown dtype")
    return getattr(polars, name)(*arguments)


_ROWS: Final = frozenset(
    (
        "NoneType",
        "bool",
        "int",
        "float",
        "str",
        "bytes",
        "list",
        "dict",
        "Decimal",
        "date",
        "datetime",
        "time",
        "timedelta",
    )
)


def _check_rows(items: list[Any]) -> None:
    """Polars looks into whatever it is given, at any depth: let it have what its own columns hold only."""
    if type(items) is not list:
        raise ValueError("a column's items are no list")
    level: list[Any] = items
    for _ in range(_POLARS_DEPTH + 2):
        kinds = set(map(type, level))
        if not {kind.__name__ for kind in kinds} <= _ROWS:
            raise ValueError("a column's items are not what Polars holds")
        below = [x for x in level if type(x) is list] + [list(x.values()) for x in level if type(x) is dict]
        level = list(itertools.chain.from_iterable(below))
        if not level:
            return
    raise ValueError("a column's items are nested too deeply")


def _build_polars(name: str, column: Parts) -> Any:
    polars, numpy = need("polars"), need("numpy")
    if type(name) is not str:
        raise ValueError("a column whose name is no str")
    dtype = _build_dtype(column["dtype"], polars)
    if column["kind"] == "text":
        return polars.Series(name, _build_text(column), dtype=polars.String).cast(dtype)
    if column["kind"] == "objects":
        _check_rows(column["items"])
        return polars.Series(name, column["items"], dtype=dtype)
    values = _flat(column["values"], numpy, "biuf")
    mask, series = _mask(column, len(values), numpy), polars.Series(name, values)
    if mask is not None:
        series = series.set(polars.Series(mask), None)
    return series.cast(dtype)
