"""The plain data of a packed tree that was read from anywhere; the inverse of `_packed.pack`, which trusts nothing."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dspex.errors import StateFormatError
from dspex.state import _arrays, _packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEX = re.compile(r"-?0x[0-9a-f]+")
# Numbers, unlike text, have hashes that anyone can compute: a thousand of one hash cost a million comparisons.
_MAX_COLLISIONS = 1000


def unpack(tree: Any) -> Any:
    """The state of a packed tree, read from anywhere. Raises StateFormatError naming the path of what is wrong."""
    try:
        return _unpack(tree, 0)
    except StateFormatError as error:
        place = f"state{_packed.path_of_failure(tree, _branches, _unpack)}"
        raise StateFormatError(error.cause, place=place) from error.__cause__


def _branches(node: Any) -> Iterator[tuple[Any, Any]]:
    if type(node) is dict:
        yield from node.items()
    elif type(node) is list:
        yield from enumerate(node)


def _unpack(node: Any, depth: int) -> Any:
    kind = type(node)
    if kind in _LEAVES:
        return node
    if depth >= _packed.MAX_TREE:
        raise StateFormatError(_packed.too_deep())
    if kind is list:
        return [_unpack(item, depth + 1) for item in node]
    if kind is dict and set(map(type, node)) <= {str}:
        return (
            _untag(node, depth)
            if _packed.is_tagged(node)
            else {key: _unpack(item, depth + 1) for key, item in node.items()}
        )
    raise StateFormatError(f"a {kind.__name__} stands where a state has none")


_LEAVES = frozenset({type(None), bool, int, float, str})


def _untag(node: dict[str, Any], depth: int) -> Any:
    ((tag, content),) = node.items()
    unpacker = _UNPACKERS.get(tag)
    if unpacker is None:
        raise StateFormatError(f"the tag {_packed.shown(tag)} is unknown")
    try:
        return unpacker(content, depth + 1)
    except (ValueError, TypeError, ArithmeticError) as error:
        if isinstance(error, StateFormatError):
            raise
        raise StateFormatError(f"{tag} does not hold what it must: {error!s:.200}") from error


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


def _unpack_fraction(content: Any, depth: int) -> Fraction:
    numerator, denominator = _pair(content, int, depth)
    if max(numerator.bit_length(), denominator.bit_length()) > _packed.MAX_FRACTION:
        raise StateFormatError(f"a fraction of integers of more than {_packed.MAX_FRACTION} bits")
    return Fraction(numerator, denominator)


def _unpack_timedelta(content: Any, depth: int) -> timedelta:
    days, seconds, microseconds = (_expect(item, int) for item in _expect(content, list))
    return timedelta(days, seconds, microseconds)


def _unpack_items(content: Any, depth: int) -> list[Any]:
    if depth >= _packed.MAX_TREE:
        raise StateFormatError(_packed.too_deep())
    return [_unpack(item, depth + 1) for item in _expect(content, list)]


def _unpack_set(content: Any, depth: int) -> frozenset[Any]:
    items = _unpack_items(content, depth)
    _check_hashes(items)
    found = frozenset(items)
    if len(found) != len(items):
        raise StateFormatError("an item stands in a set twice")
    return found


def _unpack_pairs(content: Any, depth: int) -> dict[Any, Any]:
    pairs = [tuple(_expect(pair, list)) for pair in _unpack_items(content, depth)]
    _check_hashes([key for key, _ in pairs])
    found = dict(pairs)
    if len(found) != len(pairs):
        raise StateFormatError("a key stands in a dict twice")
    return found


def _check_hashes(keys: list[Any]) -> None:
    if len(keys) - len(set(map(hash, keys))) > _MAX_COLLISIONS:
        raise StateFormatError("its keys or items were chosen to have the same hash")


def _unpack_array(content: Any, depth: int) -> Any:
    return _arrays.unpacked(_unpack(_expect(content, dict), depth))


_UNPACKERS: dict[str, Callable[[Any, int], Any]] = {
    "$int": _unpack_int,
    "$float": _unpack_float,
    "$complex": lambda content, depth: complex(*_pair(content, float, depth)),
    "$bytes": lambda content, depth: _expect(content, bytes),
    "$decimal": lambda content, depth: Decimal(_expect(content, str)),
    "$fraction": _unpack_fraction,
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
