"""Whatever a guest sends as its value: the host gets a value or MalformedValue, in linear time and memory."""

import json
import sys
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dspex.languages import _values as host
from dspex.languages.guests import python_frames as frames
from dspex.languages.guests import python_values as guest
from languages.test_values import values
from languages.test_values_frames import numpy, pandas_frames, polars_frames

P = (1 << 61) - 1  # the modulus of Python's numeric hashes


def try_decode(text, buffers=b"", tagged=True):
    """True if it was a value; anything raised but MalformedValue fails the test."""
    try:
        host.decode(text, buffers, tagged=tagged)
    except host.MalformedValue:
        return False
    return True


def array(dtype="<f8", shape=(1,), data=(0, 8), **more):
    return {"~array": {"dtype": dtype, "shape": list(shape), "data": list(data), **more}}


def column(kind, **parts):
    return {"kind": kind, **parts}


def series(of, library="pandas", index=None, name=None):
    index = index or {"kind": "range", "range": [0, 1, 1], "name": None}
    return {"~series": {"library": library, "name": name, "column": of, "index": index}}


def text_column(offsets, data=b"ab", more=None):
    raw = numpy.array(offsets, "<i8").tobytes()
    parts = {"data": array("|u1", [len(data)], [0, len(data)]), "mask": None, "dtype": "string"}
    parts["offsets"] = array("<i8", [len(offsets)], [len(data), len(raw)])
    return series(column("text", **parts | (more or {}))), data + raw


HOSTILE = [
    "", "{", "nul", "[1,]", "NaN", "[Infinity]", "-Infinity", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, "\ud800",
    '"\x00"',
    {"~": 1}, {"~unknown": 1}, {"~tuple": 1}, {"~tuple": None}, {"~tuple": "ab"}, {"~set": [[1]]}, {"~set": [{}]},
    {"~frozenset": {"a": 1}},
    {"~dict": 1}, {"~dict": [1]}, {"~dict": [[1]]}, {"~dict": [[1, 2, 3]]}, {"~dict": [[[], 1]]},
    {"~dict": [[1, 2], [1, 3]]}, {"~dict": {"ab": 1}},
    {"~int": "1"}, {"~int": 5}, {"~int": "0x"}, {"~int": "0x1_0"}, {"~int": " 0x1"}, {"~int": "0x1\n"}, {"~int": None},
    {"~int": "٣"},
    {"~float": "1e5"}, {"~float": 1}, {"~float": []}, {"~str": "ab"}, {"~str": [1]}, {"~complex": [1, 2]},
    {"~complex": [1.0]},
    {"~complex": ["1", "2"]}, {"~decimal": "x"}, {"~decimal": 1}, {"~decimal": [0, [1], 2]},
    {"~decimal": "1E99999999999999999999"},
    {"~fraction": [1, 0]}, {"~fraction": ["1", "2"]}, {"~fraction": [True, 2]},
    {"~fraction": [{"~int": "0x" + "f" * 40_000}, 3]},
    {"~uuid": "x"}, {"~uuid": "0" * 33}, {"~uuid": "{" + "0" * 32 + "}"}, {"~uuid": 5}, {"~path": 1}, {"~path": None},
    {"~path": ["a"]},
    {"~datetime": "2020-01-01"}, {"~datetime": ["x", None, 0]}, {"~datetime": ["2020-01-01", None, 2]},
    {"~datetime": ["2020-01-01", 5, 0]},
    {"~datetime": ["2020-01-01", None, True]}, {"~datetime": [None, None, 0]}, {"~date": "x"}, {"~date": 1},
    {"~date": "2020-02-30"},
    {"~time": "01:00"}, {"~time": ["25:00", None, 0]}, {"~timedelta": [1, 2]}, {"~timedelta": [10**10, 0, 0]},
    {"~timedelta": [1.5, 0, 0]},
    {"~timedelta": [{"~float": "nan"}, 0, 0]}, {"~timezone": [1, 0, 0]}, {"~timezone": []},
    {"~zone": "../../etc/passwd"}, {"~zone": "/etc/passwd"},
    {"~zone": "America"}, {"~zone": "No/Where"}, {"~zone": ""}, {"~zone": 5}, {"~zone": "a" * 10_000},
    {"~zone": "posixrules/.."}, {"~bytes": 1},
    {"~bytes": [0]}, {"~bytes": [0, 17]}, {"~bytes": [-1, 2]}, {"~bytes": [0, -1]}, {"~bytes": [True, 1]},
    {"~bytes": [0, False]},
    {"~bytes": [0.0, 1]}, {"~bytes": [10**30, 1]}, {"~bytes": [0, 10**30]}, {"~bytes": ["0", 1]},
    {"~bytes": {"a": 1, "b": 2}},
    [{"~bytes": [0, 8]}, {"~bytes": [7, 1]}], [{"~bytes": [8, 8]}, {"~bytes": [0, 8]}], [{"~bytes": [0, 16]}, array()],
    {"~array": 1}, {"~array": {}}, {"~array": []}, array("O"), array("|O"), array("object"), array("<f8,<f8"),
    array("f8"), array("V8"), array("|V8"),
    array("<U0", [10**9], [0, 0]), array("|S0", [1 << 39], [0, 0]), array("<M8[x]"), array("<M8[ns"), array(5),
    array(None), array([["a", "<f8"]]),
    array("<f8\n"), array("<U999999999"), array("datetime64"), array("<f80"),
    array(shape=[2]), array(shape=[-1]), array(shape=[-1, -1]), array(shape=[True]), array(shape=[1.0]),
    array(shape=["1"]), array(shape=[1] * 65),
    array(shape=[2**62, 4], data=[0, 8]), array(shape=[0, 2**60], data=[0, 0]),
    array(shape=[2**32, 2**32], data=[0, 0]), array(data=[0, 7]),
    array(data=[0, 16]), array(data=[12, 8]), array(data=[0]), {"~array": {"dtype": "<f8", "shape": 1, "data": [0, 8]}},
    array("|b1", [8]), array("<U2", [1]), {"~array": {"dtype": "object", "shape": [2], "items": [1]}},
    {"~array": {"dtype": "object", "shape": [1], "items": "a"}},
    {"~array": {"dtype": "object", "shape": [2**39, 0], "items": None}},
    {"~scalar": 1}, {"~scalar": array()}, {"~scalar": array("<M8[ns]")}, {"~frame": 1}, {"~frame": {}},
    {"~frame": {"library": "os"}}, {"~series": {}},
    {"~series": {"library": ["polars"]}}, series({}), series(column("os")), series(column([])),
    series(column("plain", values=[1])),
    series(column("plain", values=array(shape=[1, 1]))), series(column("objects", items="a")),
    series(column("objects", items=[1, 2])),
    series(column("objects", items=[1]), index={"kind": "range", "range": [0, 2**62, 1], "name": None}),
    series(column("objects", items=[]), index={"kind": "range", "range": [0, 2**62, 1], "name": None}),
    series(column("objects", items=[1]), index={"kind": "range", "range": [0, 1, 0], "name": None}),
    series(column("objects", items=[1]), index={"kind": "range", "range": [True, 1, 1], "name": None}),
    series(column("objects", items=[1]), index={"kind": "multi", "levels": [], "names": []}),
    series(column("objects", items=[1]), index={"kind": "multi", "levels": [column("objects", items=[[]])],
        "names": ["a"]}),
    series(column("objects", items=[1]), name=[1]), series(column("masked", values=array(), mask=array())),
    series(column("masked", values=array(), mask=None)),
    series(column("zoned", values=array(), zone="UTC")), series(column("zoned", values=array("<M8[ns]"), zone=[])),
    series(column("category", codes=array("<i8"), categories=column("objects", items=[1, 1]), ordered=False)),
    series(column("category", codes=array("<i8"), categories=column("objects", items=[[]]), ordered=False)),
    series(column("category", codes=array("|u1", data=[0, 1]), categories=column("objects", items=["a"]),
        ordered=False)),
    series(column("physical", values=array(), mask=None, dtype="Object"), "polars"),
    series(column("physical", values=array(), mask=None, dtype="os"), "polars"),
    series(column("physical", values=array(), mask=None, dtype="Float64"), "polars", name=5),
    series(column("physical", values=array(), mask=None, dtype=["Datetime", "x", None]), "polars", name="a"),
    series(column("physical", values=array(), mask=None, dtype=["Decimal", 10**6, 2]), "polars", name="a"),
    series(column("objects", items=[[None]], dtype=["Array", "Int8", 2**60]), "polars", name="a"),
    series(column("objects", items=[1], dtype=["List"]), "polars", name="a"),
    series(column("objects", items=["x"], dtype="Int8"), "polars", name="a"),
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda v: type(v).__name__)
def test_what_is_wrong_is_refused(hostile):
    """Each of these is MalformedValue."""
    text = hostile if isinstance(hostile, str) else json.dumps(hostile)
    buffers = b"\xff" * 16
    assert not try_decode(text, buffers)
    if isinstance(hostile, str):
        assert not try_decode(text, buffers, tagged=False)


@pytest.mark.parametrize(
    ("offsets", "more"),
    [
        ([], {}), ([0, 1], {}), ([1, 2], {}), ([0, 3], {}), ([0, 2, 1, 2], {}), ([0, -1, 2], {}), ([0, 2**62, 2], {}),
        ([0, 1, 2], {}),
        ([0, 2], {"mask": [True]}), ([0, 2], {"mask": array("|b1", [2], [18, 0])}), ([0, 2], {"data": [1, 2]}),
        ([0, 2], {"offsets": [0, 2]}),
    ],
)  # fmt: skip
def test_wrong_text_columns_are_refused(offsets, more):
    """Offsets that go back, beyond or nowhere; masks of another kind; data that is no array."""
    pytest.importorskip("pandas")
    value, buffers = text_column(offsets, more=more)
    assert not try_decode(json.dumps(value), buffers)


def test_text_columns_must_be_utf8():
    """Bytes that are no UTF-8, or cut a character in two, are refused; the same frame with text passes."""
    pytest.importorskip("pandas")
    for data, good in ((b"\xff\xfe", False), (b"\xc3\xa9", True), (b"ab", True)):
        value, buffers = text_column([0, 2], data)
        assert try_decode(json.dumps(value), buffers) is good
    value, buffers = text_column([0, 1, 2], b"\xc3\xa9")
    assert not try_decode(json.dumps(value), buffers)


def test_input_that_is_no_utf8_is_refused():
    """Nor is UTF-16 guessed."""
    assert not try_decode(b"\xff\xfe1\x00", tagged=False)
    assert not try_decode(b'"\x80"')


def test_the_limit_holds():
    """Text and buffers together."""
    assert host.decode("[1]", b"ab", tagged=False, limit=5) == [1]
    with pytest.raises(host.MalformedValue, match="more than 4"):
        host.decode("[1]", b"ab", tagged=False, limit=4)


def test_digits_stay_bounded_without_the_interpreters_bound():
    """A host that lifted its own limit on digits is not slowed by a guest."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert not try_decode("1" * 5000, tagged=False)
        assert host.decode("[-12]", tagged=False) == [-12]
    finally:
        sys.set_int_max_str_digits(before)


def multiples(n):
    return [{"~int": hex(k * P)} for k in range(2, n)]


@pytest.mark.parametrize(
    "value",
    [
        {"~set": multiples(30_000)}, {"~frozenset": multiples(30_000)}, {"~dict": [[k, 0] for k in multiples(30_000)]},
        {"~set": [{"~tuple": [k]} for k in multiples(30_000)]},
        series(column("objects", items=[0]), index={"kind": "multi",
            "levels": [column("objects", items=multiples(30_000))], "names": [None]}),
    ],
    ids=["set", "frozenset", "dict", "tuples", "index"],
)  # fmt: skip
def test_keys_made_to_collide_are_refused(value):
    """Thousands of keys of one hash would take quadratic time."""
    with pytest.raises(host.MalformedValue, match="hash"):
        host.decode(json.dumps(value), tagged=True)


def test_ordinary_keys_pass_the_check_of_hashes():
    """Large sets and dicts of every kind of key, powers of two included."""
    ordinary = [
        set(range(5000)),
        {2**n for n in range(5000)},
        {-n for n in range(5000)},
        {n / 7: n for n in range(5000)},
    ]
    text, _, tagged = guest.encode(ordinary, 1 << 24)
    assert host.decode(text, tagged=tagged) == ordinary


def test_one_buffer_cannot_be_named_twice():
    """A million references to one large buffer take the memory of one."""
    text = "[" + ",".join(['{"~bytes":[0,1000000]}'] * 10_000) + "]"
    tracemalloc.start()
    try:
        assert not try_decode(text, bytes(1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def nest(levels, inner):
    return inner if levels == 0 else nest(levels - 1, ["List", inner])


def test_polars_is_given_no_deep_things():
    """Its Rust recurses, and takes endless time for some: dtypes and items beyond 16 levels are refused."""
    pytest.importorskip("polars")
    for levels, good in ((16, True), (17, False), (300, False)):
        empty = series(column("objects", items=[], dtype=nest(levels, "Int8")), "polars", name="a")
        assert try_decode(json.dumps(empty)) is good
    text = json.dumps(series(column("objects", items=[5], dtype=["List", "Int8"]), "polars", name="a"))
    for levels in (20, 500, 5000):
        assert not try_decode(text.replace("5", "[" * levels + "5" + "]" * levels))
    assert not try_decode(text.replace("5", json.dumps({"~set": [1]})))


def test_many_frames_are_refused_on_both_sides():
    """Each takes time to build, beyond its bytes."""
    pandas = pytest.importorskip("pandas")
    empty = pandas.Series([], dtype=float)
    with pytest.raises(guest.NotCarried, match="too many"):
        guest.encode([empty] * 10_001, 1 << 30)
    frame = {"~frame": {"library": "pandas", "columns": [0] * 50_000}}
    with pytest.raises(host.MalformedValue, match="too many"):
        host.decode(json.dumps(frame), tagged=True)


def test_unknown_zones_stay_quick(monkeypatch):
    """After some names of zones that are none, no more are looked for, and known ones still found."""
    monkeypatch.setattr(frames, "_unknown_zones", set())
    for number in range(3000):
        assert frames.zone_named(f"No/Where{number}") is None
    assert len(frames._unknown_zones) == 100
    assert str(frames.zone_named("Asia/Tokyo")) == "Asia/Tokyo"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([0, 8, -1, "<f8",
        "pandas", "polars"]),
    lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=3), v, max_size=3)
    | st.builds(lambda t, c: {t: c},
        st.sampled_from(["~" + k for k in (*guest._BUILDERS, "bytes", "int", "set", "dict", "tuple", "float", "str")]),
        v),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=16), st.booleans())
@example(b"\x00", b"", True)
def test_any_bytes(text, buffers, tagged):
    """A value or MalformedValue, for any bytes."""
    try_decode(text, buffers, tagged)


@settings(max_examples=1000, deadline=None)
@given(json_values, st.binary(max_size=16))
def test_any_json(value, buffers):
    """A value or MalformedValue, for any tags around anything."""
    try_decode(json.dumps(value), buffers)


def mutate(draw, node):
    """`node` with one part of it replaced, removed or doubled."""
    if isinstance(node, (dict, list)) and node and draw(st.integers(0, 9)):
        place = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        changed = node.copy()
        if draw(st.integers(0, 19)) == 0:
            del changed[place]
        else:
            changed[place] = mutate(draw, node[place])
        return changed
    wild = st.sampled_from(
        [
            None,
            0,
            1,
            -1,
            2,
            8,
            2**62,
            True,
            1.5,
            "",
            "x",
            "<f8",
            "|b1",
            "<i8",
            "<U1",
            [],
            {},
            [0, 0],
            {"~bytes": [0, 1]},
        ]
    )
    return draw(wild | json_values)


def encodings():
    both = [frame for _, frame in pandas_frames()] + list(polars_frames())
    arrays = [numpy.arange(3.0), numpy.array(["a", "bc"]), numpy.array([True]), numpy.array([[1, {2}]], object)]
    for value in (*arrays, *both):
        text, buffers, _ = guest.encode(value, 1 << 24)
        yield json.loads(text), b"".join(buffers)


ENCODINGS = list(encodings())


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_frames_with_one_part_changed(data):
    """A value or MalformedValue, for frames and arrays that were tampered with."""
    tree, buffers = data.draw(st.sampled_from(ENCODINGS))
    for _ in range(data.draw(st.integers(1, 2))):
        tree = mutate(data.draw, tree)
    if buffers and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(buffers) - 1))
        buffers = buffers[:place] + data.draw(st.binary(min_size=1, max_size=1)) + buffers[place + 1 :]
    try_decode(json.dumps(tree), buffers)


@settings(max_examples=300, deadline=None)
@given(values, st.data())
def test_values_with_one_byte_changed(value, data):
    """A value or MalformedValue, for valid text with any byte replaced."""
    text, buffers, tagged = guest.encode(value, 1 << 24)
    changed = bytearray(text.encode())
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try_decode(bytes(changed), b"".join(buffers), tagged)
