"""Values of a Python guest: out as JSON with tags and raw buffers, in from a pickle of plain data.

Theory of operation. A value that JSON can say exactly goes out in one call of json's C encoder; whether it can is found
level by level, with whole levels handled in C (`is_plain`). Everything else is walked once and tagged: a tag is an
object of one key that begins with `~`; bytes and arrays become [offset, length] into the buffers, in the order of the
text. What comes in is a pickle whose only global is `_rebuild`.

`take_apart` and `put_together` are the one table of all other types, and the host uses the same two; so
`put_together` trusts nothing. Modules such as decimal load only when data of theirs arrives.
"""

from __future__ import annotations

import datetime
import functools
import gc
import io
import itertools
import json
import math
import pickle
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if __package__:
    from . import python_frames as frames
else:  # loaded as a file of its own
    import python_frames as frames  # type: ignore[import-not-found, no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NotCarried = frames.NotCarried

_DEPTH: Final = 200
_TOO_DEEP: Final = f"it is nested more than {_DEPTH} levels deep, or contains itself"
_SMALLEST, _LARGEST = -(1 << 63), (1 << 64) - 1
_FRACTION_BITS: Final = 1 << 16  # to reduce a fraction takes quadratic time
_PLAIN: Final = frozenset((type(None), bool, int, float, str, list, dict))
_BUILTIN_KEYS: Final = frozenset((type(None), bool, int, float, str, bytes))
_PAIR: Final = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")  # JSON would read it as one character

# A NaN raises here, an integer of too many digits too: then the value is walked and tagged.
_to_json: Final = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode


# A large buffer begins on a cache line, so that the host can use it where it lies.
_LARGE: Final = 1 << 12
_LINE: Final = 64


class TooLarge(Exception):  # noqa: N818  (a verdict on a value, as NotCarried)
    """The value takes more bytes than the limit allows; `size` is what had been counted by then."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the value takes {size:,} bytes or more")
        self.size = size


class Encoded(NamedTuple):
    """A value on its way out: ASCII text, and the buffers that it names, one behind the other."""

    text: str
    buffers: list[Any]
    tagged: bool


def encode(value: object, limit: int, largest: int = _LARGEST) -> Encoded:
    """`value` as JSON and buffers, of at most `limit` bytes together; raises `NotCarried` or `TooLarge`.

    Integers beyond `largest` are tagged, for readers that have no more room in one.
    """
    try:
        return _encode(value, limit, largest)
    except (NotCarried, TooLarge, MemoryError):
        raise
    except RecursionError:
        raise NotCarried(_TOO_DEEP) from None
    except Exception as error:  # the program's own classes may raise anything while they are read
        raise NotCarried(f"reading it raised {type_name(error)}") from None


def _encode(value: object, limit: int, largest: int) -> Encoded:
    smallest = max(_SMALLEST, -largest)
    if type(value) is int and smallest <= value <= largest:  # what an agent's step most often ends with
        return _checked(Encoded(str(value), [], False), 0, limit)
    if is_plain(value, limit, smallest, largest):
        try:
            text = _to_json(value)
        except ValueError:
            pass
        else:
            return _checked(Encoded(text, [], False), 0, limit)
    tagger = _Tagger(limit, smallest, largest)
    text = _to_json(tagger.tag(value))
    return _checked(Encoded(text, tagger.buffers, True), tagger.end, limit)


def _checked(encoded: Encoded, buffers: int, limit: int) -> Encoded:
    if len(encoded.text) + buffers > limit:
        raise TooLarge(len(encoded.text) + buffers)
    return encoded


# --- Plain data, level by level -------------------------------------------------------------------------------------


def is_plain(value: object, limit: int, smallest: int, largest: int, *, finite: bool = False) -> bool:
    """True if JSON without tags says it exactly. False also if in doubt, or if it is large or deep beyond measure.

    Whether floats are `finite` the encoder finds out by itself, but for those that say `null` then.
    """
    level: Sequence[Any] = (value,)
    left = limit
    for _ in range(_DEPTH + 1):
        types = set(map(type, level))
        if not types <= _PLAIN:
            return False
        if int in types:
            integers = _of(int, level, types)
            if min(integers) < smallest or max(integers) > largest:
                return False
        if finite and float in types and not all(map(math.isfinite, _of(float, level, types))):
            return False
        if str in types:
            strings = _of(str, level, types)
            left -= sum(map(len, strings))
            if left < 0 or not _are_sayable(strings):
                return False
        lists, dicts = _of(list, level, types), _of(dict, level, types)
        left -= 2 * (sum(map(len, lists)) + sum(map(len, dicts)))  # every item takes a byte and a comma
        if left < 0 or not _are_keys(set(itertools.chain.from_iterable(dicts))):
            return False
        level = [*itertools.chain.from_iterable(lists), *itertools.chain.from_iterable(map(dict.values, dicts))]
        if not level:
            return True
    return False


def _of(kind: type, level: Sequence[Any], types: set[type]) -> Sequence[Any]:
    if kind not in types:
        return ()
    return level if len(types) == 1 else [x for x in level if type(x) is kind]


def _are_sayable(strings: Iterable[str]) -> bool:
    joined = "".join(strings)
    return joined.isascii() or not _PAIR.search(joined)


def _are_keys(keys: Iterable[Any]) -> bool:
    """True if JSON can say a dict with these keys, and none could be taken for a tag."""
    if not set(map(type, keys)) <= {str}:
        return False
    joined = "".join(keys)
    if "~" in joined and any(key.startswith("~") for key in keys):
        return False
    return joined.isascii() or not _PAIR.search(joined)


# --- Everything else, tagged ----------------------------------------------------------------------------------------


class _Tagger:
    """One walk over a value; `buffers` fill in the order in which the text will name them."""

    __slots__ = ("_depth", "_largest", "_limit", "_parts", "_size", "_smallest", "buffers", "end")

    def __init__(self, limit: int, smallest: int, largest: int) -> None:
        self._smallest, self._largest = smallest, largest
        self.buffers: list[Any] = []
        self.end = 0
        self._limit, self._size, self._depth, self._parts = limit, 0, 0, 0

    def tag(self, value: Any) -> Any:
        """What JSON shall say for `value`."""
        handler = _TAGS.get(type(value))
        return self._foreign(value) if handler is None else handler(self, value)

    def _foreign(self, value: Any) -> Any:
        kind, content = take_apart(value)
        if not kind:
            return self.tag(content)
        if kind == "array" and "data" in content:
            data = content["data"]
            return {"~array": {**content, "data": self._reference(data, len(data))}}
        if kind in ("frame", "series"):
            self._count_parts(content)
        return {"~" + kind: self.tag(content)}

    def _count_parts(self, content: Any) -> None:
        self._parts += frames.count_parts(content)
        if self._parts > frames.MOST_PARTS:
            raise NotCarried("it holds too many frames, series or columns")

    def _spend(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise TooLarge(self._size)

    def _enter(self, items: int) -> None:
        """Go one level down, into a container of that many items. The depth also ends what contains itself."""
        self._spend(2 * items)
        self._depth += 1
        if self._depth > _DEPTH:
            raise NotCarried(_TOO_DEEP)

    def _reference(self, buffer: Any, size: int) -> list[int]:
        self._spend(size)
        if size >= _LARGE and (gap := -self.end % _LINE):
            self.buffers.append(bytes(gap))
            self.end += gap
        self.buffers.append(buffer)
        start, self.end = self.end, self.end + size
        return [start, size]

    def _itself(self, value: object) -> object:
        return value

    def _str(self, value: str) -> object:
        self._spend(len(value))
        return value if _are_sayable((value,)) else {"~str": _PAIR.split(value)}

    def _int(self, value: int) -> object:
        if self._smallest <= value <= self._largest:
            return value
        self._spend(value.bit_length() // 4)
        return {"~int": hex(value)}

    def _float(self, value: float) -> object:
        return value if value - value == 0 else {"~float": repr(value)}

    def _bytes(self, value: bytes) -> object:
        return {"~bytes": self._reference(value, len(value))}

    def _list(self, value: list[Any]) -> object:
        self._enter(len(value))
        tagged = [self.tag(x) for x in value]
        self._depth -= 1
        return tagged

    def _tuple(self, value: tuple[Any, ...]) -> object:
        return {"~tuple": self._list(value)}  # type: ignore[arg-type]

    def _set(self, value: set[Any]) -> object:
        return {"~set": self._keys(value)}

    def _frozenset(self, value: frozenset[Any]) -> object:
        return {"~frozenset": self._keys(value)}

    def _keys(self, keys: Iterable[Any]) -> list[Any]:
        keys = list(keys)
        self._enter(len(keys))
        tagged = [self._key(key) for key in keys]
        self._depth -= 1
        return tagged

    def _key(self, key: Any) -> Any:
        tagged = self.tag(key)
        if type(key) not in _BUILTIN_KEYS and not _is_hashable(tagged):
            raise NotCarried(f"a {type_name(key)} as key or in a set would arrive as something that has no hash")
        return tagged

    def _dict(self, value: dict[Any, Any]) -> object:
        self._enter(len(value))
        if _are_keys(value):
            self._spend(sum(map(len, value)))
            tagged: object = {key: self.tag(item) for key, item in value.items()}
        else:
            pairs = [[self._key(key), self.tag(item)] for key, item in value.items()]
            if not set(map(type, value)) <= _BUILTIN_KEYS and len({_to_json(k) for k, _ in pairs}) < len(pairs):
                raise NotCarried("two keys of a dict would arrive as the same key")
            tagged = {"~dict": pairs}
        self._depth -= 1
        return tagged


_TAGS: Final[dict[type, Callable[[_Tagger, Any], Any]]] = {
    type(None): _Tagger._itself,
    bool: _Tagger._itself,
    int: _Tagger._int,
    float: _Tagger._float,
    str: _Tagger._str,
    bytes: _Tagger._bytes,
    list: _Tagger._list,
    tuple: _Tagger._tuple,
    set: _Tagger._set,
    frozenset: _Tagger._frozenset,
    dict: _Tagger._dict,
}
_WITHOUT_HASH: Final = frozenset(("~set", "~dict", "~array", "~frame", "~series"))


def _is_hashable(tagged: Any) -> bool:
    """True if what the other side makes of this can be a key."""
    if type(tagged) is not dict:
        return type(tagged) is not list
    tag = next(iter(tagged), "")
    if not tag.startswith("~") or tag in _WITHOUT_HASH:
        return False
    return tag != "~tuple" or all(map(_is_hashable, tagged[tag]))


# --- The other types, for both sides --------------------------------------------------------------------------------


def take_apart(value: Any) -> tuple[str, Any]:
    """(kind, content) for `put_together`; kind is "" if the content is to be carried in its place.

    Content is made of builtins, arrays, memoryviews and further values. Raises `NotCarried`.
    """
    kind: type = type(value)
    handler = _handler(kind)
    if handler is None:
        raise NotCarried(f"a {type_name(value)} cannot be carried")
    return handler(value)


@functools.lru_cache(maxsize=512)
def _handler(kind: type) -> Callable[[Any], tuple[str, Any]] | None:
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(kind, enum.Enum):
        return _enum
    if "__dataclass_fields__" in dir(kind):
        return _dataclass
    if kind.__name__ in ("NaTType", "NAType") and kind.__module__.startswith("pandas."):
        return _missing
    for base in kind.__mro__:
        package = str(base.__module__).partition(".")[0]
        handler = _HANDLERS.get((package, base.__qualname__))
        if handler is not None and getattr(sys.modules.get(package), base.__qualname__, None) is base:
            return handler
    return None


def _enum(value: Any) -> tuple[str, Any]:
    return "", value._value_


def _dataclass(value: Any) -> tuple[str, Any]:
    from dataclasses import fields  # whoever has made a dataclass has paid for this import

    return "", {field.name: getattr(value, field.name) for field in fields(value)}


def _missing(_: Any) -> tuple[str, Any]:
    return "", None


def _ordered(value: Any) -> tuple[str, Any]:
    return "", dict(sys.modules["collections"].OrderedDict.items(value))


def _memoryview(value: memoryview) -> tuple[str, Any]:
    return "", value.tobytes()


def _scalar(value: Any) -> tuple[str, Any]:
    """A numpy scalar: Python's own, but for times finer or longer than Python's."""
    item = value.item()
    if value.dtype.kind in "mM" and not isinstance(item, datetime.date | datetime.timedelta):
        return "scalar", sys.modules["numpy"].asarray(value)
    if type(item) is type(value):  # long doubles, which Python does not have
        return "", complex(value) if value.dtype.kind == "c" else float(value)
    return "", item


def _fraction(value: Any) -> tuple[str, Any]:
    parts = [value.numerator, value.denominator]
    if sum(map(int.bit_length, parts)) > _FRACTION_BITS:
        raise NotCarried(f"a Fraction of more than {_FRACTION_BITS:,} bits cannot be carried; carry its two numbers")
    return "fraction", parts


def _datetime(value: datetime.datetime) -> tuple[str, Any]:
    # By the fields: a subclass such as pandas' Timestamp writes nanoseconds, which are cut off.
    own = datetime.datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.tzinfo,
        fold=value.fold,
    )  # fmt: skip
    return "datetime", [own.isoformat(), frames.zone_key(value.tzinfo), value.fold]


def _time(value: datetime.time) -> tuple[str, Any]:
    return "time", [datetime.time.isoformat(value), frames.zone_key(value.tzinfo), value.fold]


def _timedelta(value: datetime.timedelta) -> tuple[str, Any]:
    return "timedelta", [value.days, value.seconds, value.microseconds]


def _timezone(value: datetime.timezone) -> tuple[str, Any]:
    offset = value.utcoffset(None)
    return "timezone", [offset.days, offset.seconds, offset.microseconds]


def _zone(value: Any) -> tuple[str, Any]:
    if value.key is None:
        raise NotCarried("a ZoneInfo without a key cannot be carried")
    return "zone", str(value.key)


def _path(value: Any) -> tuple[str, Any]:
    if isinstance(value, sys.modules["pathlib"].PureWindowsPath):
        raise NotCarried("a Windows path cannot be carried; carry its str()")
    return "path", sys.modules["pathlib"].PurePath.__str__(value)


_HANDLERS: Final[dict[tuple[str, str], Callable[[Any], tuple[str, Any]]]] = {
    # Subclasses, as their base: by the base's own methods, for the subclass may have replaced them.
    ("builtins", "int"): lambda x: ("", int.__int__(x)),
    ("builtins", "float"): lambda x: ("", float.__float__(x)),
    ("builtins", "str"): lambda x: ("", str.__str__(x)),
    ("builtins", "bytes"): lambda x: ("", bytes.__getitem__(x, slice(None))),
    ("builtins", "bytearray"): lambda x: ("", bytes(memoryview(x))),
    ("builtins", "memoryview"): _memoryview,
    ("builtins", "list"): lambda x: ("", list(list.__iter__(x))),
    ("builtins", "tuple"): lambda x: ("", tuple(tuple.__iter__(x))),
    ("builtins", "set"): lambda x: ("", set(set.__iter__(x))),
    ("builtins", "frozenset"): lambda x: ("", frozenset(frozenset.__iter__(x))),
    ("builtins", "dict"): lambda x: ("", dict(dict.items(x))),
    ("collections", "OrderedDict"): _ordered,
    ("builtins", "complex"): lambda x: ("complex", [x.real, x.imag]),
    ("decimal", "Decimal"): lambda x: ("decimal", sys.modules["decimal"].Decimal.__str__(x)),
    ("fractions", "Fraction"): _fraction,
    ("uuid", "UUID"): lambda x: ("uuid", x.hex),
    ("pathlib", "PurePath"): _path,
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): lambda x: ("date", datetime.date.isoformat(x)),
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("zoneinfo", "ZoneInfo"): _zone,
    ("numpy", "ndarray"): lambda x: ("array", frames.array_parts(x)),
    ("numpy", "generic"): _scalar,
    ("pandas", "DataFrame"): lambda x: ("frame", frames.frame_parts(x)),
    ("pandas", "Series"): lambda x: ("series", frames.series_parts(x)),
    ("polars", "DataFrame"): lambda x: ("frame", frames.frame_parts(x)),
    ("polars", "Series"): lambda x: ("series", frames.series_parts(x)),
}


def put_together(kind: str, content: Any) -> Any:
    """The value that `take_apart` took apart. Content is not trusted: whatever is wrong raises an `Exception`."""
    builder = _BUILDERS.get(kind)
    if builder is None:
        raise ValueError("a value of an unknown kind")
    return builder(content)


def _build_complex(parts: list[float]) -> complex:
    real, imaginary = (_exactly(float, part) for part in parts)
    return complex(real, imaginary)


def _build_fraction(parts: list[int]) -> Any:
    numerator, denominator = (_exactly(int, part) for part in parts)
    if numerator.bit_length() + denominator.bit_length() > _FRACTION_BITS:
        raise ValueError("a fraction of too many digits")
    return frames.need("fractions").Fraction(numerator, denominator)


def _build_decimal(text: str) -> Any:
    return frames.need("decimal").Decimal(_exactly(str, text))


def _build_uuid(text: str) -> Any:
    if not re.fullmatch(r"[0-9a-f]{32}", text, re.ASCII):
        raise ValueError("a UUID that is none")
    return frames.need("uuid").UUID(hex=text)


def _build_path(text: str) -> Any:
    return frames.need("pathlib").Path(_exactly(str, text))


def _build_datetime(parts: list[Any]) -> datetime.datetime:
    text, key, fold = parts
    moment = datetime.datetime.fromisoformat(_exactly(str, text)).replace(fold=_exactly(int, fold))
    zone = None if key is None else frames.zone_named(key)
    return moment if zone is None else moment.replace(tzinfo=zone)


def _build_time(parts: list[Any]) -> datetime.time:
    text, key, fold = parts
    time = datetime.time.fromisoformat(_exactly(str, text)).replace(fold=_exactly(int, fold))
    zone = None if key is None else frames.zone_named(key)
    return time if zone is None else time.replace(tzinfo=zone)


def _build_timedelta(parts: list[int]) -> datetime.timedelta:
    days, seconds, microseconds = (_exactly(int, part) for part in parts)
    return datetime.timedelta(days, seconds, microseconds)


def _build_timezone(parts: list[int]) -> datetime.timezone:
    return datetime.timezone(_build_timedelta(parts))


def _build_zone(key: str) -> datetime.tzinfo:
    zone = frames.zone_named(key)
    if zone is None:
        raise ValueError("a time zone that is not known here")
    return zone


def _build_array(parts: dict[str, Any]) -> Any:
    if parts["dtype"] == "object":
        return frames.build_objects(parts["shape"], parts["items"])
    return frames.build_array(parts["dtype"], parts["shape"], memoryview(parts["data"]))


def _build_scalar(array: Any) -> Any:
    if array.shape != () or array.dtype.kind not in "mM":
        raise ValueError("a numpy scalar that is none")
    return array[()]


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"there should be a {kind.__name__}")
    return value


_BUILDERS: Final[dict[str, Callable[[Any], Any]]] = {
    "complex": _build_complex,
    "decimal": _build_decimal,
    "fraction": _build_fraction,
    "uuid": _build_uuid,
    "path": _build_path,
    "datetime": _build_datetime,
    "date": datetime.date.fromisoformat,
    "time": _build_time,
    "timedelta": _build_timedelta,
    "timezone": _build_timezone,
    "zone": _build_zone,
    "array": _build_array,
    "scalar": _build_scalar,
    "frame": frames.build_frame,
    "series": frames.build_series,
}


# --- What comes in --------------------------------------------------------------------------------------------------


def decode(data: Any, buffers: Iterable[Any]) -> Any:
    """What the host's `encode` pickled; `ImportError` in plain words if it needs a package that is not here."""
    return _loaded(_Unpickler(io.BytesIO(data), buffers=buffers))


def _loaded(unpickler: pickle.Unpickler) -> Any:
    """What it loads. Many containers are made and none can be garbage yet: the collector would take most of the time."""
    if not gc.isenabled():
        return unpickler.load()
    gc.disable()
    try:
        return unpickler.load()
    finally:
        gc.enable()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name != "rebuild":
            raise pickle.UnpicklingError(f"{module}.{name} is not to be had")
        return _rebuild


def _rebuild(kind: str, content: Any) -> Any:
    if not kind:
        return content
    return bytes(content) if kind == "bytes" else put_together(kind, content)


# --- Words about a value --------------------------------------------------------------------------------------------


def describe(value: object, limit: int = 2000) -> str:
    """`repr(value)`, of at most `limit` characters; text also if its repr raises."""
    try:
        text = str.__str__(repr(value))
    except BaseException as error:  # the program's own code: it may raise anything
        return f"<{type_name(value)} object; its repr raised {type_name(error)}>"[:limit]
    return text if len(text) <= limit else text[: limit - 1] + "…"


_qualified_name: Final = type.__dict__["__qualname__"].__get__
_module_name: Final = type.__dict__["__module__"].__get__


def type_name(value: object) -> str:
    """The name of the value's type: `int`, `Point` of the program, `collections.Counter`. Runs none of its code."""
    kind = type(value)
    try:
        module = _module_name(kind)
    except AttributeError:
        module = None
    name: str = _qualified_name(kind)
    return name if type(module) is not str or module in ("builtins", "__main__") else f"{module}.{name}"
