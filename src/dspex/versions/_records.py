"""What the manager writes into a store's records: their keys, their forms, and the checksum that each carries.

    m/<module>              ModuleRecord: the newest number and time, the head of each branch, the newest of main whole
    v/<module>/<number>     SavedVersion: one save, immutable; a deleted one stays as a stone without content
    i/<module>/<id>         its number, for ids that are not their number themselves
    t/<module>/<tag>        TagRecord
    g/<module>/<number>/<schema>   the number of the version that a migration made of it
    s/<name>                SnapshotRecord
    x/sweep                 SweepRecord: whether chunks are being removed (see `_compaction`)
    x/holds                 touched when a tag or snapshot begins to hold a version, which a deletion must notice
    x/format                FormatRecord: which dspex can read this store

Whoever keeps other things in the same store gives their keys a first name of more than one letter.

Names are percent-quoted in keys, so a key is ASCII and `/` always separates. A value is JSON for people to read,
`{"sha256":"<hex>","record":{...}}`, whose checksum covers the key too: a value under another's key is damage as well.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import msgspec

from dspex.errors import IntegrityError, StoreError, UsageError

FORMAT = 1
SWEEP_KEY = "x/sweep"
HOLDS_KEY = "x/holds"
FORMAT_KEY = "x/format"
MAX_NAME = 400  # bytes of UTF-8 of a module id, tag, branch or snapshot name
_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","record":', b"}"
_START = len(_HEAD) + 64 + len(_MIDDLE)


class SavedVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One save. `top` holds the hashes of the manifest's highest level, `depth` the levels below it (`_chunks`)."""

    number: int
    id: str
    uid: str
    parents: tuple[str, ...]
    branch: str | None
    schema: str
    content: str
    size: int
    time: int  # microseconds since the epoch, UTC
    top: tuple[str, ...]
    depth: int = 0
    metadata: dict[str, Any] = {}
    deleted: bool = False
    empty: bool = False  # no version, but the mark that from here on main had no newest
    arrived: int = 0  # when a version that was made elsewhere came into this store

    @property
    def since(self) -> int:
        """Since when this store has it: this grows with the numbers of a module."""
        return self.arrived or self.time


class ModuleRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a module stands. Every save of it changes this record, which is what makes saves compare-and-set."""

    number: int = 0
    time: int = 0
    heads: dict[str, int] = {}
    newest: SavedVersion | None = None  # of the main branch: loading it takes one read less


class TagRecord(msgspec.Struct, frozen=True):
    number: int
    id: str


class NumberRecord(msgspec.Struct, frozen=True):
    number: int


class SnapshotRecord(msgspec.Struct, frozen=True):
    """A named set of versions: module to number and id, as of one moment."""

    time: int
    members: dict[str, tuple[int, str]]


class SweepRecord(msgspec.Struct, frozen=True):
    """`owner` removes chunks until `until` (seconds since the epoch); empty when nobody does."""

    owner: str = ""
    until: float = 0.0


class FormatRecord(msgspec.Struct, frozen=True):
    format: int = FORMAT


Record = TypeVar("Record", bound=msgspec.Struct)
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}
_encode = msgspec.json.Encoder().encode


def name_of(what: str, name: object) -> str:
    """`name` quoted for a key. Raises UsageError naming `what` it is and what is allowed."""
    if type(name) is not str or not name:
        raise UsageError(f"{what} must be a text that is not empty, not {name!r:.100}")
    return _quoted(what, name)


@functools.lru_cache(4096)
def _quoted(what: str, name: str) -> str:
    try:
        length = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what} {name!r:.100} has half a surrogate pair; use text that UTF-8 can hold") from None
    if length > MAX_NAME:
        raise UsageError(f"{what} {name[:40]!r}... takes {length} bytes of UTF-8; at most {MAX_NAME} are allowed")
    return quote(name, safe="")


def module_key(module_id: str) -> str:
    return f"m/{name_of('a module id', module_id)}"


def version_key(module_id: str, number: int) -> str:
    return f"v/{name_of('a module id', module_id)}/{number:012d}"


def id_key(module_id: str, id: str) -> str:
    return f"i/{name_of('a module id', module_id)}/{name_of('an id', id)}"


def tag_key(module_id: str, tag: str) -> str:
    return f"t/{name_of('a module id', module_id)}/{name_of('a tag', tag)}"


def migrated_key(module_id: str, number: int, schema: str) -> str:
    return f"g/{name_of('a module id', module_id)}/{number:012d}/{name_of('a schema', schema)}"


def snapshot_key(name: str) -> str:
    return f"s/{name_of('the name of a snapshot', name)}"


def last_name(key: str) -> str:
    """The name that a key ends with, as its user gave it."""
    return unquote(key.rpartition("/")[2])


def module_of(key: str) -> str:
    """The module id in a key of a module, version, id or tag."""
    return unquote(key.split("/", 2)[1])


def sealed(key: str, record: msgspec.Struct) -> bytes:
    """The value of a record under its key."""
    body = _encode(record)
    return b"".join((_HEAD, _digest(key, body), _MIDDLE, body, _TAIL))


def unsealed(key: str, value: bytes, kind: type[Record]) -> Record:
    """The record of a value. Raises IntegrityError naming the key when it is not what was written there."""
    body = value[_START:-1]
    if value[:_START] != _HEAD + _digest(key, body) + _MIDDLE or value[-1:] != _TAIL:
        raise IntegrityError(f"the record {key} is damaged: its checksum differs", thing=key)
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        record: Record = decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise StoreError(f"the record {key} was written by another dspex: {error}; upgrade dspex") from error
    return record


def _digest(key: str, body: bytes) -> bytes:
    return hashlib.sha256(b"%s\0%s" % (key.encode(), body)).hexdigest().encode()
