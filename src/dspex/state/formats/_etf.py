"""Erlang's external term format, for `:erlang.binary_to_term(bytes, [:safe])` in Erlang and Elixir, and back.

    None, True, False    the atoms nil, true, false; no other atom is ever written, and none is read
    int of any size      integer
    finite float         float
    str                  binary (UTF-8)
    list                 proper list
    dict with str keys   map with binary keys
    all else             {<<"$tag">>, Content}, the tags being those of `_packed.py`; bytes are {<<"$bytes">>, Binary}

What only Erlang writes is read, too: maps with other keys become dicts with these keys, other tuples become tuples.
A binary that is no UTF-8 is refused, as its type would depend on its content; so are atoms, pids, references,
functions, bit strings, improper lists and compressed terms.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from dspex.errors import StateFormatError
from dspex.state import _packed
from dspex.state.formats._format import Format

_VERSION = b"\x83"
_NEW_FLOAT, _SMALL_INTEGER, _INTEGER, _SMALL_ATOM_UTF8 = 70, 97, 98, 119
_SMALL_TUPLE, _NIL, _LIST, _BINARY, _SMALL_BIG, _LARGE_BIG, _MAP = 104, 106, 108, 109, 110, 111, 116
_ATOMS: dict[bytes, bool | None] = {b"nil": None, b"true": True, b"false": False}
_INT64 = range(-(2**63), 2**63)
_MAX_DEPTH = _packed.MAX_DEPTH + 1  # the envelope is one level


def dumps(tree: Any) -> bytes:
    """The tree as one term."""
    out = bytearray(_VERSION)
    _write(out, tree)
    return bytes(out)


def _write(out: bytearray, node: Any) -> None:
    _WRITERS[type(node)](out, node)


def _write_atom(out: bytearray, node: bool | None) -> None:
    name = "nil" if node is None else str(node).lower()
    out += struct.pack(">BB", _SMALL_ATOM_UTF8, len(name)) + name.encode()


def _write_int(out: bytearray, node: int) -> None:
    if 0 <= node <= 255:
        out += struct.pack(">BB", _SMALL_INTEGER, node)
    elif -(2**31) <= node < 2**31:
        out += struct.pack(">Bi", _INTEGER, node)
    else:
        digits = abs(node).to_bytes((node.bit_length() + 7) // 8, "little")
        small = len(digits) < 256
        out += struct.pack(">BBB" if small else ">BIB", _SMALL_BIG if small else _LARGE_BIG, len(digits), node < 0) + digits


def _write_binary(out: bytearray, node: bytes) -> None:
    out += struct.pack(">BI", _BINARY, len(node)) + node


def _write_list(out: bytearray, node: list[Any]) -> None:
    if node:
        out += struct.pack(">BI", _LIST, len(node))
        for item in node:
            _write(out, item)
    out.append(_NIL)


def _write_dict(out: bytearray, node: dict[str, Any]) -> None:
    if "$int" in node and len(node) == 1:
        _write_int(out, int(node["$int"], 16))
        return
    tagged = _packed.is_tagged(node)
    out += struct.pack(">BB", _SMALL_TUPLE, 2) if tagged else struct.pack(">BI", _MAP, len(node))
    for key, item in node.items():
        _write_binary(out, key.encode())
        _write(out, item)


_WRITERS: dict[type, Any] = {
    type(None): _write_atom,
    bool: _write_atom,
    int: _write_int,
    float: lambda out, node: out.extend(struct.pack(">Bd", _NEW_FLOAT, node)),
    str: lambda out, node: _write_binary(out, node.encode()),
    bytes: _write_binary,
    list: _write_list,
    dict: _write_dict,
}


def loads(data: bytes) -> Any:
    """The packed tree of one term."""
    reader = _Reader(data)
    tree = reader.term(0)
    if reader.at != len(data):
        raise StateFormatError(f"{len(data) - reader.at} bytes follow the term", place=f"byte {reader.at}")
    return tree


class _Reader:
    """Reads terms one after the other; every length is held against what is left before anything is made of it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = len(_VERSION)

    def term(self, depth: int) -> Any:
        """The next term, as a packed tree."""
        if depth > _MAX_DEPTH:
            raise self._bad(f"nested deeper than {_packed.MAX_DEPTH} levels")
        start, (tag,) = self.at, self._take(1)
        method = _READERS.get(tag)
        if method is None:
            raise self._bad(f"a term of type {tag} ({_REFUSED.get(tag, 'unknown')}) has no place in a state", start)
        return method(self, depth)

    def _bad(self, cause: str, at: int | None = None) -> StateFormatError:
        return StateFormatError(cause, place=f"byte {self.at if at is None else at}")

    def _take(self, size: int) -> bytes:
        part = self._data[self.at : self.at + size]
        if len(part) != size:
            raise self._bad("the term is cut short")
        self.at += size
        return part

    def _count(self, layout: str, smallest: int) -> int:
        """The number of parts that follow, of at least `smallest` bytes each."""
        count: int = struct.unpack(layout, self._take(struct.calcsize(layout)))[0]
        if count * smallest > len(self._data) - self.at:
            raise self._bad("the term is cut short")
        return count

    def small_integer(self, depth: int) -> int:
        return self._take(1)[0]

    def integer(self, depth: int) -> int:
        found: int = struct.unpack(">i", self._take(4))[0]
        return found

    def small_big(self, depth: int) -> Any:
        return self._big(self._take(1)[0])

    def large_big(self, depth: int) -> Any:
        return self._big(self._count(">I", 1))

    def _big(self, size: int) -> Any:
        negative = self._take(1) != b"\0"
        number = int.from_bytes(self._take(size), "little")
        return _packed.pack(-number if negative else number)

    def new_float(self, depth: int) -> float:
        found: float = struct.unpack(">d", self._take(8))[0]
        if not math.isfinite(found):
            raise self._bad("Erlang has no such float", self.at - 8)
        return found

    def atom(self, depth: int) -> bool | None:
        return self._atom(self._count(">H", 1))

    def small_atom(self, depth: int) -> bool | None:
        return self._atom(self._take(1)[0])

    def _atom(self, size: int) -> bool | None:
        name = self._take(size)
        if name not in _ATOMS:
            raise self._bad(f"the atom {name.decode('latin-1')!r} is neither nil, true nor false; send a binary", self.at - size)
        return _ATOMS[name]

    def binary(self, depth: int) -> str:
        raw = self._raw()
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self._bad('a binary is no UTF-8; send bytes as {<<"$bytes">>, Binary}', self.at - len(raw)) from error

    def _raw(self) -> bytes:
        return self._take(self._count(">I", 1))

    def nil(self, depth: int) -> list[Any]:
        return []

    def string(self, depth: int) -> list[int]:
        """Erlang writes a list of bytes so."""
        return list(self._take(self._count(">H", 1)))

    def list_(self, depth: int) -> list[Any]:
        items = [self.term(depth + 1) for _ in range(self._count(">I", 1))]
        if self._take(1)[0] != _NIL:
            raise self._bad("a list is improper", self.at - 1)
        return items

    def small_tuple(self, depth: int) -> Any:
        return self._tuple(self._count(">B", 1), depth)

    def large_tuple(self, depth: int) -> Any:
        return self._tuple(self._count(">I", 1), depth)

    def _tuple(self, size: int, depth: int) -> Any:
        """Two elements, the first of which is a tag, are tagged content; all else is a tuple."""
        items = []
        for _ in range(size):
            if items == ["$bytes"] and size == 2 and self._take(1)[0] == _BINARY:
                return {"$bytes": self._raw()}
            items.append(self.term(depth + 1))
        if size == 2 and type(items[0]) is str and items[0].startswith("$"):
            return {items[0]: items[1]}
        return {"$tuple": items}

    def map_(self, depth: int) -> dict[str, Any]:
        pairs = [(self.term(depth + 1), self.term(depth + 1)) for _ in range(self._count(">I", 2))]
        found = _packed.packed_dict(pairs)
        if "$dict" not in found and len(found) != len(pairs):
            raise self._bad("a key stands twice in one map")
        return found


_READERS = {
    _NEW_FLOAT: _Reader.new_float,
    _SMALL_INTEGER: _Reader.small_integer,
    _INTEGER: _Reader.integer,
    100: _Reader.atom,  # as Erlang before 26 writes them
    115: _Reader.small_atom,
    118: _Reader.atom,
    _SMALL_ATOM_UTF8: _Reader.small_atom,
    _SMALL_TUPLE: _Reader.small_tuple,
    105: _Reader.large_tuple,
    _NIL: _Reader.nil,
    107: _Reader.string,
    _LIST: _Reader.list_,
    _BINARY: _Reader.binary,
    _SMALL_BIG: _Reader.small_big,
    _LARGE_BIG: _Reader.large_big,
    _MAP: _Reader.map_,
}
_REFUSED = {
    77: "bit string",
    80: "compressed term",
    88: "pid",
    89: "port",
    90: "reference",
    99: "float as text",
    103: "pid",
    112: "function",
    113: "function",
}

FORMAT = Format("etf", (".etf",), dumps, loads, lambda data: data.startswith(_VERSION))
