"""Reading every byte of a store, and telling what is wrong and which versions it hits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dspex.errors import DspexError, StoreError, StoreUnavailableError
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
_ALL = (("*", "*"),)  # what damage may hit that does not say what it hits
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
    """Something that is not what was saved: where, what, and the versions that need it, as (module, id).

    An id of "*" is every version of the module, ("*", "*") whatever the store has: where nobody can tell which.
    """

    thing: str
    cause: str
    affected: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        hit = ", ".join(f"{module_id}@{id}" for module_id, id in self.affected) or "no version"
        return f"{self.thing}: {self.cause}; it hits {hit}"


class Reference(NamedTuple):
    """That a record leads to a version. One that `holds` it keeps it from being deleted."""

    key: str
    module_id: str
    number: int
    id: str
    holds: bool


def references(key: str, record: msgspec.Struct) -> list[Reference]:
    """To which versions a record leads."""
    if isinstance(record, ModuleRecord):
        return [Reference(key, records.module_of(key), number, "", True) for number in record.heads.values()]
    if isinstance(record, TagRecord):
        return [Reference(key, records.module_of(key), record.number, record.id, True)]
    if isinstance(record, SnapshotRecord):
        return [Reference(key, module_id, *member, True) for module_id, member in record.members.items()]
    if isinstance(record, NumberRecord) and key.startswith("i/"):
        return [Reference(key, records.module_of(key), record.number, records.last_name(key), False)]
    if isinstance(record, NumberRecord) and key.startswith("g/"):
        return [Reference(key, records.module_of(key), record.number, "", False)]
    return []


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
        self._users: dict[bytes, set[tuple[str, str]]] = {}
        self._versions: dict[tuple[str, int], SavedVersion] = {}
        self._modules: dict[str, ModuleRecord] = {}
        self._sound: set[bytes] = set()
        self._names: list[Reference] = []
        self._seen: dict[str, int] = {}  # the revision at which each record was read
        self._suspects: list[tuple[Problem, tuple[str, ...]]] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._records = self._chunks = self._bytes = 0

    def report(self) -> Report:
        for stage in (
            self._read_records,
            self._read_chunks,
            self._check_modules,
            self._check_names,
            self._check_versions,
            self._convict,
            self._check_store,
        ):
            self._surely(stage)
        spare = len(self._sound - self._users.keys())
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
                self._seen[key] = entry.revision
                self._read_record(key, entry.value)
            after = page[-1][0]

    def _read_record(self, key: str, value: bytes) -> None:
        self._records += 1
        self._progress(self._records)
        self._bytes += len(value)
        family = key.partition("/")[0]
        if len(family) > 1:
            return  # of somebody else, who keeps other things in the same store; ours are of one letter
        kind: type[msgspec.Struct] | None = _EXACT.get(key) or _KINDS.get(family)
        if kind is None:
            self._problems.append(Problem(key, "no record of this dspex"))
            return
        try:
            record = records.unsealed(key, value, kind)
        except DspexError as error:
            self._problems.append(Problem(key, str(error), self._owner(key)))
            return
        self._names += references(key, record)
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

    def _read_chunks(self) -> None:
        """Which chunks there are, and which of them are what they should be."""
        after = b""
        while page := self._store.scan_chunks(after=after, limit=_CHUNKS):
            found = self._good(page)
            self._sound.update(found)
            self._chunks += len(page)
            self._bytes += sum(map(len, found.values()))
            self._progress(self._records + self._chunks)
            after = page[-1]

    def _check_modules(self) -> None:
        """Every number has its record, and there are no others."""
        for module_id, module in self._modules.items():
            key = records.module_key(module_id)
            for number in range(1, module.number + 1):
                version = records.version_key(module_id, number)
                if version not in self._seen:
                    self._suspect(version, "the record is missing", (module_id, str(number)), key, version)
            newest = self._versions.get((module_id, module.newest.number)) if module.newest else None
            if module.newest is not None and newest is not None and newest != module.newest:
                version = records.version_key(module_id, module.newest.number)
                cause = "its newest is another than in its own record"
                self._suspect(key, cause, (module_id, module.newest.id), key, version)
        for module_id, number in self._versions:
            key = records.module_key(module_id)
            if key not in self._seen:
                self._suspect(key, "the record is missing", (module_id, str(number)), key)
            elif module_id in self._modules and number > self._modules[module_id].number:
                self._suspect(key, f"it is older than version {number}", (module_id, str(number)), key)

    def _check_names(self) -> None:
        """What a branch, an id, a tag, a migration or a snapshot leads to is there; every id leads to its version."""
        for name in self._names:
            saved = self._versions.get((name.module_id, name.number))
            version = records.version_key(name.module_id, name.number)
            if saved is None and version in self._seen:
                continue  # damaged, which was told
            if saved is None or (name.id and saved.id != name.id) or (name.holds and saved.deleted):
                what = "is not there" if saved is None else "was deleted" if saved.deleted else "has another id"
                cause = f"version {name.number} of {name.module_id!r}, to which it leads, {what}"
                self._suspect(name.key, cause, (name.module_id, str(name.number)), name.key, version)
        named = {name.key for name in self._names if name.key.startswith("i/")}
        for (module_id, number), saved in self._versions.items():
            key = records.id_key(module_id, saved.id)
            if saved.id != str(number) and key not in named and key not in self._seen:
                self._suspect(key, "the record is missing", (module_id, saved.id), key)

    def _suspect(self, thing: str, cause: str, affected: tuple[str, str], *keys: str) -> None:
        """Note a problem that rests on these records as they were read, at different moments."""
        self._suspects.append((Problem(thing, cause, (affected,)), keys))

    def _convict(self) -> None:
        """Take over what is still so: others may have written between one record and another, which is no damage.

        A record that is what it was when it was read, and one that is still missing, is evidence; a changed one is not.
        """
        for start in range(0, len(self._suspects), _PAGE):
            suspects = self._suspects[start : start + _PAGE]
            entries = self._store.read({key for _, keys in suspects for key in keys})
            now = {key: entry.revision for key, entry in entries.items()}
            self._problems += [
                problem for problem, keys in suspects if all(now.get(key) == self._seen.get(key) for key in keys)
            ]

    def _check_versions(self) -> None:
        for (module_id, _), saved in self._versions.items():
            if not saved.deleted:
                self._numbers[module_id, saved.id] = saved.number
                for digest in self._needed(saved):
                    self._users.setdefault(digest, set()).add((module_id, saved.id))
        wrong = self._users.keys() - self._sound
        wrong -= self._good(sorted(wrong)).keys()  # written, or moved, since they were looked for
        present = self._store.known_chunks(wrong)
        for digest in sorted(wrong):
            cause = "the chunk is damaged" if digest in present else "the chunk is missing"
            users = self._users[digest]
            if (
                digest not in present
            ):  # also of a version that was deleted, or chunk that was written, since it was read
                users = {user for user in users if self._still_lacks(user, digest)}
            if users:
                self._problems.append(Problem(digest.hex(), cause, tuple(sorted(users))))

    def _still_lacks(self, user: tuple[str, str], digest: bytes) -> bool:
        key = records.version_key(user[0], self._numbers[user])
        entry = self._store.read([key]).get(key)
        return entry is not None and entry.revision == self._seen[key] and not self._store.known_chunks([digest])

    def _needed(self, saved: SavedVersion) -> set[bytes]:
        """The chunks of a version: the damaged ones too, and all below those of hashes that can be read."""
        level = list(_contents.top_of(saved))
        needed = set(level)
        for _ in range(saved.depth):
            found = self._good(level)
            level = [digest for one in level if one in found for digest in _chunks.hashes_in(found[one])]
            needed.update(level)
        return needed

    def _good(self, hashes: list[bytes]) -> dict[bytes, bytes]:
        """Those chunks that are what they should be. Where a store fails over many, one may still be read."""
        try:
            found = self._store.read_chunks(hashes)
        except StoreUnavailableError:
            raise
        except StoreError:
            if len(hashes) == 1:
                return {}
            return {digest: data for one in hashes for digest, data in self._good([one]).items()}
        return {digest: data for digest, data in found.items() if hashlib.sha256(data).digest() == digest}

    def _surely(self, stage: Callable[[], None]) -> None:
        """Do one stage; where the store's own files are too damaged to go on, that is a problem of everything."""
        try:
            stage()
        except StoreUnavailableError:
            raise
        except StoreError as error:
            self._problems.append(Problem(repr(self._store), str(error), _ALL))

    def _check_store(self) -> None:
        for damage in self._store.damage():
            hit = {owner for key in damage.keys for owner in self._owner(key)}
            hit |= {owner for digest in damage.chunks for owner in self._users.get(digest, ())}
            told = tuple(sorted(hit)) if damage.keys or damage.chunks else _ALL
            self._problems.append(Problem(damage.place, damage.cause, told))
