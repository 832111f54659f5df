"""A bundle: versions of some modules in one file, to be carried elsewhere.

MessagePack: `{"dspex-bundle": 1, "records": [[key, value], ...], "chunks": [[hash, data], ...]}`, and behind it the SHA-256
of all that. A bundle is read into a store in memory, from which it is synced: so importing checks, renames and merges as
syncing does.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.errors import StateFormatError
from dspex.state import replace_file
from dspex.stores import Write
from dspex.stores._memory import MemoryStore

if TYPE_CHECKING:
    from dspex.stores import Store

_NAME = "dspex-bundle"
_FORMAT = 1
_PAGE = 1000


def write(path: str | os.PathLike[str], store: Store) -> int:
    """Write all of a store into a file, atomically; its bytes. Raises OSError."""
    records: list[tuple[str, bytes]] = []
    while page := store.scan("", after=records[-1][0] if records else "", limit=_PAGE):
        records += [(key, entry.value) for key, entry in page]
    chunks: list[tuple[bytes, bytes]] = []
    while hashes := store.scan_chunks(after=chunks[-1][0] if chunks else b"", limit=_PAGE):
        found = store.read_chunks(hashes)
        chunks += [(digest, found[digest]) for digest in hashes]
    body = msgspec.msgpack.encode({_NAME: _FORMAT, "records": records, "chunks": chunks})
    replace_file(path, body + hashlib.sha256(body).digest())
    return len(body) + 32


def read(path: str | os.PathLike[str]) -> MemoryStore:
    """A bundle as a store. Raises StateFormatError for anything but an undamaged bundle, OSError."""
    source = os.fsdecode(path)
    with open(path, "rb") as file:
        data = file.read()
    body, checksum = data[:-32], data[-32:]
    if hashlib.sha256(body).digest() != checksum:
        raise StateFormatError("no bundle, or a damaged one: its checksum differs", source=source)
    whole = _decoded(body, source)
    if whole[_NAME] != _FORMAT:
        raise StateFormatError(
            f"a bundle of format {whole[_NAME]}, of a newer dspex; this one reads {_FORMAT}", source=source
        )
    store = MemoryStore()
    store.write(Write(put=dict(whole["records"]), chunks=dict(whole["chunks"])))
    return store


def _decoded(body: bytes, source: str) -> dict[str, Any]:
    try:
        whole: dict[str, Any] = msgspec.msgpack.decode(body)
        if {_NAME, "records", "chunks"} <= whole.keys():
            return whole
    except (msgspec.MsgspecError, AttributeError, TypeError, ValueError):
        pass
    raise StateFormatError("no bundle of dspex", source=source)
