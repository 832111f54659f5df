"""How a version comes to be: one write, under the condition that nobody else saved meanwhile.

Theory of operation. A save reads the module's record (which holds the newest number and the head of each branch), makes the next
version, and writes both with all chunks that are new, expecting the module's record at the revision at which it was read. When
somebody was faster the store refuses, and the save begins again: on top of the new head where the caller named no parent, by
the resolver where it did. So two writers never both win, in any store that has this one condition.

Chunks that the parent has are not sent again. That they are still there when the write is made is what the sweep record is for: who
removes chunks (`_compaction`) changes it first, every save expects it unchanged, and none is made while chunks are removed.

When the answer of a write is lost, the version is looked up: it carries a `uid` of its own, so a save knows its own win, also one
that arrives late.

Where a module stood after this manager's own last save is remembered, and tried first without reading: when it has moved since, the
store refuses as always. A conflict is never told of what was remembered, only of what was read.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dspex.errors import (
    ConflictError,
    MovedError,
    NotFoundError,
    StateError,
    StoreUnavailableError,
    UnknownOutcomeError,
    UnsupportedError,
)
from dspex.stores import ABSENT, Write
from dspex.versions import _contents, _ids
from dspex.versions import _records as records
from dspex.versions._catalog import Found, Line, as_version, line_of
from dspex.versions._events import Event, note
from dspex.versions._records import ModuleRecord, NumberRecord, SavedVersion, TagRecord
from dspex.versions._remembered import Remembered
from dspex.versions._resolvers import Resolver, resolve
from dspex.versions._retrying import ATTEMPTS, pause
from dspex.versions._sweep import at_rest
from dspex.versions._version import MAIN, Parent, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspex.stores import Store
    from dspex.versions._catalog import Catalog
    from dspex.versions._contents import Contents, Prepared

MAX_METADATA = 1 << 16  # bytes as JSON
_REMEMBERED = 256  # contents whose chunks are remembered, so that the next save need not ask


class Draft(msgspec.Struct, frozen=True):
    """A version that is to be."""

    module_id: str
    prepared: Prepared
    parent: Version | Parent
    branch: str | None
    schema: str | None
    metadata: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    bump: _ids.Bump = "patch"
    others: tuple[str, ...] = ()  # further parents, of a merge


class Standing(NamedTuple):
    """What a save found: the module's line and the sweep record's revision, read at one moment."""

    line: Line
    sweep: int


class Saver:
    """Makes versions in a store."""

    def __init__(
        self, store: Store, catalog: Catalog, contents: Contents, *, versioning: _ids.Versioning, resolver: Resolver
    ) -> None:
        self._store, self._catalog, self._contents = store, catalog, contents
        self._versioning, self._resolver = versioning, resolver
        self._chunks_of: Remembered[tuple[int, str], frozenset[bytes]] = Remembered(_REMEMBERED)
        self._seen: Remembered[str, Standing] = Remembered(_REMEMBERED)

    def save(self, draft: Draft) -> Version:
        """Make the version. Raises ConflictError as the resolver has it, NotFoundError for a branch that is not."""
        taken: set[str] = set()
        saved: SavedVersion | None = None
        lost: list[SavedVersion] = []
        for attempt in range(ATTEMPTS):
            try:
                standing = self._remembered(draft) or self.standing(draft.module_id)
                for one in lost:
                    if made := self._made(draft, one):
                        return made
                draft, head = self._placed(draft, standing.line)
                saved = self._next(draft, standing.line.record, head, _parents(draft, head), taken)
                return self._write(draft, saved, standing)
            except MovedError as error:
                taken |= _ids_taken(draft.module_id, error.keys)
            except UnknownOutcomeError:
                lost += [saved] if saved is not None else []
            except StoreUnavailableError as error:
                if not lost:
                    raise
                raise UnknownOutcomeError(f"{error}; an earlier attempt may have been made: look for it") from error
            self._seen.pop(draft.module_id)
            pause(attempt)
        raise StoreUnavailableError(f"{draft.module_id!r} could not be saved: others were faster {ATTEMPTS} times")

    def save_child(
        self,
        module_id: str,
        parent: SavedVersion,
        prepared: Prepared,
        schema: str,
        metadata: dict[str, Any],
        *,
        taken: set[str],
    ) -> Version:
        """Make the version that a migration gives: the head of its parent's branch where the parent was that, else on none.

        Raises MovedError when anything has moved; ids that others have are in `taken` then, for the next attempt.
        """
        standing = self.standing(module_id)
        at_head = parent.branch is not None and standing.line.record.heads.get(parent.branch) == parent.number
        draft = Draft(
            module_id,
            prepared,
            parent=Parent.HEAD,
            branch=parent.branch if at_head else None,
            schema=schema,
            metadata=metadata,
            bump="major",
        )
        saved = self._next(draft, standing.line.record, None, (parent.id,), taken)
        try:
            return self._write(draft, saved, standing, child_of=parent)
        except MovedError as error:
            taken |= _ids_taken(module_id, error.keys)
            raise

    def _remembered(self, draft: Draft) -> Standing | None:
        """Where the module stood after our own last save, if the draft goes on top of that."""
        seen = self._seen.get(draft.module_id)
        if seen is None or draft.parent in (Parent.NEW, Parent.APART):
            return None
        # Of main only: another branch may have been begun or moved on since, which only a read tells.
        if not isinstance(draft.parent, Version):
            return seen if draft.branch in (None, MAIN) else None
        newest = seen.line.record.newest
        same = newest is not None and newest.uid == draft.parent.uid
        return seen if same and (draft.branch or draft.parent.branch) == MAIN else None

    def _made(self, draft: Draft, lost: SavedVersion) -> Version | None:
        """The version whose answer was lost, if it was made after all."""
        found = self._catalog.number(draft.module_id, lost.number)
        return as_version(draft.module_id, found, draft.tags) if found and found.saved.uid == lost.uid else None

    def standing(self, module_id: str) -> Standing:
        """Where a module stands, once nobody removes chunks."""
        key = records.module_key(module_id)
        entries = self._store.read((key, records.SWEEP_KEY))
        sweep = at_rest(self._store, entries.get(records.SWEEP_KEY))
        return Standing(line_of(key, entries.get(key)), sweep)

    def _placed(self, draft: Draft, line: Line) -> tuple[Draft, Found | None]:
        """The draft for the head that there is now, and that head; the resolver decides when it is not its parent."""
        branch = draft.branch or (draft.parent.branch if isinstance(draft.parent, Version) else None) or MAIN
        head = self._catalog.head(draft.module_id, branch, line=line)
        if head is None and branch != MAIN and branch not in line.record.heads:
            raise NotFoundError(f"{draft.module_id!r} has no branch {branch!r}; make it with branch()")
        if draft.branch is None:
            draft = msgspec.structs.replace(draft, branch=branch)
        if draft.parent is Parent.HEAD:
            return draft, head
        if draft.parent is Parent.NEW:
            if line.record.heads:
                raise _exists(draft.module_id, head)
            return draft, head
        if isinstance(draft.parent, Version) and head is not None and head.saved.uid == draft.parent.uid:
            return draft, head
        return self._resolved(draft, head), head

    def _resolved(self, draft: Draft, head: Found | None) -> Draft:
        if head is None:
            raise NotFoundError(f"{draft.module_id!r} has no branch {draft.branch!r} any more: it was deleted")
        theirs = as_version(draft.module_id, head)
        conflict = StoredConflict(self._catalog, self._contents, draft, theirs)
        state = resolve(self._resolver, conflict)
        others = (*draft.others, draft.parent.id) if isinstance(draft.parent, Version) else draft.others
        prepared = draft.prepared if conflict.is_ours(state) else _contents.prepare(state)
        return msgspec.structs.replace(draft, prepared=prepared, parent=theirs, others=tuple(dict.fromkeys(others)))

    def _next(
        self, draft: Draft, record: ModuleRecord, head: Found | None, parents: tuple[str, ...], taken: set[str]
    ) -> SavedVersion:
        number, now = record.number + 1, max(time.time_ns() // 1000, record.time + 1)
        schema = draft.schema or (head.saved.schema if head else "1")
        id = self._id(draft, number, now, schema=schema, parents=parents, taken=taken)
        return SavedVersion(
            number=number,
            id=id,
            uid=_ids.uid_of_content(id) if self._versioning == "content" else secrets.token_hex(8),
            parents=parents,
            branch=draft.branch,
            schema=schema,
            content=draft.prepared.content,
            size=draft.prepared.size,
            time=now,
            top=draft.prepared.top,
            depth=draft.prepared.chunked.depth,
            metadata=dict(draft.metadata),
        )

    def _id(
        self, draft: Draft, number: int, now: int, *, schema: str, parents: tuple[str, ...], taken: set[str]
    ) -> str:
        if self._versioning == "incremental":
            return str(number)
        if self._versioning == "timestamp":
            return _ids.timestamp(now)
        if self._versioning == "content":
            content, metadata = draft.prepared.content, dict(draft.metadata)
            made = _ids.content_name(draft.module_id, parents, schema, content, metadata)
            if made in taken:
                raise ConflictError(
                    f"{draft.module_id!r} has a version {made!r}: the same was saved on the same parent"
                )
            return made
        made = _ids.raised(parents[0] if parents else None, draft.bump)
        while made in taken:
            made = _ids.raised(made, "patch")
        return made

    def _write(
        self, draft: Draft, saved: SavedVersion, standing: Standing, *, child_of: SavedVersion | None = None
    ) -> Version:
        made, after = additions(draft.module_id, saved, standing.line, tags=draft.tags)
        if child_of is not None:
            made = self._with_parent(made, draft.module_id, saved, child_of)
        known = self._known(draft, standing)
        chunks = self._contents.missing(draft.prepared, known)
        expect = {**made.expect, records.SWEEP_KEY: standing.sweep}
        left = send_ahead(self._store, chunks, expect={records.SWEEP_KEY: standing.sweep})
        write = msgspec.structs.replace(made, expect=expect, chunks=left)
        revision = self._store.write(write)
        self._chunks_of.put((standing.sweep, saved.content), frozenset(draft.prepared.chunked.chunks))
        self._seen.put(draft.module_id, Standing(Line(after, revision), standing.sweep))
        return as_version(draft.module_id, Found(saved, revision), draft.tags)

    def _with_parent(self, made: Write, module_id: str, saved: SavedVersion, parent: SavedVersion) -> Write:
        """The write that also notes which version a migration was made of, so that it is made once.

        Raises MovedError when another made it since its caller looked: that one is to be found then.
        """
        key = records.migrated_key(module_id, parent.number, saved.schema)
        entry = self._store.read([key]).get(key)
        if entry is not None:
            child = self._catalog.number(module_id, records.unsealed(key, entry.value, NumberRecord).number)
            if child is not None and not child.saved.deleted:
                raise MovedError([key])
        expect = {**made.expect, key: entry.revision if entry else ABSENT}
        return msgspec.structs.replace(
            made, expect=expect, put={**made.put, key: records.sealed(key, NumberRecord(saved.number))}
        )

    def _known(self, draft: Draft, standing: Standing) -> Iterable[bytes]:
        """Chunks that are there for sure: those of the head, as long as no sweep began since they were seen."""
        newest = standing.line.record.newest
        if newest is None or newest.deleted:
            return ()
        found = self._chunks_of.get((standing.sweep, newest.content))
        return found if found is not None else _contents.top_of(newest)


class StoredConflict:
    """A conflict whose states are read when a resolver asks for them."""

    def __init__(self, catalog: Catalog, contents: Contents, draft: Draft, theirs: Version) -> None:
        self._catalog, self._contents, self._draft = catalog, contents, draft
        self.base = draft.parent if isinstance(draft.parent, Version) else None
        self.theirs = theirs
        self._given: list[Any] = []

    @property
    def our_state(self) -> Any:
        if not self._given:
            self._given.append(_contents.state_of(self._draft.prepared))
        return self._given[0]

    def is_ours(self, state: Any) -> bool:
        """Whether a resolver gave back just what was to be saved."""
        return bool(self._given) and state is self._given[0]

    @property
    def base_state(self) -> Any:
        return self._state(self.base) if self.base else {}

    @property
    def their_state(self) -> Any:
        return self._state(self.theirs)

    def _state(self, version: Version) -> Any:
        module_id = self._draft.module_id
        return self._contents.load(module_id, self._catalog.find(module_id, version).saved)


def additions(
    module_id: str, saved: SavedVersion, line: Line, *, tags: tuple[str, ...] = ()
) -> tuple[Write, ModuleRecord]:
    """The records that one new version brings, and what must still be as it was read; and the module's record then."""
    module, version = records.module_key(module_id), records.version_key(module_id, saved.number)
    branch = saved.branch
    heads = line.record.heads if branch is None else {**line.record.heads, branch: saved.number}
    newest = saved if branch == MAIN else line.record.newest
    after = ModuleRecord(number=saved.number, time=saved.time, heads=heads, newest=newest)
    put = {module: records.sealed(module, after), version: records.sealed(version, saved)}
    expect = {module: line.revision, version: ABSENT}
    if saved.id != str(saved.number):
        id = records.id_key(module_id, saved.id)
        put[id] = records.sealed(id, NumberRecord(saved.number))
        expect[id] = ABSENT
    for tag in tags:
        key = records.tag_key(module_id, tag)
        put[key] = records.sealed(key, TagRecord(saved.number, saved.id))
    event = Event("save", module_id, saved.id, branch or "", saved.time)
    return Write(expect=expect, put=put, note=note([event, *(_tagged(event, tag) for tag in tags)])), after


def _parents(draft: Draft, head: Found | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*((head.saved.id,) if head else ()), *draft.others)))


def _tagged(event: Event, tag: str) -> Event:
    return msgspec.structs.replace(event, kind="tag", name=tag)


def send_ahead(store: Store, chunks: Mapping[bytes, bytes], *, expect: Mapping[str, int]) -> Mapping[bytes, bytes]:
    """Write what is too much for one write beforehand, under the same condition; what is left for the write itself."""
    largest, most = store.traits.max_value, store.traits.max_records
    if largest is None and most is None:
        return chunks
    batch: dict[bytes, bytes] = {}
    size = 0
    for digest, data in chunks.items():
        if largest is not None and len(data) > largest // 2:
            raise UnsupportedError(
                f"{store!r} takes {largest} bytes at once, and one text or bytes of the state has more; use another store"
            )
        if batch and ((largest and size + len(data) > largest // 2) or (most and len(batch) >= most // 2)):
            store.write(Write(expect=expect, chunks=batch))
            batch, size = {}, 0
        batch[digest] = data
        size += len(data)
    return batch


def _ids_taken(module_id: str, keys: Iterable[str]) -> set[str]:
    prefix = records.id_key(module_id, "x")[:-1]
    return {records.last_name(key) for key in keys if key.startswith(prefix)}


def checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata as JSON has them. Raises StateError for what JSON would change, or for too much."""
    given = dict(metadata or {})
    try:
        encoded = msgspec.json.encode(given)
        kept: dict[str, Any] = msgspec.json.decode(encoded)  # not the caller's, who may change it
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise StateError(f"metadata must be JSON: {error}") from error
    if kept != given:
        raise StateError("metadata must be JSON: a value would not be read as it was written (a tuple, a NaN, a key)")
    if len(encoded) > MAX_METADATA:
        raise StateError(f"metadata of {len(encoded)} bytes; at most {MAX_METADATA} are allowed: put it into the state")
    return kept


def _exists(module_id: str, head: Found | None) -> ConflictError:
    theirs = as_version(module_id, head) if head else None
    return ConflictError(f"{module_id!r} is not new: it has been saved before; name its parent", theirs=theirs)
