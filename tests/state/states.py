"""States to test with: random ones, one of everything, and what it means for two to be the same."""

import datetime as dt
import decimal
import fractions
import math
import uuid

import numpy
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

FORMATS = ["json", "msgpack", "protobuf", "etf"]
COMPRESSIONS = ["plain", "gzip", "zstd"]

zones = st.none() | st.integers(-1439, 1439).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**2100), 2**2100)
    | st.floats()
    | st.complex_numbers()
    | text
    | st.binary()
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=zones)
    | st.times()
    | st.timedeltas()
)
# Keys that Python holds for equal (1, 1.0, True) would be one key: what stands in sets and keys is no number twice.
hashable = st.none() | st.integers() | text | st.binary() | st.uuids() | st.dates() | st.tuples(text, st.integers())
arrays = npst.arrays(
    npst.boolean_dtypes()
    | npst.integer_dtypes(endianness="?")
    | npst.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | npst.complex_number_dtypes(sizes=(64, 128))
    | npst.datetime64_dtypes(endianness="<")
    | npst.timedelta64_dtypes(endianness="<"),
    npst.array_shapes(min_dims=0, min_side=0, max_side=4),
)
states = st.recursive(
    scalars | arrays | st.sets(hashable) | st.frozensets(hashable),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(text, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$int", "$bytes", "$", "dspex", "state", "metadata"]), inner, max_size=2)
        | st.dictionaries(hashable, inner, max_size=4)
    ),
    max_leaves=12,
)

EVERYTHING = {
    "none": None,
    "flags": [True, False],
    "numbers": [0, -1, 2**63 - 1, -(2**63), 2**63, -(2**64), 10**400, 1.5, 5e-324, -0.0, math.inf, -math.inf, math.nan],
    "complex": complex(-0.0, math.inf),
    "text": "plain, ünïcode, 🜲, \x00, \u2028",
    "bytes": bytes(range(256)),
    "tuple": (1, (2, ()), []),
    "sets": [set(), {1, "1", b"1"}, frozenset({None, (1, 2)})],
    "keys": {0: "int", "0": "str", None: 1, b"0": 2, (1, "a"): 3},
    "looks like a tag": [{"$int": "0x1"}, {"$ref": "#/x"}, {"$bytes": "AAAA"}],
    "moments": [
        dt.datetime(2024, 2, 29, 23, 59, 59, 999999),
        dt.datetime(1, 1, 1, tzinfo=dt.UTC),
        dt.date(9999, 12, 31),
        dt.time(1, 2, 3, 4),
        dt.timedelta(-1, 5, 7),
    ],
    "exact": [decimal.Decimal("1.10"), decimal.Decimal("-0"), decimal.Decimal("NaN"), fractions.Fraction(-1, 3)],
    "uuid": uuid.UUID("12345678123456781234567812345678"),
    "arrays": [numpy.arange(6, dtype=">i4").reshape(2, 3).T, numpy.array(7.5, "f2"), numpy.zeros((0, 3), bool)],
    "": {"": {}},
}


def same(one, other):
    """Whether two states are the same in type and value: nan is nan, -0.0 is not 0.0, and 1 is not 1.0 or True."""
    if isinstance(one, numpy.ndarray):
        return (
            isinstance(other, numpy.ndarray)
            and one.shape == other.shape
            and one.dtype.newbyteorder("=") == other.dtype
            and one.astype(other.dtype).tobytes() == other.tobytes()
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same_dicts(one, other)
    if isinstance(one, float | complex | decimal.Decimal):
        return repr(one) == repr(other)
    if isinstance(one, dt.datetime | dt.time):
        return one.isoformat() == other.isoformat()
    return one == other


def same_dicts(one, other):
    """Dicts with str keys keep their order."""
    if len(one) != len(other):
        return False
    if all(isinstance(key, str) for key in one) and not next(iter(one), "").startswith("$"):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return all(key in other and same(value, other[key]) for key, value in one.items())
