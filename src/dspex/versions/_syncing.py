"""Bringing the versions of one store to another, and merging what went apart.

Theory of operation. A version is the same wherever its `uid` is the same. Those that the other store lacks are brought in the
order of their numbers, each with its chunks before its record. Their ids stay where they are free; where another version has
taken an id meanwhile (two stores both made a "5"), the one that comes gets its uid after it, "5@3f2a9c1d". A branch whose
head there is an ancestor of ours is moved on; one that is ahead of ours is left; where both went on, the resolver decides, as
for a save.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dspex.errors import ConflictError, NotFoundError
from dspex.stores import Write
from dspex.versions import _contents, _marking
from dspex.versions import _records as records
from dspex.versions._catalog import Found, Line, as_version
from dspex.versions._events import Event, note
from dspex.versions._retrying import retrying
from dspex.versions._saving import Draft, additions, send_ahead
from dspex.versions._version import MAIN, Parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dspex.versions._catalog import Catalog
    from dspex.versions._contents import Contents
    from dspex.versions._records import ModuleRecord, SavedVersion
    from dspex.versions._saving import Saver


class Side(NamedTuple):
    """One of the two stores of a sync."""

    catalog: Catalog
    contents: Contents
    saver: Saver


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync did: versions brought, branches moved on, and merged, as (module, branch)."""

    versions: int = 0
    moved: tuple[tuple[str, str], ...] = ()
    merged: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: Synced) -> Synced:
        return Synced(self.versions + other.versions, self.moved + other.moved, self.merged + other.merged)


def bring(source: Side, target: Side, module_ids: Iterable[str], count: Callable[[], None]) -> Synced:
    """Bring all that `source` has of some modules to `target`, calling `count` for each version.

    Raises ConflictError as the target's resolver has it.
    """
    total = Synced()
    for module_id in module_ids:
        total += _Module(source, target, module_id).bring(count)
    return total


def counter(progress: Callable[[int], None] | None) -> Callable[[], None]:
    """What tells `progress` how often it was called."""
    if progress is None:
        return lambda: None
    numbers = itertools.count(1)
    return lambda: progress(next(numbers))


class _Module:
    """One module's way from one store to another."""

    def __init__(self, source: Side, target: Side, module_id: str) -> None:
        self._source, self._target, self._module_id = source, target, module_id
        self._read = 0  # the newest number of the target that is in the next two
        self._here: dict[str, SavedVersion] = {}  # the target's versions by uid
        self._by_id: dict[str, SavedVersion] = {}

    def bring(self, count: Callable[[], None]) -> Synced:
        heads = self._source.catalog.line(self._module_id).record.heads
        everything = [found.saved for found in self._source.catalog.everything(self._module_id)]
        self._look()
        missing = [saved for saved in everything if saved.uid not in self._here]
        by_id = {saved.id: saved for saved in everything}
        lines = self._lines({saved.number: saved for saved in everything}, by_id, heads) if missing else {}
        for saved in reversed(missing):
            parents = tuple(self._id_here(by_id, parent) for parent in saved.parents)
            branch = saved.branch if saved.branch is None or saved.uid in lines.get(saved.branch, ()) else None
            self._copy(saved, parents, branch)
            count()
        synced = Synced(versions=len(missing))
        for branch, number in heads.items():
            head = next((saved for saved in everything if saved.number == number), None)
            if head is not None:
                synced += self._advance(branch, head.uid)
        self._bring_tags()
        return synced

    def _look(self) -> None:
        """Take in what the target has by now."""
        for found in self._target.catalog.everything(self._module_id):
            if found.saved.number <= self._read:
                break
            self._here[found.saved.uid] = self._by_id[found.saved.id] = found.saved
        self._read = max((saved.number for saved in self._here.values()), default=0)

    def _lines(
        self, numbered: Mapping[int, SavedVersion], by_id: Mapping[str, SavedVersion], heads: Mapping[str, int]
    ) -> dict[str, set[str]]:
        """The uids that will be on each branch of the target: of those branches that move on to the source's head.

        Where both sides went on, what comes is a parent of the merge, and was never the newest here: moments must not find it.
        """
        record = self._target.catalog.line(self._module_id).record
        lines: dict[str, set[str]] = {}
        for branch, number in heads.items():
            if number in numbered:
                uids = set(_ancestors(numbered[number], by_id))
                here = self._target.catalog.head(self._module_id, branch, line=Line(record, 0))
                if here is None or here.saved.uid in uids:
                    lines[branch] = uids
        return lines

    def _id_here(self, by_id: Mapping[str, SavedVersion], id: str) -> str:
        """What a version of the source is called in the target."""
        saved = by_id.get(id)
        here = self._here.get(saved.uid) if saved else None
        return here.id if here else id

    def _copy(self, saved: SavedVersion, parents: tuple[str, ...], branch: str | None) -> None:
        """Write one version into the target, on no branch yet."""
        catalog, store = self._target.catalog, self._target.catalog.store

        def attempt() -> None:
            standing = self._target.saver.standing(self._module_id)
            if standing.line.record.number > self._read:
                self._look()
            if saved.uid in self._here:
                return  # another sync brought it meanwhile
            # What the target lacks is asked for after the sweep record was read: a sweep since then makes the write fail.
            chunks = {} if saved.deleted else self._chunks(saved)
            number = standing.line.record.number + 1
            id = saved.id
            if (id.isdigit() and id != str(number)) or catalog.of_id(self._module_id, id) is not None:
                id = f"{saved.id.partition('@')[0]}@{saved.uid[:8]}"
            arrived = max(_marking.now(), standing.line.record.time + 1)
            copy = msgspec.structs.replace(saved, number=number, id=id, parents=parents, arrived=arrived, branch=branch)
            record = msgspec.structs.replace(copy, branch=None)
            write, after = additions(self._module_id, record, standing.line)
            key, module = records.version_key(self._module_id, number), records.module_key(self._module_id)
            put = {
                **write.put,
                key: records.sealed(key, copy),
                module: records.sealed(module, _at(after, copy.arrived)),
            }
            expect = {**write.expect, records.SWEEP_KEY: standing.sweep}
            left = send_ahead(store, chunks, expect={records.SWEEP_KEY: standing.sweep})
            store.write(msgspec.structs.replace(write, put=put, expect=expect, chunks=left))
            self._here[copy.uid] = self._by_id[copy.id] = copy
            self._read = number

        retrying(attempt)

    def _chunks(self, saved: SavedVersion) -> dict[bytes, bytes]:
        """The chunks of a version that the target lacks, checked as they leave the source."""
        needed = self._source.contents.hashes(self._module_id, saved)
        lacking = needed - self._target.catalog.store.known_chunks(needed)
        return self._source.contents.chunks(self._module_id, saved, lacking)

    def _advance(self, branch: str, uid: str) -> Synced:
        """Move a branch of the target on to a version that it has; not to one that was deleted there."""
        name = (self._module_id, branch)

        def attempt() -> Synced:
            line = self._target.catalog.line(self._module_id)
            head = self._target.catalog.head(self._module_id, branch, line=line)
            key = records.version_key(self._module_id, self._here[uid].number)
            theirs = self._target.catalog.number(self._module_id, self._here[uid].number)
            if line.record.number > self._read:
                self._look()
            if theirs is None or theirs.saved.deleted or (head and theirs.saved.uid in self._ancestors(head.saved)):
                return Synced()
            if head is not None and head.saved.uid not in self._ancestors(theirs.saved):
                self._merge(branch, head, theirs)
                return Synced(merged=(name,))
            record = line.record
            heads = {**record.heads, branch: theirs.saved.number}
            after = msgspec.structs.replace(
                record, heads=heads, newest=theirs.saved if branch == MAIN else record.newest
            )
            module = records.module_key(self._module_id)
            event = Event("save", self._module_id, theirs.saved.id, branch, theirs.saved.time)
            expect = {module: line.revision, key: theirs.revision}
            write = Write(expect=expect, put={module: records.sealed(module, after)}, note=note([event]))
            self._target.catalog.store.write(write)
            return Synced(moved=(name,))

        return retrying(attempt)

    def _merge(self, branch: str, head: Found, theirs: Found) -> None:
        """Save what came on top of the target's head, as if its last version had been saved from the common one."""
        base = self._common(theirs.saved, head.saved)
        state = self._target.contents.load(self._module_id, theirs.saved)
        parent = as_version(self._module_id, Found(base, 0)) if base else Parent.APART
        draft = Draft(
            module_id=self._module_id,
            prepared=_contents.prepare(state),
            parent=parent,
            branch=branch,
            schema=theirs.saved.schema,
            metadata=theirs.saved.metadata,
            others=(theirs.saved.id,),
        )
        self._target.saver.save(draft)

    def _ancestors(self, saved: SavedVersion) -> dict[str, SavedVersion]:
        return _ancestors(saved, self._by_id)

    def _common(self, one: SavedVersion, other: SavedVersion) -> SavedVersion | None:
        """The newest version from which both came (see `History.common`); None also where that was deleted."""
        theirs = self._ancestors(other)
        both = [saved for uid, saved in self._ancestors(one).items() if uid in theirs]
        base = max(both, key=lambda saved: saved.number, default=None)
        found = self._target.catalog.number(self._module_id, base.number) if base else None
        return None if found is None or found.saved.deleted else found.saved

    def _bring_tags(self) -> None:
        """Tags that the target has not; one that it has stays where it is, and what was deleted there gets none."""
        catalog = self._target.catalog
        there = {name for tags in catalog.tags(self._module_id).values() for name in tags}
        for number, tags in self._source.catalog.tags(self._module_id).items():
            source = self._source.catalog.number(self._module_id, number)
            here = self._here.get(source.saved.uid) if source else None
            for tag in tags:
                if tag not in there and here is not None:
                    with contextlib.suppress(NotFoundError, ConflictError):  # deleted, or tagged, just now
                        _marking.tag(catalog.store, self._module_id, tag, here, move=False)


def _ancestors(saved: SavedVersion, by_id: Mapping[str, SavedVersion]) -> dict[str, SavedVersion]:
    """The versions from which one came, itself too, by uid."""
    found: dict[str, SavedVersion] = {}
    pending = [saved]
    while pending:
        one = pending.pop()
        if one.uid not in found:
            found[one.uid] = one
            pending += [by_id[parent] for parent in one.parents if parent in by_id]
    return found


def _at(record: ModuleRecord, time: int) -> ModuleRecord:
    return msgspec.structs.replace(record, time=time)
