"""Bringing the versions of one store to another, and merging what went apart.

Theory of operation. A version is the same wherever its `uid` is the same. Those that the other store lacks are brought in the
order of their numbers, each with its chunks before its record. Their ids stay where they are free; where another version has
taken an id meanwhile (two stores both made a "5"), the one that comes gets its uid after it, "5@3f2a9c1d". A branch whose
head there is an ancestor of ours is moved on; one that is ahead of ours is left; where both went on, the resolver decides, as
for a save.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dspex.stores import Write
from dspex.versions import _contents, _marking
from dspex.versions import _records as records
from dspex.versions._catalog import Found, as_version
from dspex.versions._events import Event, note
from dspex.versions._retrying import retrying
from dspex.versions._saving import Draft, additions, send_ahead
from dspex.versions._version import MAIN, Parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
        self._ids = {found.saved.uid: found.saved.id for found in target.catalog.everything(module_id)}

    def bring(self, count: Callable[[], None]) -> Synced:
        heads = self._source.catalog.line(self._module_id).record.heads
        everything = [found.saved for found in self._source.catalog.everything(self._module_id)]
        missing = [saved for saved in everything if saved.uid not in self._ids]
        names = {saved.id: saved.uid for saved in everything}
        for saved in reversed(missing):
            parents = tuple(self._ids.get(names.get(parent, ""), parent) for parent in saved.parents)
            self._ids[saved.uid] = self._copy(saved, parents)
            count()
        synced = Synced(versions=len(missing))
        for branch, number in heads.items():
            head = self._source.catalog.number(self._module_id, number)
            if head is not None:
                synced += self._advance(branch, head.saved.uid)
        self._bring_tags()
        return synced

    def _copy(self, saved: SavedVersion, parents: tuple[str, ...]) -> str:
        """Write one version into the target, on no branch yet; its id there."""
        catalog, store = self._target.catalog, self._target.catalog.store
        chunks = {} if saved.deleted else self._chunks(saved)

        def attempt() -> str:
            standing = self._target.saver.standing(self._module_id)
            number = standing.line.record.number + 1
            id = saved.id
            if (id.isdigit() and id != str(number)) or catalog.of_id(self._module_id, id) is not None:
                id = f"{saved.id.partition('@')[0]}@{saved.uid[:8]}"
            arrived = max(_marking.now(), standing.line.record.time + 1)
            copy = msgspec.structs.replace(saved, number=number, id=id, parents=parents, arrived=arrived)
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
            return id

        return retrying(attempt)

    def _chunks(self, saved: SavedVersion) -> dict[bytes, bytes]:
        """The chunks of a version that the target lacks, checked as they leave the source."""
        needed = self._source.contents.hashes(self._module_id, saved)
        lacking = needed - self._target.catalog.store.known_chunks(needed)
        return self._source.contents.chunks(self._module_id, saved, lacking)

    def _advance(self, branch: str, uid: str) -> Synced:
        """Move a branch of the target on to a version that it has."""
        theirs = self._target.catalog.of_id(self._module_id, self._ids[uid])
        assert theirs is not None
        name = (self._module_id, branch)

        def attempt() -> Synced:
            line = self._target.catalog.line(self._module_id)
            head = self._target.catalog.head(self._module_id, branch, line=line)
            if head is not None and self._is_ancestor(theirs.saved, head.saved):
                return Synced()
            if head is not None and not self._is_ancestor(head.saved, theirs.saved):
                self._merge(branch, head, theirs)
                return Synced(merged=(name,))
            record = line.record
            heads = {**record.heads, branch: theirs.saved.number}
            after = msgspec.structs.replace(
                record, heads=heads, newest=theirs.saved if branch == MAIN else record.newest
            )
            key = records.module_key(self._module_id)
            event = Event("save", self._module_id, theirs.saved.id, branch, theirs.saved.time)
            write = Write(expect={key: line.revision}, put={key: records.sealed(key, after)}, note=note([event]))
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
        """The versions from which one came, itself first, by uid, as far as the target has them."""
        found: dict[str, SavedVersion] = {}
        pending = [saved]
        while pending:
            one = pending.pop(0)
            if one.uid not in found:
                found[one.uid] = one
                parents = (self._target.catalog.of_id(self._module_id, parent) for parent in one.parents)
                pending += [parent.saved for parent in parents if parent is not None]
        return found

    def _is_ancestor(self, old: SavedVersion, new: SavedVersion) -> bool:
        return old.uid in self._ancestors(new)

    def _common(self, one: SavedVersion, other: SavedVersion) -> SavedVersion | None:
        theirs = self._ancestors(other)
        return next((saved for uid, saved in self._ancestors(one).items() if uid in theirs and not saved.deleted), None)

    def _bring_tags(self) -> None:
        """Tags that the target has not; one that it has stays where it is."""
        catalog = self._target.catalog
        there = {name for tags in catalog.tags(self._module_id).values() for name in tags}
        uids = {found.saved.number: found.saved.uid for found in self._source.catalog.versions(self._module_id)}
        for number, tags in self._source.catalog.tags(self._module_id).items():
            found = catalog.of_id(self._module_id, self._ids[uids[number]])
            for tag in tags:
                if tag not in there and found is not None:
                    _marking.tag(catalog.store, self._module_id, tag, found.saved, move=False)


def _at(record: ModuleRecord, time: int) -> ModuleRecord:
    return msgspec.structs.replace(record, time=time)
