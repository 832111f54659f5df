"""What versions there are: the records of a store, read and found by id, tag, moment."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from dspex.errors import IntegrityError, NotFoundError, UsageError
from dspex.stores import ABSENT
from dspex.versions import _records as records
from dspex.versions._ids import datetime_of, microseconds
from dspex.versions._records import ModuleRecord, NumberRecord, SavedVersion, TagRecord
from dspex.versions._remembered import Remembered
from dspex.versions._version import LATEST, MAIN, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dspex.stores import Entry, Store

At = Version | datetime | str
_PAGE = 500
_REMEMBERED = 256  # modules
_SMALL = 4096  # bytes of a record that is remembered


class Found(NamedTuple):
    """A version's record, and the revision that put it."""

    saved: SavedVersion
    revision: int


class Line(NamedTuple):
    """A module's record, and its revision; of an unknown module an empty one, at no revision."""

    record: ModuleRecord
    revision: int


def line_of(key: str, entry: Entry | None) -> Line:
    """Where a module stands by its record; None when there is none."""
    if entry is None:
        return Line(ModuleRecord(), ABSENT)
    return Line(records.unsealed(key, entry.value, ModuleRecord), entry.revision)


def missing(module_id: str, number: int) -> IntegrityError:
    """The error of a version whose record is gone."""
    key = records.version_key(module_id, number)
    return IntegrityError(f"the record {key} is missing", thing=key, affected=[(module_id, str(number))])


def as_version(module_id: str, found: Found, tags: Iterable[str] = ()) -> Version:
    """A version as the caller sees it."""
    saved, revision = found
    return Version(
        id=saved.id,
        module_id=module_id,
        schema=saved.schema,
        parents=saved.parents,
        content=saved.content,
        time=datetime_of(saved.time),
        branch=saved.branch,
        size=saved.size,
        uid=saved.uid,
        revision=revision,
        tags=tuple(sorted(tags)),
        metadata=deepcopy(saved.metadata) if saved.metadata else {},  # ours is remembered, and theirs to change
    )


class Catalog:
    """The records of a store, as versions.

    Records of modules that were read, checked and decoded are remembered with their bytes: of the same bytes that is not done
    again. They are read every time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: Remembered[str, tuple[bytes, ModuleRecord]] = Remembered(_REMEMBERED)

    @property
    def store(self) -> Store:
        """Where the records are."""
        return self._store

    def line(self, module_id: str) -> Line:
        """Where a module stands."""
        key = records.module_key(module_id)
        entry = self._store.read((key,)).get(key)
        seen = self._seen.get(key)
        if entry is not None and seen is not None and seen[0] == entry.value:
            return Line(seen[1], entry.revision)
        line = line_of(key, entry)
        if entry is not None and len(entry.value) <= _SMALL:
            self._seen.put(key, (entry.value, line.record))
        return line

    def lines(self, module_ids: Iterable[str]) -> dict[str, Line]:
        """Where modules stand, all as of one moment."""
        keys = {records.module_key(module_id): module_id for module_id in module_ids}
        entries = self._store.read(keys)
        return {module_id: line_of(key, entries.get(key)) for key, module_id in keys.items()}

    def modules(self) -> Iterator[str]:
        """Every module that was ever saved, in the order of their quoted names."""
        after = ""
        while page := self._store.scan("m/", after=after, limit=_PAGE):
            yield from (records.last_name(key) for key, _ in page)
            after = page[-1][0]

    def number(self, module_id: str, number: int) -> Found | None:
        """The version of a number, a deleted one too."""
        key = records.version_key(module_id, number)
        entry = self._store.read([key]).get(key)
        return Found(records.unsealed(key, entry.value, SavedVersion), entry.revision) if entry else None

    def of_id(self, module_id: str, id: str) -> Found | None:
        """The version of an id, a deleted one too."""
        if id.isascii() and id.isdigit():
            found = self.number(module_id, int(id)) if len(id) <= 12 else None
            return found if found and found.saved.id == id else None
        key = records.id_key(module_id, id)
        entry = self._store.read([key]).get(key)
        return self.number(module_id, records.unsealed(key, entry.value, NumberRecord).number) if entry else None

    def head(self, module_id: str, branch: str = MAIN, *, line: Line | None = None) -> Found | None:
        """The newest version of a branch; None where there is none."""
        record, revision = line or self.line(module_id)
        if branch == MAIN and record.newest is not None:
            return Found(record.newest, revision)
        number = record.heads.get(branch)
        return None if number is None else self._present(module_id, number)

    def find(self, module_id: str, at: At) -> Found:
        """The version that `at` means: of a Version, a moment, "latest", an id, a tag, in this order.

        Raises NotFoundError naming what there is instead.
        """
        if at == LATEST:
            found = self.head(module_id)
        elif isinstance(at, Version):
            if at.module_id != module_id:
                raise UsageError(f"{at} is no version of {module_id!r}")
            found = self.of_id(module_id, at.id)
            if found and found.saved.uid != at.uid:
                raise NotFoundError(f"{module_id!r} has another version {at.id!r} here than the one given: sync first")
        elif isinstance(at, datetime):
            found = self.at_moment(module_id, at)
        elif isinstance(at, str):
            found = self.of_id(module_id, at) or self._tagged(module_id, at)
        else:
            raise UsageError(f"at must be a Version, a datetime or a str, not {at!r:.100}")
        if found is None or found.saved.deleted:
            raise self._not_found(module_id, at, found)
        return found

    def versions(self, module_id: str, *, before: int | None = None) -> Iterator[Found]:
        """The versions of a module, newest first, those below the number `before`, without deleted ones."""
        yield from (found for found in self.everything(module_id, before=before) if not found.saved.deleted)

    def everything(self, module_id: str, *, before: int | None = None) -> Iterator[Found]:
        """The same, with the stones of deleted ones."""
        prefix = records.version_key(module_id, 0)[:-12]
        below = records.version_key(module_id, before) if before is not None else ""
        while page := self._store.scan(prefix, before=below, limit=_PAGE, reverse=True):
            for key, entry in page:
                yield Found(records.unsealed(key, entry.value, SavedVersion), entry.revision)
            below = page[-1][0]

    def tags(self, module_id: str) -> dict[int, list[str]]:
        """The tags of a module, by the number of what they name."""
        prefix, after = records.tag_key(module_id, "x")[:-1], ""
        found: dict[int, list[str]] = {}
        while page := self._store.scan(prefix, after=after, limit=_PAGE):
            for key, entry in page:
                number = records.unsealed(key, entry.value, TagRecord).number
                found.setdefault(number, []).append(records.last_name(key))
            after = page[-1][0]
        return found

    def _tagged(self, module_id: str, tag: str) -> Found | None:
        key = records.tag_key(module_id, tag)
        entry = self._store.read([key]).get(key)
        return self.number(module_id, records.unsealed(key, entry.value, TagRecord).number) if entry else None

    def _present(self, module_id: str, number: int) -> Found:
        found = self.number(module_id, number)
        if found is None:
            raise missing(module_id, number)
        return found

    def at_moment(self, module_id: str, moment: datetime) -> Found | None:
        """The newest of main that was saved by then. `since` grows with numbers, so it is found by bisection."""
        time = microseconds(moment)
        low, high = 0, self.line(module_id).record.number
        while low < high:
            middle = (low + high + 1) // 2
            if self._present(module_id, middle).saved.since <= time:
                low = middle
            else:
                high = middle - 1
        older = self.everything(module_id, before=low + 1)
        return next((found for found in older if found.saved.branch == MAIN), None)

    def _not_found(self, module_id: str, at: At, found: Found | None) -> NotFoundError:
        what = at.isoformat() if isinstance(at, datetime) else at.id if isinstance(at, Version) else at
        if found is not None and found.saved.deleted and not found.saved.empty:
            return NotFoundError(f"version {found.saved.id!r} of {module_id!r} was deleted")
        record = self.line(module_id).record
        if not record.number:
            return NotFoundError(f"no module {module_id!r} was ever saved in {self._store!r}")
        newest = f"its newest is {record.newest.id!r}" if record.newest else "its main branch is empty"
        return NotFoundError(f"{module_id!r} has no version, tag or moment {what!r}; {newest}")
