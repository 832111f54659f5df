"""Values of programs to plain data, which is all that a state holds.

No class is named in the result: what a value was is known to the object that the state is loaded into.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import datetime, time, timezone
from pathlib import PurePath
from typing import Any

from dspex.errors import StateError
from dspex.state import _packed

# Of subclasses, the value without its class; methods that a subclass may have overridden are not asked.
_BASES: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes(memoryview(value)),
    bytearray: bytes,
    memoryview: bytes,
}


def to_plain(value: Any) -> Any:
    """A copy of `value` as plain data; lists, dicts, sets and arrays in it are new.

    Dataclasses, pydantic models and msgspec structs become dicts of their fields, enums their values, paths text,
    NumPy scalars Python numbers, other mappings, sequences and sets dict, list and set, subclasses of str and numbers
    their bases, times in a named zone times at their offset.

    Raises StateError naming the path of a value that is none of these, or of nesting deeper than a state may be.
    """
    try:
        return _plain(value, 0)
    except StateError as error:
        raise StateError(f"value{_packed.path_of_failure(value, _children, _plain)}: {error}") from error.__cause__
    except RecursionError as error:
        raise StateError("value: nested too deep for what is left of the stack") from error


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _packed.PLAIN_LEAVES:
        return value
    if depth >= _packed.MAX_DEPTH:
        raise StateError(f"nested deeper than {_packed.MAX_DEPTH} levels, or holds itself")
    if kind in (list, tuple):
        return kind(_plain(item, depth + 1) for item in value)
    if kind in (set, frozenset):
        return _plain_set(value, kind, depth)
    if kind is dict:
        return _plain_dict(value, depth)
    if kind in (datetime, time):
        return _at_offset(value)
    return _of_class(value, depth)


def _plain_dict(value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
    return dict(zip(_distinct(value, depth), [_plain(item, depth + 1) for item in value.values()], strict=True))


def _plain_set(value: Set[Any], kind: Callable[[Any], Any], depth: int) -> Any:
    return kind(_distinct(value, depth))


def _distinct(keys: Iterable[Any], depth: int) -> list[Any]:
    """Keys or items of a set, plain. Raises StateError when two become one, or one has no hash as plain data."""
    plain = [_plain(key, depth + 1) for key in keys]
    try:
        distinct = len(set(plain))
    except TypeError as error:
        raise StateError(f"a key, or an item of a set, can be none as plain data: {error}") from error
    if distinct != len(plain):
        raise StateError("two keys, or two items of a set, become the same plain data")
    return plain


def _at_offset(value: Any) -> Any:
    if type(value.tzinfo) in (timezone, type(None)):
        return value
    offset = value.utcoffset()
    if offset is None:
        raise StateError(f"a time alone has no offset in the zone {value.tzinfo}; keep a datetime")
    return value.replace(tzinfo=timezone(offset), fold=0)


def _of_class(value: Any, depth: int) -> Any:
    for accepts, convert in _CLASSES:
        if accepts(value):
            return convert(value, depth)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    raise StateError(f"a {name} has no plain form")


def _is_instance(*classes: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, classes)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _has(attribute: str) -> Callable[[Any], bool]:
    return lambda value: hasattr(type(value), attribute) and not isinstance(value, type)


def _fields(value: Any, depth: int) -> dict[str, Any]:
    return _plain_dict({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)


def _model(value: Any, depth: int) -> dict[str, Any]:
    """Of a pydantic model: declared fields, then the extra ones that it allows."""
    fields = {name: getattr(value, name) for name in type(value).model_fields}
    return _plain_dict(fields | (value.__pydantic_extra__ or {}), depth)


def _struct(value: Any, depth: int) -> dict[str, Any]:
    return _plain_dict({name: getattr(value, name) for name in value.__struct_fields__}, depth)


def _is_numpy(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "dtype")


def _numpy(value: Any, depth: int) -> Any:
    """Arrays are copied; numbers become Python's; moments, which NumPy counts otherwise, arrays without dimension.

    Of the other classes of arrays, one in a file is a buffer like any; matrices behave unlike arrays.
    """
    import numpy

    if type(value) in (numpy.ndarray, numpy.memmap):
        return numpy.array(value)
    if isinstance(value, numpy.datetime64 | numpy.timedelta64):
        return numpy.array(value)
    number = value.item() if isinstance(value, numpy.generic) else value
    if type(number) not in _packed.PLAIN_LEAVES:
        raise StateError(f"a numpy.{type(value).__name__} has no plain form")
    return number


def _base(value: Any, depth: int) -> Any:
    return next(convert for base, convert in _BASES.items() if isinstance(value, base))(value)


def _children(value: Any) -> Any:
    if isinstance(value, Mapping):
        return iter(value.items())
    if _is_dataclass(value):
        return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    return enumerate(value) if isinstance(value, list | tuple) else iter(())


_CLASSES: tuple[tuple[Callable[[Any], bool], Callable[[Any, int], Any]], ...] = (
    (_is_instance(enum.Enum), lambda value, depth: _plain(value.value, depth + 1)),
    (_is_instance(*_BASES), _base),
    (_is_numpy, _numpy),
    (_is_instance(PurePath), lambda value, depth: str(value)),
    (_is_dataclass, _fields),
    (_has("model_fields"), _model),
    (_has("__struct_fields__"), _struct),
    (_is_instance(Mapping), _plain_dict),
    (_is_instance(tuple), lambda value, depth: tuple(_plain(item, depth + 1) for item in value)),
    (_is_instance(Sequence), lambda value, depth: [_plain(item, depth + 1) for item in value]),
    (_is_instance(Set), lambda value, depth: _plain_set(value, set, depth)),
)
