"""Values across the wall, on the host's side: out as a pickle of plain data, in from JSON with tags.

Theory of operation. Outwards, C's pickler handles the builtin types by itself and asks `reducer_override` for all
others; that knows one answer only, `rebuild(kind, content)`, so no `__reduce__` of anybody is ever called. Only when a
value is refused does a slow walk find where it lies.

Inwards, nothing is believed. Every [offset, length] must begin where the one before it ended, or later: so no byte of
the buffers is read twice, and the work and memory stay linear in what arrived. Whatever goes wrong becomes
`MalformedValue`. No name that a guest sends is imported or evaluated; the table of kinds is `put_together`.

Loads nothing but json and pickle at first: numpy, decimal and the like come when data of theirs does.
"""

from __future__ import annotations

import io
import json
import keyword
import pickle
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, Final, NoReturn

from dspex.errors import VariableError
from dspex.languages.guests import python_frames as frames
from dspex.languages.guests.python_values import NotCarried, describe, put_together, take_apart, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LARGE: Final = 1 << 16  # from this many bytes on, a buffer of its own
_DIGITS: Final = 4300  # more in one JSON integer would take quadratic time
_INTEGER: Final = re.compile(r"-?0x[0-9a-f]+", re.ASCII)
_FLOATS: Final = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


class MalformedValue(ValueError):  # noqa: N818  (it is what the bytes are)
    """What a guest sent as its value is not one; the message says why."""


class NeedsPackage(MalformedValue):
    """The value holds data of a package, `name`, that is not installed on the host."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the value holds {name} data, and {name} is not installed here: pip install {name}")
        self.name = name


# --- Names ---------------------------------------------------------------------------------------------------------


def check_names(variables: Mapping[str, object]) -> None:
    """Raise `VariableError` for a name that the program could not use, or that would hide the engine from it."""
    for name in variables:
        if reason := name_fault(name):
            raise VariableError(f"variable {name!r} {reason}", path=str(name))


def name_fault(name: object) -> str:
    """Why a program could not use this name, or should not; empty when it may."""
    if not isinstance(name, str):
        return f"has a name of type {type_name(name)}: names are str"
    if not name.isidentifier():
        return "is not a name in Python: use letters, digits and _, with no digit first"
    if keyword.iskeyword(name):
        return f"is a keyword of Python: call it {name + '_'!r}"
    if name.startswith("__") and name.endswith("__"):
        return f"would hide what the engine keeps under such names: call it {name.strip('_') or 'value'!r}"
    usual = unicodedata.normalize("NFKC", name)
    return "" if usual == name else f"could not be reached, for Python reads that name as {usual!r}: call it so"


# --- Outwards ------------------------------------------------------------------------------------------------------


def rebuild(kind: str, content: object) -> NoReturn:
    """The one name in a pickle of ours. The guest has its own function for it; here it is only a name."""
    raise AssertionError("the host never unpickles")


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self.keys_in_doubt = False

    def reducer_override(self, obj: Any) -> Any:
        """Called by C for all but the builtin types."""
        if obj is rebuild:
            return NotImplemented
        if type(obj) is _Large:
            return rebuild, ("bytes", pickle.PickleBuffer(obj.data))
        kind, content = take_apart(obj)
        if not kind and type(content) in (dict, list, set) and type(obj).__hash__ is not None:
            self.keys_in_doubt = True
        if kind == "array" and "data" in content:
            content = {**content, "data": _buffer(content["data"])}
        return rebuild, (kind, content)


def _buffer(data: memoryview) -> bytes | pickle.PickleBuffer:
    return bytes(data) if len(data) < _LARGE else pickle.PickleBuffer(data)


class _Large:
    """Marks bytes that shall be a buffer of their own."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def _marked(value: object) -> object:
    return _Large(value) if type(value) is bytes and len(value) >= _LARGE else value


def encode(variables: Mapping[str, object]) -> tuple[bytes, list[memoryview]]:
    """The variables as a pickle of plain data, and its large buffers (raw bytes, in order).

    Raises `VariableError`, with the path of the value that cannot cross.
    """
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    pickler = _Pickler(file, buffers)
    try:
        pickler.dump({name: _marked(value) for name, value in variables.items()})
    except Exception as error:  # the caller's own classes may raise anything while they are read
        raise _explained(variables, error) from error
    if pickler.keys_in_doubt and (fault := first_fault(variables)):
        raise fault
    return file.getvalue(), [buffer.raw() for buffer in buffers]


def _explained(variables: Mapping[str, object], error: Exception) -> VariableError:
    if isinstance(error, RecursionError):
        return VariableError("the variables are nested too deeply, or one of a class of your own contains itself")
    return first_fault(variables) or VariableError(f"the variables cannot cross into the guest: {error}")


_ALLOWED: Final = (
    "What can: None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, Decimal, Fraction, "
    "dates and times, UUID, Path, Enum members, dataclass instances, and arrays and frames of numpy, pandas and Polars."
)
_WAYS_OUT: Final = {
    "function": "Put its source into the code instead.",
    "builtin_function_or_method": "Call it in the code instead.",
    "method": "Put its source into the code instead.",
    "type": "Put its source into the code instead.",
    "module": "Name it in `imports` instead.",
    **dict.fromkeys(
        ("generator", "range", "map", "filter", "zip", "dict_keys", "dict_values", "dict_items", "deque"),
        "Convert it with list(...).",
    ),
}


def first_fault(variables: Mapping[str, object]) -> VariableError | None:
    """The first value that cannot cross, found by a walk; None when all can."""
    seen: set[int] = set()
    stack: list[tuple[str, object]] = [*reversed(list(variables.items()))]
    while stack:
        path, value = stack.pop()
        if id(value) in seen:
            continue
        try:
            below = [*_below(path, value)]
        except NotCarried as reason:
            hint = _WAYS_OUT.get(type(value).__name__, "Convert it first.")
            return VariableError(f"{path} cannot cross into the guest: {reason}. {hint} {_ALLOWED}", path=path)
        except Exception as error:  # see `encode`
            return VariableError(f"{path} cannot cross into the guest: reading it raised {error!r}", path=path)
        if type(value) in _CONTAINERS:
            seen.add(id(value))  # of these the caller's variables hold a reference: the id stays theirs
        stack.extend(reversed(below))
    return None


_CONTAINERS: Final = (list, tuple, dict, set, frozenset)
_LEAVES: Final = (type(None), bool, int, float, str, bytes, bytearray)


def _below(path: str, value: Any) -> Iterator[tuple[str, object]]:
    """The values within `value`, each with its path."""
    if type(value) in _LEAVES:
        return
    if type(value) is dict:
        for key, item in value.items():
            _check_key(key)
            yield f"{path} (key {describe(key, 60)})", key
            yield f"{path}[{describe(key, 60)}]", item
    elif type(value) in (set, frozenset):
        for item in value:
            _check_key(item)
            yield f"{path} (member {describe(item, 60)})", item
    elif type(value) in (list, tuple):
        for place, item in enumerate(value):
            yield f"{path}[{place}]", item
    else:
        yield from _within(path, *take_apart(value))


def _within(path: str, kind: str, content: Any) -> Iterator[tuple[str, object]]:
    if not kind:
        yield path, content
    elif kind in ("array", "frame", "series"):
        for items in _object_items(content):
            for item in items:
                yield f"{path} (an item of dtype object)", item


def _object_items(content: Any) -> Iterator[list[Any]]:
    """The lists of objects in an array or a frame that was taken apart."""
    if isinstance(content, dict):
        if "items" in content:
            yield content["items"]
        for part in content.values():
            yield from _object_items(part)
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict):
                yield from _object_items(part)


def _check_key(key: Any) -> None:
    """Raise `NotCarried` for a key that has a hash here and would have none in the guest."""
    while type(key) not in _LEAVES and type(key) not in _CONTAINERS:
        try:
            kind, key = take_apart(key)
        except NotCarried:
            return  # the walk comes to the key by itself
        if kind:
            return
        if type(key) in (list, dict, set):
            raise NotCarried("a key or member of a set would arrive there as something that has no hash")
    if type(key) is tuple:
        for item in key:
            _check_key(item)


# --- Inwards -------------------------------------------------------------------------------------------------------


def decode(text: bytes | str, buffers: bytes | memoryview = b"", *, tagged: bool, limit: int | None = None) -> object:
    """The value that a guest sent, `text` and `buffers` being at most `limit` bytes together.

    Arrays share `buffers` if that is writable memory, else they are copies. Raises only `MalformedValue`
    (`NeedsPackage` if a package is missing).
    """
    try:
        if limit is not None and len(text) + len(buffers) > limit:
            raise MalformedValue(f"a value of more than {limit:,} bytes")
        plain = text if isinstance(text, str) else str(text, "utf-8")
        return _decoder(buffers, tagged).decode(plain)
    except MalformedValue:
        raise
    except ImportError as error:
        raise NeedsPackage(error.name or "a package") from error
    except RecursionError:
        raise MalformedValue("the value is nested too deeply") from None
    except Exception as error:  # a guest may send anything; numpy, pandas and Polars object in many ways
        raise MalformedValue(f"the value is malformed: {error!r:.300}") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # Polars, on what its Rust did not expect
            raise MalformedValue("the value is malformed: Polars gave up on it") from error
        raise


def _decoder(buffers: bytes | memoryview, tagged: bool) -> json.JSONDecoder:
    limited = 0 < sys.get_int_max_str_digits() <= _DIGITS
    if not tagged and limited:
        return _PLAIN
    hook = _Untagger(buffers).untag if tagged else None
    return json.JSONDecoder(
        object_hook=hook, parse_constant=_refuse_constant, parse_int=None if limited else _parse_int
    )


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedValue(f"{name} is not JSON")


def _parse_int(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise MalformedValue("an integer of too many digits")
    return int(digits)


_PLAIN: Final = json.JSONDecoder(parse_constant=_refuse_constant)


class _Untagger:
    """Undoes the tags of one value; they come innermost first, and in the order of the text."""

    __slots__ = ("_buffers", "_end", "_parts")

    def __init__(self, buffers: bytes | memoryview) -> None:
        self._buffers = memoryview(buffers).cast("B")
        self._end = 0
        self._parts = 0

    def untag(self, found: dict[str, Any]) -> Any:
        """For every JSON object: the value that it stands for."""
        if len(found) != 1:
            return found
        ((key, content),) = found.items()
        if not key.startswith("~"):
            return found
        own = _TAGS.get(key)
        return put_together(key[1:], content) if own is None else own(self, content)

    def _reference(self, content: Any) -> memoryview:
        offset, length = content
        if type(content) is not list or type(offset) is not int or type(length) is not int:
            raise MalformedValue("a reference into the buffers that is none")
        if length < 0 or offset < self._end or offset + length > len(self._buffers):
            raise MalformedValue("a reference beyond the buffers, or to what another one holds")
        self._end = offset + length
        return self._buffers[offset : self._end]

    def _bytes(self, content: Any) -> bytes:
        return bytes(self._reference(content))

    def _array(self, content: Any) -> Any:
        if content["dtype"] == "object":
            return put_together("array", content)
        return frames.build_array(content["dtype"], content["shape"], self._reference(content["data"]))

    def _frame(self, content: Any) -> Any:
        self._count_parts(content)
        return put_together("frame", content)

    def _series(self, content: Any) -> Any:
        self._count_parts(content)
        return put_together("series", content)

    def _count_parts(self, content: Any) -> None:
        self._parts += frames.count_parts(content)
        if self._parts > frames.MOST_PARTS:
            raise MalformedValue("too many frames, series or columns")

    def _str(self, content: Any) -> str:
        return "".join(_list(content))

    def _int(self, content: Any) -> int:
        if not _INTEGER.fullmatch(content):
            raise MalformedValue("an integer that is none")
        return int(content, 16)

    def _float(self, content: Any) -> float:
        return _FLOATS[content]

    def _tuple(self, content: Any) -> tuple[Any, ...]:
        return tuple(_list(content))

    def _set(self, content: Any) -> set[Any]:
        return set(_keys(_list(content)))

    def _frozenset(self, content: Any) -> frozenset[Any]:
        return frozenset(_keys(_list(content)))

    def _dict(self, content: Any) -> dict[Any, Any]:
        keys = _keys([key for key, _ in _list(content)])
        result = dict(zip(keys, (value for _, value in content), strict=True))
        if len(result) != len(keys):
            raise MalformedValue("a dict that has a key twice")
        return result


def _list(content: Any) -> list[Any]:
    if type(content) is not list:
        raise MalformedValue("a tag whose content is no list")
    return content


def _keys(keys: list[Any]) -> list[Any]:
    if len(keys) > 100:
        frames.check_spread(keys)
    return keys


_TAGS: Final[dict[str, Callable[[_Untagger, Any], Any]]] = {
    "~bytes": _Untagger._bytes,
    "~array": _Untagger._array,
    "~frame": _Untagger._frame,
    "~series": _Untagger._series,
    "~str": _Untagger._str,
    "~int": _Untagger._int,
    "~float": _Untagger._float,
    "~tuple": _Untagger._tuple,
    "~set": _Untagger._set,
    "~frozenset": _Untagger._frozenset,
    "~dict": _Untagger._dict,
}
