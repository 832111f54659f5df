"""The types that the variables of a Rust program have, by the values that they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_SIMPLE: Final = {bool: "bool", float: "f64", str: "String", bytes: "Vec<u8>", bytearray: "Vec<u8>"}
_ANY: Final = "Json"
_MOST: Final = 8  # members of a tuple


def type_of(value: object) -> str:
    """A type of Rust's that says all of the value; `Json` where no other does."""
    kind = type(value)
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind is int:
        return _integer([value])
    if value is None:
        return "Option<Json>"
    if isinstance(value, list):
        return f"Vec<{_common(value)}>"
    if isinstance(value, tuple) and 0 < len(value) <= _MOST:
        return f"({', '.join(map(type_of, value))},)"
    if isinstance(value, (set, frozenset)):
        return _hashed(f"std::collections::HashSet<{_common(value)}>", value)
    if isinstance(value, dict):
        return _hashed(f"std::collections::HashMap<{_common(value)}, {_common(value.values())}>", value)
    return _ANY


def _hashed(made: str, keys: Collection[Any]) -> str:
    """The type, where what is hashed in it is of one kind that Rust hashes."""
    kinds = {*map(type, keys)}
    return made if kinds <= {str} or kinds in ({int}, {bool}, {bytes}) else _ANY


def _common(items: Collection[Any]) -> str:
    """The one type that all have; of dictionaries within others it is not asked what they hold."""
    kinds = {*map(type, items)}
    if not kinds:
        return "String" if isinstance(items, dict) else _ANY  # the names of no members
    if kinds == {int}:
        return _integer(items)
    if kinds == {int, float}:
        return "f64" if all(-(1 << 53) <= item <= 1 << 53 for item in items if type(item) is int) else _ANY
    if type(None) in kinds and len(kinds) == 2:
        inner = _common([item for item in items if item is not None])
        return f"Option<{inner}>" if inner != _ANY else _ANY
    if len(kinds) > 1:
        return _ANY
    (kind,) = kinds
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind is dict and all(type(key) is str for item in items for key in item):
        return "std::collections::HashMap<String, Json>"
    if kind is list or kind is tuple:
        types = {type_of(item) for item in items if item or kind is tuple} or {f"Vec<{_ANY}>"}
        return types.pop() if len(types) == 1 else _ANY
    return _ANY


def _integer(items: Collection[Any]) -> str:
    low, high = min(items), max(items)
    for bits in (64, 128):
        if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1):
            return f"i{bits}"
    return "BigInt"
