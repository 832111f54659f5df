"""Plain data, and its packed form: the tree that every file format carries.

A state is *plain data*: None, bool, int, float, complex, str, bytes, Decimal, Fraction, UUID, datetime, date, time,
timedelta, NumPy arrays, and lists, tuples, dicts, sets and frozensets of these. Nothing else, and no subclass:
what is read back has exactly the type that was written. `pack` checks that and gives the packed form; `unpack`
is its inverse and trusts nothing.

Theory of operation. A packed tree holds only what JSON, MessagePack, Protocol Buffers and Erlang terms all have:
None, bool, 64-bit int, finite float, str, list, and dict with str keys. Everything else is *tagged*: a dict of
one key that starts with `$`.

    {"$int": "0x1f"}  {"$float": "nan"}  {"$complex": [re, im]}  {"$bytes": b"..."}  {"$decimal": "1.10"}
    {"$fraction": [1, 3]}  {"$uuid": "..."}  {"$datetime": iso}  {"$date": iso}  {"$time": iso}
    {"$timedelta": [days, seconds, microseconds]}  {"$tuple": [...]}  {"$set": [...]}  {"$frozenset": [...]}
    {"$dict": [[key, value], ...]}  {"$array": {"dtype": "<f4", "shape": [2], "data": {"$bytes": b"..."}}}

A dict goes as `$dict` when a key is no str (so that 0 and '0' stay apart), and when it looks like a tag itself.
The items of sets and the pairs of `$dict` are sorted by the bytes of their packed form, so equal states have equal
trees on every machine; of a dict with str keys the order is kept, as people read it. Bytes stand only below
`$bytes`: a format without bytes of its own (JSON) knows where to put base64.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from dspex.errors import StateError, StateFormatError
from dspex.state import _arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Levels of lists and dicts inside each other in the packed tree; a tuple or set takes two, a `$dict` three.
MAX_DEPTH = 100
_INT64 = range(-(2**63), 2**63)
_PATH_SHOWN = 8  # steps of a path that an error shows; a list that holds itself has no end
_HEX = re.compile(r"-?0x[0-9a-f]+")


def deterministic(tree: Any) -> bytes:
    """The one MessagePack form of a packed tree: shortest, keys of dicts sorted by their UTF-8 bytes."""
    return msgspec.msgpack.encode(tree, order="deterministic")


def is_tagged(node: dict[Any, Any]) -> bool:
    """Whether a dict has the form of a tag: one key, which starts with `$`."""
    return len(node) == 1 and next(iter(node))[:1] == "$"


def packed_dict(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """The packed form of a dict, of its packed keys and values."""
    if all(type(key) is str for key, _ in pairs):
        plain = dict(pairs)
        if not is_tagged(plain):
            return plain
    return {"$dict": sorted(([key, value] for key, value in pairs), key=lambda pair: deterministic(pair[0]))}


def pack(state: Any) -> Any:
    """The packed tree of a state. Raises StateError naming the path of the first value that is no plain data."""
    try:
        return _pack(state, 0)
    except StateError as error:
        raise StateError(f"state{_path(state, _children, pack)}: {error}") from error.__cause__
    except RecursionError as error:
        raise StateError("state: nested too deep for what is left of the stack") from error


def unpack(tree: Any) -> Any:
    """The state of a packed tree, read from anywhere. Raises StateFormatError naming the path of what is wrong."""
    try:
        return _unpack(tree, 0)
    except StateFormatError as error:
        place = f"state{_path(tree, _branches, unpack)}"
        raise StateFormatError(error.cause, place=place) from error.__cause__


def check_depth(tree: Any) -> None:
    """Refuse (StateFormatError) a tree of lists and dicts that is too deep, level by level, without recursion."""
    level, depth = [tree], 0
    while level:
        if depth > MAX_DEPTH:
            raise StateFormatError(_too_deep())
        children = [child for node in level for child in (node.values() if type(node) is dict else node)]
        level = [child for child in children if type(child) in (dict, list)]
        depth += 1


def _too_deep() -> str:
    return f"nested deeper than {MAX_DEPTH} levels"


def _path(value: Any, children: Callable[[Any], Iterator[tuple[Any, Any]]], attempt: Callable[[Any], Any]) -> str:
    """Where in `value` an attempt fails: found by trying each child again, which costs nothing while all is well."""
    steps = ""
    for _ in range(_PATH_SHOWN):
        step = next((pair for pair in children(value) if _fails(attempt, pair[1])), None)
        if step is None:
            break
        steps += f"[{_shown(step[0])}]"
        value = step[1]
    return steps


def _fails(attempt: Callable[[Any], Any], value: Any) -> bool:
    try:
        attempt(value)
    except StateError:
        return True
    return False


def _shown(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if type(value) is dict:
        yield from value.items()
    elif type(value) in (list, tuple):
        yield from enumerate(value)


def _branches(node: Any) -> Iterator[tuple[Any, Any]]:
    if type(node) is dict:
        yield from node.items()
    elif type(node) is list:
        yield from enumerate(node)


# Packing


def _pack(value: Any, depth: int) -> Any:
    packer = _PACKERS.get(type(value))
    if packer is not None:
        return packer(value, depth)
    if _arrays.is_array(value):
        return {"$array": _arrays.packed(value)}
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    raise StateError(f"a {name} is no plain data; dspex.state.to_plain() converts dataclasses, enums, models, paths")


def _deeper(depth: int, levels: int = 1) -> int:
    if depth + levels > MAX_DEPTH:
        raise StateError(f"{_too_deep()}, or holds itself")
    return depth + levels


def _pack_itself(value: Any, depth: int) -> Any:
    return value


def _pack_int(value: int, depth: int) -> Any:
    return value if value in _INT64 else {"$int": hex(value)}


def _pack_float(value: float, depth: int) -> Any:
    return value if math.isfinite(value) else {"$float": str(value)}


def _pack_complex(value: complex, depth: int) -> Any:
    return {"$complex": [_pack_float(value.real, depth), _pack_float(value.imag, depth)]}


def _pack_str(value: str, depth: int) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise StateError(
                f"the text has half a surrogate pair at {error.start}, which UTF-8 cannot hold;"
                " keep it as bytes: text.encode('utf-8', 'surrogatepass')"
            ) from error
    return value


def _pack_list(value: list[Any], depth: int) -> list[Any]:
    depth = _deeper(depth)
    return [_pack(item, depth) for item in value]


def _pack_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    depth = _deeper(depth)
    if set(map(type, value)) <= {str} and not is_tagged(value):
        return {_pack_str(key, depth): _pack(item, depth) for key, item in value.items()}
    depth = _deeper(depth, 2)
    return packed_dict([(_pack(key, depth), _pack(item, depth)) for key, item in value.items()])


def _pack_tuple(value: tuple[Any, ...], depth: int) -> Any:
    depth = _deeper(depth, 2)
    return {"$tuple": [_pack(item, depth) for item in value]}


def _pack_set(value: Iterable[Any], depth: int) -> Any:
    depth = _deeper(depth, 2)
    return {f"${type(value).__name__}": sorted((_pack(item, depth) for item in value), key=deterministic)}


def _pack_fraction(value: Fraction, depth: int) -> Any:
    return {"$fraction": [_pack_int(value.numerator, depth), _pack_int(value.denominator, depth)]}


def _pack_moment(value: datetime | time, depth: int) -> Any:
    if type(value.tzinfo) not in (timezone, type(None)):
        raise StateError(f"the zone {value.tzinfo} is no fixed offset; dspex.state.to_plain() makes it one")
    return {f"${type(value).__name__}": value.isoformat()}


_PACKERS: dict[type, Callable[[Any, int], Any]] = {
    type(None): _pack_itself,
    bool: _pack_itself,
    int: _pack_int,
    float: _pack_float,
    complex: _pack_complex,
    str: _pack_str,
    bytes: lambda value, depth: {"$bytes": value},
    list: _pack_list,
    tuple: _pack_tuple,
    dict: _pack_dict,
    set: _pack_set,
    frozenset: _pack_set,
    Decimal: lambda value, depth: {"$decimal": str(value)},
    Fraction: _pack_fraction,
    UUID: lambda value, depth: {"$uuid": str(value)},
    datetime: _pack_moment,
    time: _pack_moment,
    date: lambda value, depth: {"$date": value.isoformat()},
    timedelta: lambda value, depth: {"$timedelta": [value.days, value.seconds, value.microseconds]},
}


# Unpacking


def _unpack(node: Any, depth: int) -> Any:
    kind = type(node)
    if kind in _LEAVES:
        return node
    if depth >= MAX_DEPTH:
        raise StateFormatError(_too_deep())
    if kind is list:
        return [_unpack(item, depth + 1) for item in node]
    if kind is dict and set(map(type, node)) <= {str}:
        return _untag(node, depth) if is_tagged(node) else {key: _unpack(item, depth + 1) for key, item in node.items()}
    raise StateFormatError(f"a {kind.__name__} stands where a state has none")


_LEAVES = frozenset({type(None), bool, int, float, str})


def _untag(node: dict[str, Any], depth: int) -> Any:
    ((tag, content),) = node.items()
    unpacker = _UNPACKERS.get(tag)
    if unpacker is None:
        raise StateFormatError(f"the tag {_shown(tag)} is unknown")
    try:
        return unpacker(content, depth + 1)
    except (ValueError, TypeError, ArithmeticError) as error:
        if isinstance(error, StateFormatError):
            raise
        raise StateFormatError(f"{tag} does not hold what it must: {error}") from error


def _expect(content: Any, kind: type) -> Any:
    if type(content) is not kind:
        raise StateFormatError(f"a {type(content).__name__} stands where a {kind.__name__} must")
    return content


def _unpack_int(content: Any, depth: int) -> int:
    if not _HEX.fullmatch(_expect(content, str)):
        raise StateFormatError("a large integer must be written as 0x1f")
    return int(content, 16)


def _unpack_float(content: Any, depth: int) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise StateFormatError("a tagged float must be 'nan', 'inf' or '-inf'")
    return float(content)


def _pair(content: Any, kind: type, depth: int) -> tuple[Any, Any]:
    first, second = (_expect(_unpack(item, depth + 1), kind) for item in _expect(content, list))
    return first, second


def _unpack_timedelta(content: Any, depth: int) -> timedelta:
    days, seconds, microseconds = (_expect(item, int) for item in _expect(content, list))
    return timedelta(days, seconds, microseconds)


def _unpack_items(content: Any, depth: int) -> list[Any]:
    if depth >= MAX_DEPTH:
        raise StateFormatError(_too_deep())
    return [_unpack(item, depth + 1) for item in _expect(content, list)]


def _unpack_set(content: Any, depth: int) -> frozenset[Any]:
    items = _unpack_items(content, depth)
    found = frozenset(items)
    if len(found) != len(items):
        raise StateFormatError("an item stands in a set twice")
    return found


def _unpack_pairs(content: Any, depth: int) -> dict[Any, Any]:
    pairs = [tuple(_expect(pair, list)) for pair in _unpack_items(content, depth)]
    found = dict(pairs)
    if len(found) != len(pairs):
        raise StateFormatError("a key stands in a dict twice")
    return found


def _unpack_array(content: Any, depth: int) -> Any:
    return _arrays.unpacked(_unpack(_expect(content, dict), depth))


_UNPACKERS: dict[str, Callable[[Any, int], Any]] = {
    "$int": _unpack_int,
    "$float": _unpack_float,
    "$complex": lambda content, depth: complex(*_pair(content, float, depth)),
    "$bytes": lambda content, depth: _expect(content, bytes),
    "$decimal": lambda content, depth: Decimal(_expect(content, str)),
    "$fraction": lambda content, depth: Fraction(*_pair(content, int, depth)),
    "$uuid": lambda content, depth: UUID(_expect(content, str)),
    "$datetime": lambda content, depth: datetime.fromisoformat(_expect(content, str)),
    "$date": lambda content, depth: date.fromisoformat(_expect(content, str)),
    "$time": lambda content, depth: time.fromisoformat(_expect(content, str)),
    "$timedelta": _unpack_timedelta,
    "$tuple": lambda content, depth: tuple(_unpack_items(content, depth)),
    "$set": lambda content, depth: set(_unpack_set(content, depth)),
    "$frozenset": _unpack_set,
    "$dict": _unpack_pairs,
    "$array": _unpack_array,
}
