"""Encryption at rest: a store around another, which sees nothing but ciphertext, names of records, sizes and times.

Theory of operation. Values are sealed with AES-256-GCM under a data key, each with a random nonce, and bound to the key or
hash they stand under, so that none can be put in another's place. A chunk is kept under a keyed hash of its hash
(HMAC-SHA-256): who does not know the key cannot tell from it whether a text he guesses is in the store. Its true hash is inside.
Keys of records stay as they are, for they are scanned in order: what is put into them is seen. That chunks were not written
again is seen too, so an observer learns that a state was saved which had been there before.

Data key and hash key are made with the store and kept in its record `x/secret`, themselves sealed with the user's key. So a
new user's key is one conditional write of that record, all or nothing, however large the store; from then on the old key
opens nothing. Who had the old key and kept a copy of that record can still read: against that, sync into a new store.

AES-GCM: NIST SP 800-38D; random nonces are sound for 2**32 values of one data key.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dspex.errors import IntegrityError, MovedError, StoreError, UsageError
from dspex.stores._store import ABSENT, Change, Entry, Write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.stores._store import Damage, Store, Traits

MAGIC = b"\0dspex-sealed-1\0"
SECRET_KEY = "x/secret"
_KEY = 32
_NONCE = 12
_HASH = 32


class EncryptedStore:
    """`store`, sealed with `key`: 32 random bytes, as `os.urandom(32)` gives them.

    Raises UsageError for a key of another size, StoreError for a wrong key, or a store that was made without one.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self._store = store
        secret = self._secret(_checked(key))
        self._data, self._names = AESGCM(secret[:_KEY]), secret[_KEY:]

    def __repr__(self) -> str:
        return repr(self._store)

    @property
    def traits(self) -> Traits:
        return self._store.traits

    def rotate(self, old: bytes, new: bytes) -> None:
        """Have the store open with another key from now on. Raises StoreError when `old` does not open it."""
        key = AESGCM(_checked(new))
        while True:
            entry = self._store.read([SECRET_KEY])[SECRET_KEY]
            secret = self._unwrapped(entry.value, _checked(old))
            value = _sealed(key, SECRET_KEY.encode(), secret)
            try:
                self._store.write(
                    Write(expect={SECRET_KEY: entry.revision}, put={SECRET_KEY: value}, note=self._note(b"[]"))
                )
            except MovedError:
                continue
            return

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        found = self._store.read(key for key in keys if key != SECRET_KEY)
        return {key: self._entry(key, entry) for key, entry in found.items()}

    def scan(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[tuple[str, Entry]]:
        # One more, for the record that is not the user's.
        found = self._store.scan(prefix, after=after, before=before, limit=limit + 1, reverse=reverse)
        return [(key, self._entry(key, entry)) for key, entry in found if key != SECRET_KEY][:limit]

    def write(self, write: Write) -> int:
        if SECRET_KEY in write.put or SECRET_KEY in write.delete:
            raise UsageError(f"the record {SECRET_KEY} is the encryption's own; name yours otherwise")
        sealed = Write(
            expect=write.expect,
            put={key: _sealed(self._data, _of_record(key), value) for key, value in write.put.items()},
            delete=write.delete,
            chunks=dict(self._sealed_chunk(digest, data) for digest, data in write.chunks.items()),
            drop=[self._name(digest) for digest in write.drop],
            note=self._note(write.note) if write.has_records else b"",
        )
        return self._store.write(sealed)

    def read_chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        names = {self._name(digest): digest for digest in hashes}
        found = self._store.read_chunks(names)
        # What cannot be opened has no bytes: its hash will tell.
        return {names[name]: (self._opened_chunk(name, data) or b"")[_HASH:] for name, data in found.items()}

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        names = {self._name(digest): digest for digest in hashes}
        return {names[name] for name in self._store.known_chunks(names)}

    def scan_chunks(self, *, after: bytes = b"", limit: int = 1000) -> list[bytes]:
        name = self._name(after) if after else b""
        while names := self._store.scan_chunks(after=name, limit=limit):
            found = self._store.read_chunks(names)
            opened = (self._opened_chunk(name, found[name]) for name in names if name in found)
            hashes = [data[:_HASH] for data in opened if data is not None]
            if hashes:
                return hashes
            name = names[-1]
        return []

    def changes(self, since: int, *, limit: int = 1000) -> list[Change]:
        found = self._store.changes(since, limit=limit)
        return [Change(revision, _opened(self._data, b"note", note, "a note of the log")) for revision, note in found]

    def wait(self, since: int, timeout: float) -> bool:
        return self._store.wait(since, timeout)

    def trim(self, before: int) -> None:
        self._store.trim(before)

    def revision(self) -> int:
        return self._store.revision()

    def damage(self) -> list[Damage]:
        found = self._store.damage()
        if not any(damage.chunks for damage in found):
            return found  # true hashes stand inside the chunks: to find them takes opening all
        names = {self._name(digest): digest for digest in _every_chunk(self)}
        return [damage._replace(chunks=tuple(names.get(name, name) for name in damage.chunks)) for damage in found]

    def close(self) -> None:
        self._store.close()

    def _secret(self, key: bytes) -> bytes:
        """Data key and hash key of the store, made when it is new."""
        entry = self._store.read([SECRET_KEY]).get(SECRET_KEY)
        if entry is not None:
            return self._unwrapped(entry.value, key)
        if self._store.scan("", limit=1):
            raise StoreError(f"{self._store!r} was made without a key; sync it into a new store that has one")
        secret = os.urandom(2 * _KEY)
        value = _sealed(AESGCM(key), SECRET_KEY.encode(), secret)
        note = _sealed(AESGCM(secret[:_KEY]), b"note", b"[]")
        try:
            self._store.write(Write(expect={SECRET_KEY: ABSENT}, put={SECRET_KEY: value}, note=note))
        except MovedError:
            return self._secret(key)
        return secret

    def _unwrapped(self, value: bytes, key: bytes) -> bytes:
        try:
            return _opened(AESGCM(key), SECRET_KEY.encode(), value, SECRET_KEY)
        except IntegrityError:
            raise StoreError(
                f"the key does not open {self._store!r}: it is another store's, or has been changed"
            ) from None

    def _entry(self, key: str, entry: Entry) -> Entry:
        try:
            return Entry(_opened(self._data, _of_record(key), entry.value, key), entry.revision)
        except IntegrityError:
            return Entry(b"", entry.revision)  # its checksum will tell

    def _note(self, note: bytes) -> bytes:
        return _sealed(self._data, b"note", note)

    def _name(self, digest: bytes) -> bytes:
        return hmac.digest(self._names, digest, "sha256")

    def _sealed_chunk(self, digest: bytes, data: bytes) -> tuple[bytes, bytes]:
        name = self._name(digest)
        return name, _sealed(self._data, b"chunk" + name, digest + data)

    def _opened_chunk(self, name: bytes, data: bytes) -> bytes | None:
        try:
            return _opened(self._data, b"chunk" + name, data, "a chunk")
        except IntegrityError:
            return None


def is_sealed(value: bytes) -> bool:
    """Whether a record's value is ciphertext."""
    return value.startswith(MAGIC)


def _sealed(key: AESGCM, place: bytes, value: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return MAGIC + nonce + key.encrypt(nonce, value, place)


def _opened(key: AESGCM, place: bytes, value: bytes, name: str) -> bytes:
    start = len(MAGIC)
    try:
        if value[:start] != MAGIC:
            raise InvalidTag
        return key.decrypt(value[start : start + _NONCE], value[start + _NONCE :], place)
    except (InvalidTag, ValueError):
        raise IntegrityError(f"{name} is damaged: it cannot be opened with the store's key", thing=name) from None


def _of_record(key: str) -> bytes:
    return b"record" + key.encode()


def _every_chunk(store: EncryptedStore) -> list[bytes]:
    found: list[bytes] = []
    while page := store.scan_chunks(after=found[-1] if found else b""):
        found += page
    return found


def _checked(key: bytes) -> bytes:
    if not isinstance(key, bytes) or len(key) != _KEY:
        raise UsageError(
            f"a key is {_KEY} random bytes, as os.urandom({_KEY}) gives them; keep it where you keep secrets"
        )
    return key
