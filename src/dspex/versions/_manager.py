"""`StateManager`: every version of the states of programs, in a store of the user's choice."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from dspex import telemetry
from dspex.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from dspex.state import as_stateful, to_plain
from dspex.stores import Store, encrypted, open_store
from dspex.stores._memory import MemoryStore
from dspex.versions import (
    _bundle,
    _compaction,
    _contents,
    _format,
    _ids,
    _marking,
    _snapshots,
    _syncing,
    _verifying,
    _watching,
)
from dspex.versions import _records as records
from dspex.versions._async import asynchronous
from dspex.versions._catalog import At, Catalog, Found, as_version, missing
from dspex.versions._compaction import Compacted, Retention
from dspex.versions._contents import Contents
from dspex.versions._history import History
from dspex.versions._merge import merge
from dspex.versions._migrations import Migrations, Step, migrated
from dspex.versions._resolvers import Resolver, check_resolver
from dspex.versions._retrying import retrying
from dspex.versions._saving import Draft, Saver, checked_metadata
from dspex.versions._syncing import Synced
from dspex.versions._version import HEAD, LATEST, MAIN, NEW, Parent, Version

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from dspex.modules._diff import Difference
    from dspex.versions._events import Event
    from dspex.versions._snapshots import Snapshot
    from dspex.versions._verifying import Report

_PAGE = 100
Direction = Literal["push", "pull", "both"]


class Page(NamedTuple):
    """Some versions, newest first. `next` goes to `list_versions(after=...)` for more, None at the end; `revision` to
    `watch(since=...)`: whatever is saved later than this list comes there."""

    versions: tuple[Version, ...]
    next: str | None
    revision: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `list_versions` is to give."""

    since: int | None
    until: int | None
    tag: str | None
    branch: str | None
    metadata: Mapping[str, Any]

    def takes(self, version: Version, time: int) -> bool:
        """Whether a version is among it."""
        return (
            (self.since is None or time >= self.since)
            and (self.until is None or time <= self.until)
            and (self.tag is None or self.tag in version.tags)
            and (self.branch is None or self.branch == version.branch)
            and all(key in version.metadata and version.metadata[key] == value for key, value in self.metadata.items())
        )


class StateManager:
    """Keeps every save of a module's state as an immutable, checksummed version.

        with StateManager("sqlite:///states.db") as states:
            version = states.save_state("answerer", program, metadata={"score": 0.81})
            states.tag("answerer", "production", version)
            states.load_into("answerer", program, at="production")

    `store` is a URL (`memory://`, `file:///dir`, `sqlite:///file.db`, ...) or a `Store`, which is closed with the
    manager only if it was opened by it. `versioning` says how versions are called, `resolver` what becomes of a save
    whose parent is no longer the newest: "reject" (ConflictError), "last_write_wins", "merge" (three-way, by path) or a
    function that gets the `Conflict` and returns the state to save. `retention` says what `compact` keeps, `migrations`
    are the steps between schemas. With a `key` (32 random bytes) everything but names, sizes and times is encrypted.

    Every method may be called from any thread, and has an asynchronous twin with an `a` before its name.
    Raises UsageError for wrong arguments, StoreError when the store fails.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        versioning: _ids.Versioning = "incremental",
        resolver: Resolver = "reject",
        retention: Retention | None = None,
        migrations: Migrations | None = None,
        key: bytes | None = None,
    ) -> None:
        if versioning not in _ids.VERSIONINGS:
            raise UsageError(f"versioning must be one of {', '.join(map(repr, _ids.VERSIONINGS))}, not {versioning!r}")
        check_resolver(resolver)
        self._owned = isinstance(store, str)
        self._store = open_store(store) if isinstance(store, str) else store
        if key is not None:
            self._store = self._sealed(key)
        self._migrations, self._retention = migrations or Migrations(), retention or Retention()
        self._versioning, self._resolver = versioning, resolver
        self._catalog, self._contents = Catalog(self._store), Contents(self._store)
        self._saver = Saver(self._store, self._catalog, self._contents, versioning=versioning, resolver=resolver)
        try:
            _format.check(self._store)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sealed(self, key: bytes) -> Store:
        try:
            return encrypted(self._store, key)
        except BaseException:
            self.close()
            raise

    def rotate_key(self, old: bytes, new: bytes) -> None:
        """Have an encrypted store open with another key from now on, at once and whatever its size.

        Managers that are open go on. Raises UsageError for a store without a key, StoreError for a wrong old one.
        """
        from dspex.stores._encrypted import EncryptedStore

        if not isinstance(self._store, EncryptedStore):
            raise UsageError(f"{self._store!r} was opened without a key, so it has none to change")
        self._store.rotate(old, new)

    def close(self) -> None:
        """Close the store, where the manager opened it."""
        if self._owned:
            self._store.close()

    @property
    def store(self) -> Store:
        """Where the versions are."""
        return self._store

    # --- saving -----------------------------------------------------------------------------------------------------

    def save_state(
        self,
        module_id: str,
        state: Any,
        *,
        parent: Version | Parent = HEAD,
        branch: str | None = None,
        schema: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        bump: _ids.Bump | None = None,
    ) -> Version:
        """Save a state (plain data, or anything that has one) as a new version, durable when this returns.

        Without `parent` it goes on top of whatever is newest. With a version as `parent` it is compare-and-set: when
        that is no longer the head of its branch, the manager's resolver decides. NEW: the module must not exist yet.
        `branch` is the parent's, or "main". `schema` is the shape of the state: by default what `dump_state` says of
        it, else the parent's. `tags` move here from where they were. `bump` is the part of a semantic id to raise.

        Raises StateError for a value that is no plain data, by its path; ConflictError; NotFoundError for a branch.
        """
        if bump is not None and bump not in _ids.BUMPS:
            raise UsageError(f"bump must be one of {', '.join(map(repr, _ids.BUMPS))}, not {bump!r}")
        _check_parent(module_id, parent)
        plain = _plain(state)
        with telemetry.operation("dspex.state.save"):
            draft = Draft(
                module_id=module_id,
                prepared=_contents.prepare(plain),
                parent=parent,
                branch=branch,
                schema=_text("schema", schema) or _schema_of(plain),
                metadata=checked_metadata(metadata) if metadata else {},
                tags=_checked_tags(tags),
                bump=bump or "patch",
            )
            return self._saver.save(draft)

    def merge(
        self, module_id: str, branch: str, *, into: str = MAIN, metadata: Mapping[str, Any] | None = None
    ) -> Version:
        """Save on one branch the three-way merge with another, a version with both heads as parents.

        Raises ConflictError naming the paths that both changed, or that their schemas differ; NotFoundError for a branch
        that is not.
        """
        history = self.history(module_id)
        ours, theirs = self._branch_head(module_id, into), self._branch_head(module_id, branch)
        if ours.schema != theirs.schema:
            raise ConflictError(
                f"{into!r} has schema {ours.schema!r}, {branch!r} {theirs.schema!r}; migrate one of them first",
                ours=ours,
                theirs=theirs,
                paths=("the schema",),
            )
        base = history.common(ours.id, theirs.id)
        states = [self.load_state(module_id, history.versions[base]) if base and base in history.versions else {}]
        states += [self.load_state(module_id, ours), self.load_state(module_id, theirs)]
        merged = merge(*states)
        if merged.conflicts:
            where = ", ".join(merged.conflicts)
            raise ConflictError(
                f"{branch!r} and {into!r} both changed {where}", ours=ours, theirs=theirs, paths=merged.conflicts
            )
        draft = Draft(
            module_id=module_id,
            prepared=_contents.prepare(merged.state),
            parent=ours,
            branch=into,
            schema=ours.schema,
            metadata=checked_metadata(metadata),
            others=(theirs.id,),
        )
        return self._saver.save(draft)

    # --- loading ----------------------------------------------------------------------------------------------------

    def load_state(self, module_id: str, at: At = LATEST, *, schema: str | None = None) -> Any:
        """The state of a version: of a Version, a moment, or a text: "latest", then an exact id, then a tag.

        With `schema` it is migrated to that first, which is kept as a version. Raises NotFoundError when there is none,
        IntegrityError when any byte is not what was saved, MigrationError.
        """
        with telemetry.operation("dspex.state.load"):
            found = self._catalog.find(module_id, at)
            if schema is not None and found.saved.schema != schema:
                return self.load_state(module_id, self.migrate_state(module_id, schema, at=at))
            return self._loaded(module_id, at, found)

    def _loaded(self, module_id: str, at: At, found: Found) -> Any:
        """The state of what was found for `at`. It may be deleted, and its chunks dropped, while it is read: that is no damage."""
        while True:
            try:
                return self._contents.load(module_id, found.saved)
            except IntegrityError:
                now = self._catalog.number(module_id, found.saved.number)
                if now is None or not now.saved.deleted:
                    raise
                found = self._catalog.find(module_id, at)

    def load_into(self, module_id: str, stateful: Any, at: At = LATEST, *, schema: str | None = None) -> Version:
        """Load a version into a module, a dataclass or a dict, all or not at all; the version that was loaded.

        Raises what `load_state` does, and StateMismatchError when the state does not fit: nothing is changed then.
        """
        target = as_stateful(stateful)
        version = self.version(module_id, at)
        if schema is not None and version.schema != schema:
            version = self.migrate_state(module_id, schema, at=version)
        target.load_state(self.load_state(module_id, version))
        return version

    def head(self, module_id: str, branch: str = MAIN) -> Version | None:
        """The newest version of a branch; None when there is none."""
        found = self._catalog.head(module_id, branch)
        return self._version(module_id, found) if found else None

    def version(self, module_id: str, at: At = LATEST) -> Version:
        """The version that `at` means. Raises NotFoundError."""
        return self._version(module_id, self._catalog.find(module_id, at))

    def _version(self, module_id: str, found: Found) -> Version:
        return as_version(module_id, found, self._catalog.tags(module_id).get(found.saved.number, ()))

    # --- looking ----------------------------------------------------------------------------------------------------

    def modules(self, pattern: str = "*") -> list[str]:
        """The ids of all modules that match a pattern, as of shells, in order."""
        return sorted(module_id for module_id in self._catalog.modules() if fnmatch.fnmatchcase(module_id, pattern))

    def list_versions(
        self,
        module_id: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tag: str | None = None,
        branch: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int = _PAGE,
        after: str | None = None,
    ) -> Page:
        """At most `limit` versions, newest first: those between two moments, with a tag, of a branch, whose metadata have
        these values. Raises NotFoundError for an unknown `after`."""
        if limit < 1:
            raise UsageError(f"limit must be at least 1, not {limit}")
        wanted = Wanted(_time(since), _time(until), tag, branch, metadata or {})
        revision = self._store.revision()
        before = self._number(module_id, after) if after else None
        tags = self._catalog.tags(module_id)
        taken: list[Version] = []
        for found in self._catalog.versions(module_id, before=before):
            if wanted.since is not None and found.saved.since < wanted.since:
                break  # this, not its own time, grows with numbers: versions made elsewhere come later
            version = as_version(module_id, found, tags.get(found.saved.number, ()))
            if wanted.takes(version, found.saved.time):
                if len(taken) == limit:
                    return Page(tuple(taken), taken[-1].id, revision)
                taken.append(version)
        return Page(tuple(taken), None, revision)

    def _number(self, module_id: str, id: str) -> int:
        """The number of an id: also of one that was deleted, after which a list goes on all the same."""
        found = self._catalog.of_id(module_id, id)
        return (found or self._catalog.find(module_id, id)).saved.number

    def history(self, module_id: str) -> History:
        """The whole graph of a module's versions. Raises NotFoundError for an unknown module."""
        heads = self._catalog.line(module_id).record.heads
        tags, everything = self._catalog.tags(module_id), list(self._catalog.everything(module_id))
        if not everything:
            raise NotFoundError(f"no module {module_id!r} was ever saved in {self._store!r}")
        ids = {found.saved.number: found.saved.id for found in everything}
        for number in heads.values():
            if number not in ids:
                raise missing(module_id, number)
        present = [found for found in everything if not found.saved.deleted]
        return History(
            module_id,
            {found.saved.id: as_version(module_id, found, tags.get(found.saved.number, ())) for found in present},
            {branch: ids[number] for branch, number in heads.items()},
            {found.saved.id: found.saved.parents for found in everything},
        )

    def diff(self, module_id: str, a: At, b: At = LATEST) -> list[Difference]:
        """What the second of two versions has otherwise than the first, by path."""
        from dspex.modules._diff import diff

        before, after = self.load_state(module_id, a), self.load_state(module_id, b)
        if type(before) is dict and type(after) is dict:
            return diff(before, after)
        return diff({"state": before}, {"state": after})

    # --- names ------------------------------------------------------------------------------------------------------

    def tag(self, module_id: str, tag: str, at: At = LATEST, *, move: bool = True) -> Version:
        """Give a version a name of its own; it moves here from where it was, unless `move` is False (ConflictError).

        Raises UsageError for a tag that looks like an id.
        """
        _checked_tags([tag])
        found = self._catalog.find(module_id, at)
        _marking.tag(self._store, module_id, tag, found.saved, move=move)
        return self._version(module_id, found)

    def untag(self, module_id: str, tag: str) -> None:
        """Take a tag away. Raises NotFoundError when there is none."""
        _marking.untag(self._store, module_id, tag)

    def branch(self, module_id: str, name: str, at: At = LATEST) -> Version:
        """Begin a branch at a version. Raises ConflictError when there is one of that name."""
        found = self._catalog.find(module_id, at)
        _marking.branch(self._store, self._catalog, module_id, name, found.saved)
        return self._version(module_id, found)

    def delete(self, module_id: str, at: At | None = None) -> None:
        """Delete a version, or with none named the module with all its versions.

        A deleted version leaves its place in the history; its chunks go with the next `compact`. Raises UsageError for a
        version that a branch, a tag or a snapshot holds, naming it.
        """
        if at is None:
            _marking.delete_module(self._store, self._catalog, module_id)
        else:
            _marking.delete(self._store, self._catalog, module_id, self._catalog.find(module_id, at).saved)

    def _branch_head(self, module_id: str, branch: str) -> Version:
        found = self._catalog.head(module_id, branch)
        if found is None:
            raise NotFoundError(f"{module_id!r} has no branch {branch!r}; make it with branch()")
        return self._version(module_id, found)

    # --- many modules at one moment ---------------------------------------------------------------------------------

    def create_snapshot(self, name: str, module_ids: Iterable[str]) -> Snapshot:
        """Name the newest versions of many modules, all as of one moment.

        Raises NotFoundError when one of them was never saved, ConflictError when there is a snapshot of that name.
        """
        if isinstance(module_ids, str):
            raise UsageError(f"module_ids must be a list of module ids, not the text {module_ids!r:.100}")
        return _snapshots.create(self._store, self._catalog, name, list(module_ids))

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, by name."""
        return _snapshots.every(self._store)

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot; the versions stay. Raises NotFoundError."""
        _snapshots.delete(self._store, name)

    def restore_snapshot(self, name: str) -> list[Version]:
        """Make the versions of a snapshot the newest again, as new versions: of all its modules, or of none."""
        return _snapshots.restore(
            self._store, self._catalog, _snapshots.get(self._store, name).members, f"snapshot {name}"
        )

    def restore(self, *, at: At, pattern: str = "*") -> list[Version]:
        """Make the newest of every module that matches what it was at a moment, as new versions: of all, or of none.

        A module that did not exist then has no newest version afterwards; its versions stay. With an id or a tag as
        `at`, every module that matches goes back to its version of that name, or NotFoundError is raised. With a
        Version, its module alone.
        """
        if isinstance(at, Version):
            return _snapshots.restore_named(self._store, self._catalog, [at.module_id], at)
        if isinstance(at, str):
            return _snapshots.restore_named(self._store, self._catalog, self.modules(pattern), at)
        return _snapshots.restore_moment(self._store, self._catalog, self.modules(pattern), at)

    # --- schemas ----------------------------------------------------------------------------------------------------

    def migrate_state(self, module_id: str, to_schema: str, to: str | None = None, *, at: At = LATEST) -> Version:
        """Take a version to another schema by the registered steps, and save that as its child.

        A version is taken to a schema once: the child that there is, is returned. The child becomes the head of its
        branch where its parent was; of an older version it is on no branch. With two schemas, `(from, to)`, the first
        must be the version's. Raises MigrationError when no path leads there, or a step fails: nothing is saved then.
        """
        found = self._catalog.find(module_id, at)
        if to is not None:
            if found.saved.schema != to_schema:
                raise UsageError(f"version {found.saved.id} has schema {found.saved.schema!r}, not {to_schema!r}")
            to_schema = to
        if found.saved.schema == to_schema:
            return self._version(module_id, found)
        steps = self._migrations.path(found.saved.schema, to_schema)
        taken: set[str] = set()
        return retrying(lambda: self._migrate(module_id, found, steps, taken))

    def plan_migration(self, module_id: str, to_schema: str, *, at: At = LATEST) -> tuple[Step, ...]:
        """The steps that `migrate_state` would take. Raises MigrationError when no path leads there."""
        return self._migrations.path(self._catalog.find(module_id, at).saved.schema, to_schema)

    def _migrate(self, module_id: str, found: Found, steps: tuple[Step, ...], taken: set[str]) -> Version:
        schema = steps[-1].to_schema
        made = _marking.child_of_schema(self._catalog, module_id, found.saved, schema)
        if made is not None:
            return self._version(module_id, made)
        state = migrated(self._contents.load(module_id, found.saved), steps)
        metadata = {"migrated_from": found.saved.id, "steps": [str(step) for step in steps]}
        return self._saver.save_child(module_id, found.saved, _contents.prepare(state), schema, metadata, taken=taken)

    # --- the store as a whole ---------------------------------------------------------------------------------------

    def watch(
        self, pattern: str = "*", since: Version | int | None = None, *, timeout: float | None = None
    ) -> Iterator[Event]:
        """Events of modules that match, in the order of their writes, each once, until none came for `timeout` seconds.

        `since` is a version or a revision (`Page.revision`, `Event.revision`): what happened after it comes first, so
        nothing is lost between a list and a watch, nor while nobody watched. Without it, from now on.
        Raises CompactedError when that was forgotten.
        """
        return _watching.watch(self._store, pattern, _revision(since), timeout)

    def awatch(
        self, pattern: str = "*", since: Version | int | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[Event]:
        """`watch`, without holding up the event loop."""
        return _watching.awatch(self._store, pattern, _revision(since), timeout)

    def verify(self, *, progress: Callable[[int], None] | None = None) -> Report:
        """Read every byte there is, and tell what is not what was saved, and which versions it hits."""
        with telemetry.operation("dspex.state.verify"):
            return _verifying.verify(self._store, progress)

    def compact(
        self, *, forget_before: Version | int | None = None, progress: Callable[[int], None] | None = None
    ) -> Compacted:
        """Delete what the retention does not keep, drop chunks that no version needs, and forget old events.

        Saves wait meanwhile. Raises StoreError when another compacts, IntegrityError when something is damaged: then
        nothing is dropped, for nobody can tell what is needed. `progress` is called with the number of versions read and
        chunks dropped so far.
        """
        with telemetry.operation("dspex.state.compact"):
            return _compaction.compact(
                self._store,
                self._catalog,
                self._contents,
                self._retention,
                forget_before=_revision(forget_before),
                progress=progress or (lambda count: None),
            )

    def sync(
        self,
        other: str | Store | StateManager,
        direction: Direction = "push",
        *,
        pattern: str = "*",
        progress: Callable[[int], None] | None = None,
    ) -> Synced:
        """Bring what this store has to another ("push"), what that has here ("pull"), or "both", first to the other.

        Where both went on from a common version, the resolver of the manager that receives decides. Raises ConflictError
        as that does; what was brought until then stays, on no branch, and the next sync goes on. `progress` is called
        with the number of versions brought so far.
        """
        if direction not in ("push", "pull", "both"):
            raise UsageError(f"direction must be 'push', 'pull' or 'both', not {direction!r}")
        if isinstance(other, StateManager):
            return self._sync(other, direction, pattern, progress)
        with StateManager(other, versioning=self._versioning, resolver=self._resolver) as there:
            return self._sync(there, direction, pattern, progress)

    def _sync(
        self, other: StateManager, direction: Direction, pattern: str, progress: Callable[[int], None] | None
    ) -> Synced:
        count = _syncing.counter(progress)
        total = Synced()
        with telemetry.operation("dspex.state.sync"):
            if direction in ("push", "both"):
                total += _syncing.bring(self._side, other._side, self.modules(pattern), count)
            if direction in ("pull", "both"):
                total += _syncing.bring(other._side, self._side, other.modules(pattern), count)
        return total

    @property
    def _side(self) -> _syncing.Side:
        return _syncing.Side(self._catalog, self._contents, self._saver)

    def export(
        self, path: str | os.PathLike[str], pattern: str = "*", *, progress: Callable[[int], None] | None = None
    ) -> int:
        """Write all versions of modules that match into one file, atomically; its size in bytes."""
        store = MemoryStore()
        self.sync(store, pattern=pattern, progress=progress)
        return _bundle.write(path, store)

    def import_(self, path: str | os.PathLike[str], *, progress: Callable[[int], None] | None = None) -> Synced:
        """Bring the versions of a file that `export` wrote here, as `sync` does. Raises StateFormatError, OSError."""
        return self.sync(_bundle.read(path), "pull", progress=progress)

    # --- asynchronous twins -----------------------------------------------------------------------------------------

    asave_state = asynchronous(save_state)
    amerge = asynchronous(merge)
    aload_state = asynchronous(load_state)
    aload_into = asynchronous(load_into)
    ahead = asynchronous(head)
    aversion = asynchronous(version)
    amodules = asynchronous(modules)
    alist_versions = asynchronous(list_versions)
    ahistory = asynchronous(history)
    adiff = asynchronous(diff)
    atag = asynchronous(tag)
    auntag = asynchronous(untag)
    abranch = asynchronous(branch)
    adelete = asynchronous(delete)
    acreate_snapshot = asynchronous(create_snapshot)
    adelete_snapshot = asynchronous(delete_snapshot)
    asnapshots = asynchronous(snapshots)
    arestore_snapshot = asynchronous(restore_snapshot)
    arestore = asynchronous(restore)
    amigrate_state = asynchronous(migrate_state)
    averify = asynchronous(verify)
    acompact = asynchronous(compact)
    a_sync = asynchronous(sync)
    aexport = asynchronous(export)
    aimport = asynchronous(import_)
    aclose = asynchronous(close)


def _revision(since: Version | int | None) -> int | None:
    return since.revision if isinstance(since, Version) else since


def _plain(state: Any) -> Any:
    """The plain data of what has a state; plain data itself as it is."""
    if type(state) in _PLAIN:
        return state
    return to_plain(as_stateful(state).dump_state())


_PLAIN = frozenset({dict, list, tuple, str, bytes, int, float, bool, type(None), set, frozenset})


def _schema_of(state: Any) -> str | None:
    """The schema that `dump_state` of a module of dspex says."""
    try:
        return str(state["metadata"]["dspex"]["schema"])
    except (KeyError, TypeError, IndexError):
        return None


def _check_parent(module_id: str, parent: Any) -> None:
    if isinstance(parent, Version):
        if parent.module_id != module_id:
            raise UsageError(f"the parent {parent} is no version of {module_id!r}")
    elif not isinstance(parent, Parent):
        raise UsageError(f"parent must be a Version or NEW, not {parent!r:.100}; load the version first")


def _checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise UsageError(f"tags must be a list of texts, not the text {tags!r}")
    found = tuple(tags)
    for tag in found:
        records.name_of("a tag", tag)
        _ids.check_tag(tag)
    return found


def _text(what: str, value: str | None) -> str | None:
    if value is not None:
        records.name_of(f"a {what}", value)
    return value


def _time(moment: datetime | None) -> int | None:
    return None if moment is None else _ids.microseconds(moment)


__all__ = ["HEAD", "NEW", "Page", "StateManager"]
