"""Reading every byte of a store, and telling what is wrong and which versions it hits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.errors import DspexError, IntegrityError
from dspex.versions import _chunks, _contents
from dspex.versions import _records as records
from dspex.versions._records import (
    FormatRecord,
    ModuleRecord,
    NumberRecord,
    SavedVersion,
    SnapshotRecord,
    SweepRecord,
    TagRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import msgspec

    from dspex.stores import Store

_PAGE = 500
_CHUNKS = 200
_EXACT: Mapping[str, type[msgspec.Struct]] = {
    records.SWEEP_KEY: SweepRecord,
    records.HOLDS_KEY: NumberRecord,
    records.FORMAT_KEY: FormatRecord,
}
_KINDS: Mapping[str, type[msgspec.Struct]] = {
    "m": ModuleRecord,
    "v": SavedVersion,
    "i": NumberRecord,
    "g": NumberRecord,
    "t": TagRecord,
    "s": SnapshotRecord,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not what was saved: where, what, and the versions that need it, as (module, id)."""

    thing: str
    cause: str
    affected: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        hit = ", ".join(f"{module_id}@{id}" for module_id, id in self.affected) or "no version"
        return f"{self.thing}: {self.cause}; it hits {hit}"


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` read, and what it found wrong. `spare` counts chunks that no version needs: `compact` removes them."""

    records: int
    versions: int
    chunks: int
    bytes: int
    spare: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.problems


def verify(store: Store, progress: Callable[[int], None] | None = None) -> Report:
    """Read every record and chunk. `progress` is called with the number of things read so far."""
    return _Scrub(store, progress or (lambda count: None)).report()


class _Scrub:
    def __init__(self, store: Store, progress: Callable[[int], None]) -> None:
        self._store, self._progress = store, progress
        self._problems: list[Problem] = []
        self._damaged: set[str] = set()
        self._users: dict[bytes, set[tuple[str, str]]] = {}
        self._versions: dict[tuple[str, int], SavedVersion] = {}
        self._modules: dict[str, ModuleRecord] = {}
        self._records = self._chunks = self._bytes = 0

    def report(self) -> Report:
        self._read_records()
        good = self._read_chunks()
        self._check_modules()
        self._check_versions(good)
        self._check_store()
        spare = len(good - self._users.keys())
        return Report(
            self._records,
            sum(not saved.deleted for saved in self._versions.values()),
            self._chunks,
            self._bytes,
            spare,
            tuple(dict.fromkeys(self._problems)),
        )

    def _read_records(self) -> None:
        after = ""
        while page := self._store.scan("", after=after, limit=_PAGE):
            for key, entry in page:
                self._read_record(key, entry.value)
            after = page[-1][0]

    def _read_record(self, key: str, value: bytes) -> None:
        self._records += 1
        self._progress(self._records)
        self._bytes += len(value)
        kind: type[msgspec.Struct] | None = _EXACT.get(key) or _KINDS.get(key.partition("/")[0])
        if kind is None:
            return  # somebody else's, who keeps other things in the same store
        try:
            record = records.unsealed(key, value, kind)
        except DspexError as error:
            self._damaged.add(key)
            self._problems.append(Problem(key, str(error), self._owner(key)))
            return
        if isinstance(record, SavedVersion):
            self._versions[records.module_of(key), record.number] = record
        elif isinstance(record, ModuleRecord):
            self._modules[records.module_of(key)] = record

    @staticmethod
    def _owner(key: str) -> tuple[tuple[str, str], ...]:
        """The version that a damaged record is of, as its key has it."""
        kind, *names = key.split("/")
        if kind not in ("m", "v", "i", "t", "g") or not names:
            return ()
        number = names[1].lstrip("0") if kind in ("v", "g") and len(names) > 1 else "*"
        return ((records.module_of(key), number),)

    def _read_chunks(self) -> set[bytes]:
        """The hashes of all chunks that are what they should be."""
        good, after = set(), b""
        while page := self._store.scan_chunks(after=after, limit=_CHUNKS):
            for digest, data in self._store.read_chunks(page).items():
                self._chunks += 1
                self._bytes += len(data)
                if hashlib.sha256(data).digest() == digest:
                    good.add(digest)
            self._progress(self._records + self._chunks)
            after = page[-1]
        return good

    def _check_modules(self) -> None:
        """Every number has its record, every head is there."""
        for module_id, module in self._modules.items():
            for number in range(1, module.number + 1):
                key = records.version_key(module_id, number)
                if (module_id, number) not in self._versions and key not in self._damaged:
                    self._problems.append(Problem(key, "the record is missing", ((module_id, str(number)),)))
            if module.newest is not None and self._versions.get((module_id, module.newest.number)) != module.newest:
                key = records.module_key(module_id)
                self._problems.append(
                    Problem(key, "its newest is another than in its own record", ((module_id, module.newest.id),))
                )
        for module_id, number in self._versions:
            key = records.module_key(module_id)
            if module_id not in self._modules and key not in self._damaged:
                self._problems.append(Problem(key, "the record is missing", ((module_id, str(number)),)))

    def _check_versions(self, good: set[bytes]) -> None:
        for (module_id, _), saved in self._versions.items():
            if not saved.deleted:
                for digest in self._needed(module_id, saved):
                    self._users.setdefault(digest, set()).add((module_id, saved.id))
        present = self._store.known_chunks(self._users.keys() - good) if self._users.keys() - good else set()
        for digest in self._users.keys() - good:
            cause = "the chunk is damaged" if digest in present else "the chunk is missing"
            self._problems.append(Problem(digest.hex(), cause, tuple(sorted(self._users[digest]))))

    def _needed(self, module_id: str, saved: SavedVersion) -> set[bytes]:
        """The chunks of a version; as many as can be told where those of hashes are damaged."""
        top = _contents.top_of(saved)
        try:
            return _chunks.all_hashes(top, saved.depth, self._fetch)
        except IntegrityError:
            return set(top)

    def _fetch(self, hashes: list[bytes]) -> dict[bytes, bytes]:
        found = self._store.read_chunks(hashes)
        for digest in hashes:
            if hashlib.sha256(found.get(digest, b"\0")).digest() != digest:
                raise IntegrityError("a chunk of hashes is damaged", thing=digest.hex())
        return found

    def _check_store(self) -> None:
        for damage in self._store.damage():
            hit = {owner for key in damage.keys for owner in self._owner(key)}
            hit |= {owner for digest in damage.chunks for owner in self._users.get(digest, ())}
            self._problems.append(Problem(damage.place, damage.cause, tuple(sorted(hit))))
