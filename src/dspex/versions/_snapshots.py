"""Snapshots: named sets of versions of many modules, as of one moment; and going back to one, or to any moment."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from dspex.errors import ConflictError, MovedError, NotFoundError, UnsupportedError, UsageError
from dspex.stores import ABSENT, Write
from dspex.versions import _records as records
from dspex.versions._catalog import Found, as_version
from dspex.versions._emptying import emptied
from dspex.versions._events import Event, note
from dspex.versions._ids import datetime_of, microseconds
from dspex.versions._records import ModuleRecord, NumberRecord, SavedVersion, SnapshotRecord
from dspex.versions._retrying import retrying
from dspex.versions._version import MAIN, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from dspex.stores import Store
    from dspex.versions._catalog import Catalog, Line

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A named set of versions: `members` maps modules to the ids of their versions at `time`."""

    name: str
    time: datetime
    members: Mapping[str, str]


def create(store: Store, catalog: Catalog, name: str, module_ids: list[str]) -> Snapshot:
    """Name the newest versions of modules. All are read at one moment, and none was deleted when it is written."""
    if not module_ids:
        raise UsageError("a snapshot of no modules; name some")
    key = records.snapshot_key(name)

    def attempt() -> Snapshot:
        if store.read([key]):
            raise ConflictError(f"there is a snapshot {name!r}; name this one otherwise, or delete that")
        lines = catalog.lines(module_ids)
        members = {module_id: _newest(store, module_id, line) for module_id, line in lines.items()}
        expect = _present(store, members)
        now = time.time_ns() // 1000
        record = SnapshotRecord(now, {module_id: (saved.number, saved.id) for module_id, saved in members.items()})
        put = {
            key: records.sealed(key, record),
            records.HOLDS_KEY: records.sealed(records.HOLDS_KEY, NumberRecord(now)),
        }
        store.write(Write(expect={**expect, key: ABSENT}, put=put, note=note([Event("snapshot", name=name, time=now)])))
        return _snapshot(name, record)

    return retrying(attempt)


def _newest(store: Store, module_id: str, line: Line) -> SavedVersion:
    if line.record.newest is None:
        raise NotFoundError(f"{module_id!r} has no newest version in {store!r}; a snapshot needs one of each module")
    return line.record.newest


def _present(store: Store, members: Mapping[str, SavedVersion]) -> dict[str, int]:
    """The revisions of versions' records. Raises MovedError, to begin again, when one was deleted meanwhile."""
    keys = [records.version_key(module_id, saved.number) for module_id, saved in members.items()]
    entries = store.read(keys)
    gone = [
        key for key in keys if key not in entries or records.unsealed(key, entries[key].value, SavedVersion).deleted
    ]
    if gone:
        raise MovedError(gone)
    return {key: entry.revision for key, entry in entries.items()}


def stored(store: Store) -> dict[str, SnapshotRecord]:
    """The records of all snapshots by name."""
    found, after = {}, ""
    while page := store.scan("s/", after=after, limit=_PAGE):
        for key, entry in page:
            found[records.last_name(key)] = records.unsealed(key, entry.value, SnapshotRecord)
        after = page[-1][0]
    return found


def every(store: Store) -> list[Snapshot]:
    """All snapshots by name."""
    return [_snapshot(name, record) for name, record in sorted(stored(store).items())]


def get(store: Store, name: str) -> SnapshotRecord:
    """A snapshot's record. Raises NotFoundError naming what there is."""
    key = records.snapshot_key(name)
    entry = store.read([key]).get(key)
    if entry is None:
        known = ", ".join(map(repr, sorted(stored(store)))) or "none"
        raise NotFoundError(f"there is no snapshot {name!r}; there is {known}")
    return records.unsealed(key, entry.value, SnapshotRecord)


def delete(store: Store, name: str) -> None:
    """Forget a snapshot. Raises NotFoundError."""
    get(store, name)
    event = Event("delete", name=name, time=time.time_ns() // 1000)
    store.write(Write(delete=[records.snapshot_key(name)], note=note([event])))


def restore(store: Store, catalog: Catalog, members: Mapping[str, tuple[int, str] | None], cause: str) -> list[Version]:
    """Make these versions the newest of main again, all in one write; None takes a module's newest away."""

    def attempt() -> list[Version]:
        lines = catalog.lines(members)
        sweep = store.read([records.SWEEP_KEY]).get(records.SWEEP_KEY)
        expect = {records.SWEEP_KEY: sweep.revision if sweep else ABSENT}
        put: dict[str, bytes] = {}
        events, made = [], []
        for module_id, member in members.items():
            change = _again(catalog, module_id, member, lines[module_id], cause)
            if change is None:
                continue
            expect |= change.expect
            put |= change.put
            events.append(Event("restore", module_id, change.saved.id if change.saved else "", MAIN, change.time))
            if change.saved:
                made.append((module_id, change.saved))
        _check_size(store, expect, put)
        if not put:
            return []
        revision = store.write(Write(expect=expect, put=put, note=note(events)))
        return [as_version(module_id, Found(saved, revision)) for module_id, saved in made]

    return retrying(attempt)


def restore_named(store: Store, catalog: Catalog, module_ids: Iterable[str], at: Version | str) -> list[Version]:
    """Make the newest of each module its version of an id or a tag."""
    found = {module_id: catalog.find(module_id, at).saved for module_id in module_ids}
    members = {module_id: (saved.number, saved.id) for module_id, saved in found.items()}
    return restore(store, catalog, members, f"version {at.id if isinstance(at, Version) else at}")


def restore_moment(store: Store, catalog: Catalog, module_ids: Iterable[str], moment: datetime) -> list[Version]:
    """Make the newest of each module what it was at a moment."""
    microseconds(moment)
    members: dict[str, tuple[int, str] | None] = {}
    for module_id in module_ids:
        found = catalog.at_moment(module_id, moment)
        if found is not None and found.saved.empty:
            found = None
        elif found is not None and found.saved.deleted:
            raise NotFoundError(f"version {found.saved.id!r}, the newest of {module_id!r} at that moment, was deleted")
        members[module_id] = (found.saved.number, found.saved.id) if found else None
    return restore(store, catalog, members, f"moment {moment.isoformat()}")


@dataclass(frozen=True, slots=True)
class _Change:
    """What restoring means for one module: the new version, or that there is no newest any more."""

    saved: SavedVersion | None
    time: int
    expect: dict[str, int]
    put: dict[str, bytes]


def _again(catalog: Catalog, module_id: str, member: tuple[int, str] | None, line: Line, cause: str) -> _Change | None:
    """The change that makes a version the newest again; None when it is."""
    record, key = line.record, records.module_key(module_id)
    now = max(time.time_ns() // 1000, record.time + 1)
    if member is None:
        if record.newest is None:
            return None
        gone = emptied(module_id, line, now)
        return _Change(None, now, dict(gone.expect), dict(gone.put))
    old = catalog.number(module_id, member[0])
    if old is None or old.saved.deleted:
        raise NotFoundError(f"version {member[1]!r} of {module_id!r} was deleted")
    if record.newest is not None and record.newest.number == old.saved.number:
        return None
    saved = _copied(old.saved, record, now, cause)
    version = records.version_key(module_id, saved.number)
    id = records.id_key(module_id, saved.id)
    after = ModuleRecord(number=saved.number, time=now, heads={**record.heads, MAIN: saved.number}, newest=saved)
    put = {key: records.sealed(key, after), version: records.sealed(version, saved)}
    expect = {key: line.revision, version: ABSENT, records.version_key(module_id, old.saved.number): old.revision}
    if saved.id != str(saved.number):
        put[id] = records.sealed(id, NumberRecord(saved.number))
        expect[id] = ABSENT
    return _Change(saved, now, expect, put)


def _copied(old: SavedVersion, record: ModuleRecord, now: int, cause: str) -> SavedVersion:
    """A version with the content of an old one, on top of the newest. Its id is its number, as that is always free."""
    return msgspec.structs.replace(
        old,
        number=record.number + 1,
        id=str(record.number + 1),
        uid=secrets.token_hex(8),
        parents=(record.newest.id,) if record.newest else (),
        branch=MAIN,
        time=now,
        arrived=0,
        metadata={"restored_from": old.id, "restored_by": cause},
    )


def _check_size(store: Store, expect: Mapping[str, int], put: Mapping[str, bytes]) -> None:
    traits = store.traits
    if not traits.multi_key_transaction:
        raise UnsupportedError(f"{store!r} changes one record at a time; use a store with transactions, as sqlite://")
    if traits.max_records is not None and len(expect) + len(put) > traits.max_records:
        raise UnsupportedError(
            f"{store!r} takes {traits.max_records} records at once, and this needs {len(expect) + len(put)};"
            f" restore fewer modules at once"
        )


def _snapshot(name: str, record: SnapshotRecord) -> Snapshot:
    members = {module_id: id for module_id, (_, id) in record.members.items()}
    return Snapshot(name, datetime_of(record.time), members)
