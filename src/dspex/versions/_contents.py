"""States in a store: cut into chunks, put together again, and checked every time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dspex.errors import IntegrityError
from dspex.state import _packed, _unpacked
from dspex.versions import _chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dspex.stores import Store
    from dspex.versions._records import SavedVersion

_decode = msgspec.msgpack.Decoder().decode


class Prepared(NamedTuple):
    """A state ready to be saved."""

    content: str
    size: int
    chunked: _chunks.Chunked

    @property
    def top(self) -> tuple[str, ...]:
        return tuple(digest.hex() for digest in self.chunked.top)


def prepare(state: Any) -> Prepared:
    """Cut a state. Raises StateError naming the path of what is no plain data."""
    tree = _packed.pack(state)
    canonical = _packed.deterministic(tree)
    digest = hashlib.sha256(canonical).digest()
    return Prepared(f"sha256:{digest.hex()}", len(canonical), _chunks.cut(tree, canonical, digest))


def state_of(prepared: Prepared) -> Any:
    """The state that was prepared, made anew of its chunks."""
    chunked = prepared.chunked
    return _unpacked.unpack(_decode(_chunks.joined(chunked.top, chunked.depth, lambda hashes: chunked.chunks)))


def top_of(saved: SavedVersion) -> tuple[bytes, ...]:
    """The hashes that a version's record holds."""
    return tuple(map(bytes.fromhex, saved.top))


class Contents:
    """The chunks of a store, as states."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, module_id: str, saved: SavedVersion) -> Any:
        """The state of a version. Raises IntegrityError when any byte of it is not what was saved."""
        fetch = self._fetcher(module_id, saved)
        if len(saved.top) == 1 and saved.depth == 0:  # most states: one chunk
            digest = bytes.fromhex(saved.top[0])
            data = fetch([digest])[digest]
        else:
            data = _chunks.joined(top_of(saved), saved.depth, fetch)
        if hashlib.sha256(data).hexdigest() != saved.content[7:]:
            self._accuse(module_id, saved)
        tree = _decode(data)
        # Every tag is a key that starts with `$`: where that byte is nowhere, the packed tree is the state.
        return _unpacked.unpack(tree) if b"$" in data else tree

    def hashes(self, module_id: str, saved: SavedVersion) -> set[bytes]:
        """Every chunk that a version needs."""
        return _chunks.all_hashes(top_of(saved), saved.depth, self._fetcher(module_id, saved))

    def chunks(self, module_id: str, saved: SavedVersion, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        """Some of a version's chunks, each checked."""
        found = self._fetcher(module_id, saved)(list(hashes))
        for digest, data in found.items():
            if hashlib.sha256(data).digest() != digest:
                raise _damage(f"the chunk {digest.hex()} is damaged", digest, module_id, saved)
        return found

    def missing(self, prepared: Prepared, known: Iterable[bytes]) -> dict[bytes, bytes]:
        """The chunks of a state that the store has not: all but those `known` to be there, and those it says it has."""
        chunks = prepared.chunked.chunks
        left = chunks.keys() - set(known)
        if len(left) > _ASK:
            left -= self._store.known_chunks(left)
        return {digest: chunks[digest] for digest in left}

    def _fetcher(self, module_id: str, saved: SavedVersion) -> Callable[[list[bytes]], dict[bytes, bytes]]:
        def fetch(hashes: list[bytes]) -> dict[bytes, bytes]:
            found = self._store.read_chunks(hashes)
            if len(found) < len(hashes):
                lost = [digest for digest in hashes if digest not in found]
                if lost:
                    raise _damage(f"the chunk {lost[0].hex()} is missing", lost[0], module_id, saved)
            return found

        return fetch

    def _accuse(self, module_id: str, saved: SavedVersion) -> None:
        """Name the chunk that is to blame."""
        for digest, data in self._store.read_chunks(self.hashes(module_id, saved)).items():
            if hashlib.sha256(data).digest() != digest:
                raise _damage(f"the chunk {digest.hex()} is damaged", digest, module_id, saved)
        raise _damage("the record does not fit its chunks", b"", module_id, saved)


_ASK = 16  # so few chunks are sent again rather than asked for


def _damage(what: str, digest: bytes, module_id: str, saved: SavedVersion) -> IntegrityError:
    return IntegrityError(
        f"{module_id!r} version {saved.id}: {what}; load another version, or restore the store from a copy",
        thing=digest.hex(),
        affected=[(module_id, saved.id)],
    )
