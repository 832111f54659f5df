"""A state as chunks, so that a save that changes little stores little.

Theory of operation. The canonical form of a state (`dspex.state.canonical`) is one run of bytes, in which a map is its header and
then its entries, sorted, and a list its header and then its items. It is cut into chunks between entries or items, at places
that depend only on what stands there: an entry ends a chunk when its CRC-32 is small enough against its length, which makes
chunks of somewhat less than 1 kB. So after a change in one place all cuts farther on are the same again, and equal stretches of
any two states are equal chunks. Chunks put one after another are the canonical form.

The hashes of the chunks are one long list, which is cut in the same manner into chunks of its own (a hash ends one when its last
byte is small), and so on until few hashes are left, the *top*, which the version's record holds. With `depth` levels between the
top and the state, one changed parameter of a thousand costs its chunk and one small chunk a level.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HASH = 32
SINGLE = 12 << 10  # bytes up to which a state is one chunk: a store reads and writes one value in less time than many
_ATOM = 256  # bytes up to which an entry is not cut inside
_LEAST, _MOST = 256, 2048  # bytes of a chunk, but for a single entry that cannot be cut
_TARGET = 640  # on average, beyond the least
_BLOCK = 1 << 16  # bytes of one piece of a long text or of bytes
_TOP = 4  # hashes that a record holds itself
_FANOUT = 12  # hashes in a chunk of hashes, on average
_FEWEST_HASHES, _MOST_HASHES = 4, 32

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_sha256 = hashlib.sha256


class Chunked(NamedTuple):
    """A state cut: the manifest's top, its depth, and all chunks by hash, those of hashes too."""

    top: tuple[bytes, ...]
    depth: int
    chunks: dict[bytes, bytes]


def cut(tree: Any, canonical: bytes, digest: bytes) -> Chunked:
    """The chunks of a packed tree whose canonical form is `canonical`, and the SHA-256 of that `digest`."""
    if len(canonical) <= SINGLE:
        return Chunked((digest,), 0, {digest: canonical})
    chunks: dict[bytes, bytes] = {}
    hashes = [_keep(chunks, piece) for piece in _grouped(tree, canonical)]
    depth = 0
    while len(hashes) > _TOP:
        hashes = [_keep(chunks, piece) for piece in _hash_groups(hashes)]
        depth += 1
    return Chunked(tuple(hashes), depth, chunks)


def joined(top: tuple[bytes, ...], depth: int, fetch: Callable[[list[bytes]], dict[bytes, bytes]]) -> bytes:
    """The canonical form of a manifest, its chunks by `fetch`, which gives every chunk that it is asked for."""
    hashes = leaves(top, depth, fetch)
    found = fetch(hashes)
    return found[hashes[0]] if len(hashes) == 1 else b"".join([found[digest] for digest in hashes])


def leaves(top: tuple[bytes, ...], depth: int, fetch: Callable[[list[bytes]], dict[bytes, bytes]]) -> list[bytes]:
    """The hashes of the state's own chunks, in order."""
    hashes = list(top)
    for _ in range(depth):
        found = fetch(hashes)
        hashes = [one for digest in hashes for one in hashes_in(found[digest])]
    return hashes


def all_hashes(top: tuple[bytes, ...], depth: int, fetch: Callable[[list[bytes]], dict[bytes, bytes]]) -> set[bytes]:
    """The hashes of all chunks that a manifest needs, those of hashes too."""
    hashes, needed = list(top), set(top)
    for level in range(depth, 0, -1):
        hashes = leaves(tuple(hashes), 1, fetch)
        needed.update(hashes)
        del level
    return needed


def hashes_in(chunk: bytes) -> list[bytes]:
    """What a chunk of hashes holds."""
    return [chunk[i : i + HASH] for i in range(0, len(chunk), HASH)]


def _keep(chunks: dict[bytes, bytes], piece: bytes) -> bytes:
    digest = _sha256(piece).digest()
    chunks[digest] = piece
    return digest


def _grouped(tree: Any, canonical: bytes) -> Iterator[bytes]:
    """The canonical form, cut where its entries say."""
    start = end = 0
    crc32 = zlib.crc32
    for atom in _atoms(tree, canonical):
        length = len(atom)
        if start < end and end - start + length > _MOST:
            yield canonical[start:end]
            start = end
        end += length
        if end - start >= _LEAST and crc32(atom) < length * _PER_BYTE:
            yield canonical[start:end]
            start = end
    if start < end:
        yield canonical[start:end]


_PER_BYTE = (1 << 32) // _TARGET


def _atoms(tree: Any, encoded: bytes) -> Iterator[bytes]:
    """The parts between which the canonical form `encoded` of `tree` may be cut; together they are it."""
    kind = type(tree)
    if kind is dict:
        yield _map_header(len(tree))
        for key in sorted(tree, key=str.encode):
            yield from _entry(_encode(key), tree[key])
    elif kind is list:
        yield _list_header(len(tree))
        for item in tree:
            yield from _entry(b"", item)
    else:
        yield from (encoded[i : i + _BLOCK] for i in range(0, len(encoded), _BLOCK))


def _entry(key: bytes, value: Any) -> Iterator[bytes]:
    encoded = _encode(value)
    if len(encoded) <= _ATOM:
        yield key + encoded
        return
    if key:
        yield key
    yield from _atoms(value, encoded)


def _hash_groups(hashes: list[bytes]) -> Iterator[bytes]:
    start = 0
    for i, digest in enumerate(hashes, 1):
        length = i - start
        if length >= _MOST_HASHES or (length >= _FEWEST_HASHES and digest[-1] < 256 // _FANOUT):
            yield b"".join(hashes[start:i])
            start = i
    if start < len(hashes):
        yield b"".join(hashes[start:])


def _map_header(length: int) -> bytes:
    return _header(length, 0x80, 0xDE)


def _list_header(length: int) -> bytes:
    return _header(length, 0x90, 0xDC)


def _header(length: int, short: int, long: int) -> bytes:
    """MessagePack's header of a map or list, the shortest."""
    if length < 16:
        return bytes([short | length])
    return struct.pack(">BH", long, length) if length < 1 << 16 else struct.pack(">BI", long + 1, length)
