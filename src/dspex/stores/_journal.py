"""The files of `file://`: one for each write, in the order in which they were made, for people and programs to read.

    dspex journal 1
    {"write": 12, "revision": 9}
    note [{"kind":"save","module_id":"answerer","version_id":"3"}]
    put m/answerer {"sha256":"...","record":{...}}
    delete t/answerer/old
    drop 2c26b46b...
    chunk 9f86d081... b"what a chunk holds, with escapes"
    end 5d41402a...            the SHA-256 of all lines above

A value is as it is where it is JSON on one line, else a JSON string of its text, else, where its bytes are no UTF-8, `b` and a
JSON string with one character for each byte (Latin-1): what is ASCII in it can be read. All are read back to the very bytes.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from dspex.errors import IntegrityError, StoreError
from dspex.stores._store import Write

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANY = b"dspex journal "
MAGIC = b"dspex journal 1\n"
_VALUE = len("chunk ") + 64 + 1  # where the value of a chunk begins on its line


class Location(NamedTuple):
    """Where a chunk stands: the number of its file, and where its value begins there, and how long it is."""

    file: int
    offset: int
    length: int

    def packed(self) -> bytes:
        """As bytes, for an index."""
        return b"%d %d %d" % self


class Entry(NamedTuple):
    """A file as it was read: its number, the revision of its write (0 for one without records), what it says."""

    number: int
    revision: int
    write: Write
    places: dict[bytes, Location]
    checksum: bytes


def location(packed: bytes) -> Location:
    """The inverse of `Location.packed`."""
    return Location(*map(int, packed.split()))


def written(number: int, revision: int, write: Write) -> tuple[bytes, Entry]:
    """The file of a write, and what reading it gives."""
    lines = [MAGIC, b'{"write": %d, "revision": %d}\n' % (number, revision)]
    lines += [b"note %s\n" % text_of(write.note)] if write.has_records else []
    lines += [b"put %s %s\n" % (key.encode(), text_of(value)) for key, value in write.put.items()]
    lines += [b"delete %s\n" % key.encode() for key in write.delete]
    lines += [b"drop %s\n" % digest.hex().encode() for digest in write.drop]
    offset, places = sum(map(len, lines)), {}
    for digest, data in write.chunks.items():
        lines.append(b"chunk %s %s\n" % (digest.hex().encode(), text_of(data)))
        places[digest] = Location(number, offset + _VALUE, len(lines[-1]) - _VALUE - 1)
        offset += len(lines[-1])
    body = b"".join(lines)
    checksum = hashlib.sha256(body).hexdigest().encode()
    return body + b"end %s\n" % checksum, Entry(number, revision, write, places, checksum)


def read(data: bytes, source: str, number: int) -> Entry:
    """What the file of a number says. Raises IntegrityError when any byte of it is not what was written, or it is another's;
    StoreError for one of a newer dspex."""
    end = len(data) - 69  # "end ", 64 digits, and the line's end
    whole = data[end:] == b"end %s\n" % hashlib.sha256(data[:end]).hexdigest().encode()
    if whole and data.startswith(_ANY) and not data.startswith(MAGIC):
        raise StoreError(f"{source} was written by a newer dspex; this one reads journals of format 1: upgrade dspex")
    if not whole or not data.startswith(MAGIC):
        raise IntegrityError(f"{source} is damaged: its checksum differs; restore it from a copy", thing=source)
    entry = _parsed(data[:end], data[end + 4 : -1])
    if entry.number != number:
        raise IntegrityError(f"{source} is the file of write {entry.number}; restore it from a copy", thing=source)
    return entry


def lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their offsets, damaged or not."""
    offset = 0
    for line in data.split(b"\n"):
        yield offset, line
        offset += len(line) + 1


def _parsed(data: bytes, checksum: bytes) -> Entry:
    header = json.loads(data[len(MAGIC) :].split(b"\n", 1)[0])
    number = header["write"]
    put: dict[str, bytes] = {}
    chunks: dict[bytes, bytes] = {}
    places: dict[bytes, Location] = {}
    delete: list[str] = []
    drop: list[bytes] = []
    note = b""
    for offset, line in lines(data):
        kind, _, rest = line.partition(b" ")
        name, _, text = rest.partition(b" ")
        if kind == b"note":
            note = bytes_of(rest)
        elif kind == b"put":
            put[name.decode()] = bytes_of(text)
        elif kind == b"delete":
            delete.append(name.decode())
        elif kind == b"chunk":
            digest = bytes.fromhex(name.decode())
            chunks[digest] = bytes_of(text)
            places[digest] = Location(number, offset + len(line) - len(text), len(text))
        elif kind == b"drop":
            drop.append(bytes.fromhex(name.decode()))
    write = Write(put=put, delete=delete, chunks=chunks, drop=drop, note=note)
    return Entry(number, header["revision"], write, places, checksum)


def text_of(value: bytes) -> bytes:
    """A value on one line."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return b"b" + json.dumps(value.decode("latin-1"), ensure_ascii=False).encode()
    if value[:1] in (b"{", b"[") and "\n" not in text:
        return value
    return json.dumps(text, ensure_ascii=False).encode()


def bytes_of(text: bytes) -> bytes:
    """The inverse of `text_of`. Raises ValueError for what it never wrote."""
    if text[:1] == b'"':
        return _string(text).encode()
    return _string(text[1:]).encode("latin-1") if text[:1] == b"b" else text


def _string(text: bytes) -> str:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("no string") from None
    if type(value) is not str:
        raise ValueError("no string")
    return value
