"""What may change about versions: tags, branches, and that they are deleted."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from dspex.errors import ConflictError, NotFoundError, UsageError
from dspex.stores import ABSENT, Write
from dspex.versions import _records as records
from dspex.versions import _snapshots
from dspex.versions._catalog import Line
from dspex.versions._emptying import emptied
from dspex.versions._events import Event, note
from dspex.versions._records import HOLDS_KEY, ModuleRecord, NumberRecord, SavedVersion, TagRecord
from dspex.versions._retrying import retrying
from dspex.versions._version import MAIN

if TYPE_CHECKING:
    from dspex.stores import Entry, Store
    from dspex.versions._catalog import Catalog, Found


def tag(store: Store, module_id: str, tag: str, saved: SavedVersion, *, move: bool) -> None:
    """Give a version a tag. Raises ConflictError when another has it and it may not move."""
    key, version = records.tag_key(module_id, tag), records.version_key(module_id, saved.number)

    def attempt() -> None:
        entries = store.read([key, version])
        entry = entries.get(key)
        if entry is not None and not move:
            holder = records.unsealed(key, entry.value, TagRecord)
            if holder.number != saved.number:
                raise ConflictError(f"the tag {tag!r} of {module_id!r} is at version {holder.id!r}; move=True moves it")
        _check_present(module_id, saved, entries.get(version))
        event = Event("tag", module_id, saved.id, tag, now())
        expect = {key: entry.revision if entry else ABSENT, version: entries[version].revision}
        record = records.sealed(key, TagRecord(saved.number, saved.id))
        store.write(Write(expect=expect, put={key: record, HOLDS_KEY: _held(event.time)}, note=note([event])))

    retrying(attempt)


def untag(store: Store, module_id: str, tag: str) -> None:
    """Take a tag away. Raises NotFoundError when there is none."""
    key = records.tag_key(module_id, tag)

    def attempt() -> None:
        entry = store.read([key]).get(key)
        if entry is None:
            raise NotFoundError(f"{module_id!r} has no tag {tag!r}")
        holder = records.unsealed(key, entry.value, TagRecord)
        event = Event("untag", module_id, holder.id, tag, now())
        store.write(Write(expect={key: entry.revision}, delete=[key], note=note([event])))

    retrying(attempt)


def branch(store: Store, catalog: Catalog, module_id: str, name: str, saved: SavedVersion) -> None:
    """Begin a branch at a version. Raises ConflictError when there is one of that name."""
    records.name_of("a branch", name)
    key, version = records.module_key(module_id), records.version_key(module_id, saved.number)

    def attempt() -> None:
        record, revision = catalog.line(module_id)
        if name in record.heads:
            raise ConflictError(f"{module_id!r} has a branch {name!r}")
        entry = store.read([version]).get(version)
        _check_present(module_id, saved, entry)
        heads = {**record.heads, name: saved.number}
        after = msgspec.structs.replace(record, heads=heads, newest=saved if name == MAIN else record.newest)
        event = Event("branch", module_id, saved.id, name, now())
        expect = {key: revision, version: entry.revision if entry else ABSENT}
        store.write(Write(expect=expect, put={key: records.sealed(key, after)}, note=note([event])))

    retrying(attempt)


def delete(store: Store, catalog: Catalog, module_id: str, saved: SavedVersion) -> None:
    """Put a stone in place of a version. Raises UsageError when a branch, a tag or a snapshot holds it."""

    def attempt() -> None:
        record, revision = catalog.line(module_id)
        holds = store.read([HOLDS_KEY]).get(HOLDS_KEY)
        holder = _holder(store, catalog, module_id, record, saved.number)
        if holder:
            raise UsageError(f"version {saved.id!r} of {module_id!r} is held by {holder}; take that away first")
        key = records.module_key(module_id)
        stone = buried(module_id, saved)
        # The module's record is written again as it is: a branch that begins here meanwhile finds it changed.
        put = {key: records.sealed(key, record), **stone.put}
        expect = {key: revision, HOLDS_KEY: holds.revision if holds else ABSENT}
        store.write(Write(expect=expect, put=put, note=stone.note))

    retrying(attempt)


def buried(module_id: str, saved: SavedVersion) -> Write:
    """The write that leaves nothing of a version but its place in the history."""
    stone = msgspec.structs.replace(saved, content="", size=0, top=(), depth=0, metadata={}, deleted=True)
    key = records.version_key(module_id, saved.number)
    event = Event("delete", module_id, saved.id, time=now())
    return Write(put={key: records.sealed(key, stone)}, note=note([event]))


def delete_module(store: Store, catalog: Catalog, module_id: str) -> None:
    """Take a module's heads away at once, then its tags and versions."""

    def attempt() -> int:
        record, revision = catalog.line(module_id)
        if not record.number:
            raise NotFoundError(f"no module {module_id!r} was ever saved in {store!r}")
        held = sorted(name for name, found in _snapshots.stored(store).items() if module_id in found.members)
        if held:
            raise UsageError(f"{module_id!r} is held by the snapshot {held[0]!r}; delete that first")
        after = msgspec.structs.replace(record, heads={MAIN: record.heads[MAIN]} if MAIN in record.heads else {})
        store.write(emptied(module_id, Line(after, revision), max(now(), record.time + 1)))
        return record.number

    newest = retrying(attempt)
    for tags in catalog.tags(module_id).values():
        for name in tags:
            with contextlib.suppress(NotFoundError):  # somebody else was faster
                untag(store, module_id, name)
    for found in catalog.versions(module_id, before=newest + 1):
        with contextlib.suppress(UsageError):  # somebody holds it since: it has its place in what comes after
            delete(store, catalog, module_id, found.saved)


def child_of_schema(catalog: Catalog, module_id: str, saved: SavedVersion, schema: str) -> Found | None:
    """The version that a migration made of another, if it was made."""
    key = records.migrated_key(module_id, saved.number, schema)
    entry = catalog.store.read([key]).get(key)
    if entry is None:
        return None
    found = catalog.number(module_id, records.unsealed(key, entry.value, NumberRecord).number)
    return None if found is None or found.saved.deleted else found


def _holder(store: Store, catalog: Catalog, module_id: str, record: ModuleRecord, number: int) -> str:
    for name, head in record.heads.items():
        if head == number:
            return f"the branch {name!r}"
    for name in catalog.tags(module_id).get(number, ()):
        return f"the tag {name!r}"
    for name, snapshot in _snapshots.stored(store).items():
        if snapshot.members.get(module_id, (0, ""))[0] == number:
            return f"the snapshot {name!r}"
    return ""


def _check_present(module_id: str, saved: SavedVersion, entry: Entry | None) -> None:
    key = records.version_key(module_id, saved.number)
    if entry is None or records.unsealed(key, entry.value, SavedVersion).deleted:
        raise NotFoundError(f"version {saved.id!r} of {module_id!r} was deleted")


def _held(time: int) -> bytes:
    return records.sealed(HOLDS_KEY, NumberRecord(time))


def now() -> int:
    """The time as records have it: microseconds since the epoch."""
    return time.time_ns() // 1000
