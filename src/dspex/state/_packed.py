"""Plain data, and its packed form: the tree that every file format carries.

A state is *plain data*: None, bool, int, float, complex, str, bytes, Decimal, Fraction, UUID, datetime, date, time,
timedelta, NumPy arrays, and lists, tuples, dicts, sets and frozensets of these. Nothing else, and no subclass:
what is read back has exactly the type that was written. `pack` checks that and gives the packed form;
`_unpacked.unpack` is its inverse.

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
MAX_TREE = MAX_DEPTH + 3  # tag, content and bytes of an array at the deepest place
MAX_FRACTION = 1 << 16  # bits of its integers: reducing larger ones, when they are read, could take hours
_STR = frozenset({str})
_CONTAINERS = frozenset({dict, list})
_INT64 = range(-(2**63), 2**63)
_PATH_SHOWN = 8  # steps of a path that an error shows; a list that holds itself has no end


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
    """The packed tree of a state; the state itself where it is one, so it is not to be changed.

    Raises StateError naming the path of the first value that is no plain data.
    """
    try:
        return state if type(state) in _CONTAINERS and _is_packed(state, 1) else _pack(state, 0)
    except StateError as error:
        raise StateError(f"state{path_of_failure(state, _children, _pack)}: {error}") from error.__cause__
    except RecursionError as error:
        raise StateError("state: nested too deep for what is left of the stack") from error


def check_depth(tree: Any) -> None:
    """Refuse (StateFormatError) a tree of lists and dicts that is too deep, level by level, without recursion."""
    level, depth = [tree], 0
    while level:
        if depth > MAX_DEPTH:
            raise StateFormatError(too_deep())
        children = [child for node in level for child in (node.values() if type(node) is dict else node)]
        level = [child for child in children if type(child) in (dict, list)]
        depth += 1


def too_deep() -> str:
    return f"nested deeper than {MAX_DEPTH} levels"


def path_of_failure(
    value: Any, children: Callable[[Any], Iterator[tuple[Any, Any]]], attempt: Callable[[Any, int], Any]
) -> str:
    """Where in `value` an attempt fails: found by trying each child again, which costs nothing while all is well."""
    steps = ""
    for _ in range(_PATH_SHOWN):
        step = next((pair for pair in children(value) if _fails(attempt, pair[1])), None)
        if step is None:
            break
        steps += f"[{shown(step[0])}]"
        value = step[1]
    return steps


def _fails(attempt: Callable[[Any, int], Any], value: Any) -> bool:
    try:
        attempt(value, 0)
    except StateError:
        return True
    return False


def shown(key: Any) -> str:
    """A key in an error, not too long."""
    try:
        text = repr(key)
    except ValueError:  # Python writes no int of more than some thousand digits
        text = f"<{type(key).__name__} with a huge integer>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if type(value) is dict:
        yield from value.items()
    elif type(value) in (list, tuple):
        yield from enumerate(value)


def _pack(value: Any, depth: int) -> Any:
    packer = _PACKERS.get(type(value))
    if packer is not None:
        return packer(value, depth)
    if _arrays.is_array(value):
        return {"$array": _arrays.packed(value)}
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    raise StateError(f"a {name} is no plain data; dspex.state.to_plain() converts dataclasses, enums, models, paths")


def _is_packed(container: Any, depth: int) -> bool:
    """Whether a dict or list is its own packed tree: most are, and seeing that takes a third of making it anew."""
    if depth > MAX_DEPTH:
        return False
    if type(container) is dict:
        if not _STR.issuperset(map(type, container)) or (len(container) == 1 and is_tagged(container)):
            return False
        if not all(map(str.isascii, container)):
            return False  # half a surrogate pair may be in a key
        items: Iterable[Any] = container.values()
    else:
        items = container
    for item in items:
        kind = type(item)
        if kind is str:
            if not item.isascii() and not _is_text(item):
                return False
        elif kind in _CONTAINERS:
            if not _is_packed(item, depth + 1):
                return False
        elif not _is_packed_leaf(kind, item):
            return False
    return True


def _is_packed_leaf(kind: type, item: Any) -> bool:
    if kind is int:
        return item in _INT64
    return math.isfinite(item) if kind is float else kind is bool or item is None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _deeper(depth: int, levels: int = 1) -> int:
    if depth + levels > MAX_DEPTH:
        raise StateError(f"{too_deep()}, or holds itself")
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
    return [item if type(item) is str and item.isascii() else _pack(item, depth) for item in value]


def _pack_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    depth = _deeper(depth)
    if _STR.issuperset(map(type, value)) and not (len(value) == 1 and is_tagged(value)):
        # Most of most states is text under text: what needs no look is not looked at by a call of its own.
        return {
            key if key.isascii() else _pack_str(key, depth): (
                item if type(item) is str and item.isascii() else _pack(item, depth)
            )
            for key, item in value.items()
        }
    depth = _deeper(depth, 2)
    return packed_dict([(_pack(key, depth), _pack(item, depth)) for key, item in value.items()])


def _pack_tuple(value: tuple[Any, ...], depth: int) -> Any:
    depth = _deeper(depth, 2)
    return {"$tuple": [_pack(item, depth) for item in value]}


def _pack_set(value: Iterable[Any], depth: int) -> Any:
    depth = _deeper(depth, 2)
    return {f"${type(value).__name__}": sorted((_pack(item, depth) for item in value), key=deterministic)}


def _pack_fraction(value: Fraction, depth: int) -> Any:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_FRACTION:
        raise StateError(f"a fraction of integers of more than {MAX_FRACTION} bits; keep a tuple of both")
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


PLAIN_LEAVES = frozenset(_PACKERS) - {list, tuple, dict, set, frozenset, datetime, time}  # need no look inside
