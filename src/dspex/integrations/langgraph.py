"""LangGraph's checkpoints in any store of dspex: `DspexSaver("sqlite:///states.db")`.

    langgraph/<thread>/<namespace>/<checkpoint>!c                 a checkpoint, as LangGraph's serializer wrote it
    langgraph/<thread>/<namespace>/<checkpoint>!n                 the child that came last
    langgraph/<thread>/<namespace>/<checkpoint>!w/<task>/<index>  a pending write

A value is SHA-256 over its key and what follows, which is MessagePack. What belongs together stands together: one read gives
a checkpoint with its writes, and a put changes neighbours. `!` sorts before all that names are quoted into, so keys of
checkpoints are in the order of their ids.

Theory of operation. LangGraph calls the checkpoint with the largest id the latest, so of two runs that go on from one
checkpoint, or that both begin a thread, the second one's put hides the work of the first. Each put therefore leaves the mark
of its parent's child, and goes through only while that mark is as it was when the run read the parent. Who reads the latest
has seen no child. Who reads a checkpoint by its id, to go back to it, has seen the child that it had: the config that is
returned says which (`_SEEN`; LangGraph hands it on to the put). A mark outlives the pruning of its checkpoints, so that a
run which began before is still refused; it goes with the child's run, or with the thread.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, unquote

import msgspec
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)

from dspex.errors import ConflictError, IntegrityError, MovedError, StateError, StateFormatError, UsageError
from dspex.stores import ABSENT, Store, Write, encrypted, open_store
from dspex.versions import _format
from dspex.versions._retrying import retrying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from dspex.stores import Entry

_ROOT = "langgraph"
_PAGE = 200
_NEWEST = 20  # records read at once, newest first: few ask for many
_BATCH = 50  # records of one deletion: every store takes as many
_MAX_KEY = 2000
_SUM = 32
_NOTHING = ""  # what the first checkpoint of a thread is a child of
_RUNS = "__pregel_"  # how LangGraph's own names in the config of a run begin
_BESIDE = "fork"  # the source of checkpoints that LangGraph puts only to branch off on purpose
_SEEN = "__dspex_seen"  # in a config: the child that its checkpoint had; the underscores keep it out of LangGraph's metadata
_NOTE = b"[]"
_T = TypeVar("_T")


class _Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    parent: str | None
    type: str
    data: bytes
    metadata: bytes  # JSON


class _PendingWrite(msgspec.Struct, frozen=True, array_like=True):
    task: str
    path: str
    index: int
    channel: str
    type: str
    data: bytes


class _Child(msgspec.Struct, frozen=True, array_like=True):
    checkpoint: str


class _Found(NamedTuple):
    base: str  # how its keys begin
    record: _Checkpoint
    child: str | None
    writes: list[_PendingWrite]


class DspexSaver(BaseCheckpointSaver[Any]):
    """A LangGraph checkpointer, sync and async, over a store of dspex (a URL or a `Store`).

        with DspexSaver("sqlite:///states.db") as saver:
            graph = builder.compile(checkpointer=saver)

    A put is durable when it returns, where the store's `durable_ack` says so. It raises ConflictError when its parent got a
    child since it was read, unless `forks` allows any. A byte that is not what was put raises IntegrityError. Nothing is
    pickled or unpickled, whatever the `serde`. With a `key` (32 random bytes) everything but names, sizes and times is
    encrypted. Raises UsageError for wrong arguments, StoreError when the store fails or the key does not open it.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        serde: SerializerProtocol | None = None,
        forks: bool = False,
        key: bytes | None = None,
    ) -> None:
        super().__init__(serde=serde)
        self._owned = isinstance(store, str)
        self._store = open_store(store) if isinstance(store, str) else store
        self._forks = forks
        try:
            if key is not None:
                self._store = encrypted(self._store, key)
            _format.check(self._store)
            self._bring_forward()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, where the saver opened it."""
        if self._owned:
            self._store.close()

    def _bring_forward(self) -> None:
        """Move records of before, which stood as `langgraph/<kind>/<thread>/...`; checkpoints last: none is to miss its writes."""
        for kind in "nwc":
            for key, _ in self._scan(_prefix(kind)):
                if "!" not in key:
                    retrying(functools.partial(self._move, key))

    def _move(self, key: str) -> None:
        entry = self._store.read([key]).get(key)
        if entry is None:
            return  # by another process
        kind, thread, namespace, id, *task = key.split("/")[1:]
        moved, body = "/".join((_ROOT, thread, namespace, f"{id}!{kind}", *task)), entry.value[_SUM:]
        whole = entry.value == _with_sum(key, body)
        put = {
            moved: _with_sum(moved, body) if whole else entry.value
        }  # what is damaged stays so, for whoever reads it
        if whole and kind == "n":
            # Marks of deleted children did not hold then.
            child = _quoted(_unsealed(key, entry.value, _Child).checkpoint)
            there = (f"{_ROOT}/c/{thread}/{namespace}/{child}", f"{_ROOT}/{thread}/{namespace}/{child}!c")
            put = put if self._store.read(there) else {}
        self._store.write(Write(expect={key: entry.revision}, put=put, delete=[key], note=_NOTE))

    # --- writing ----------------------------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint, as a child of the one that `config` names.

        Raises ConflictError when that got another since it was read; its `ours` is the parent, `theirs` the other child.
        Raises StateError for an id below the parent's, which could never be the latest: the clock was set back.
        """
        thread, namespace = _place(config)
        parent, id = get_checkpoint_id(config), checkpoint["id"]
        if parent is not None and id < parent and not self._forks:
            raise StateError(
                f"checkpoint {id!r} would not come after {parent!r}, which it goes on from: ids begin with the time, and a"
                f" clock was set back, or is behind another machine's; nothing was put, try again when it has caught up"
            )
        found = json.dumps(get_checkpoint_metadata(config, metadata), ensure_ascii=False)
        record = _Checkpoint(parent, *self._dumped(checkpoint), found.encode("utf-8", "ignore"))
        key = _base(thread, namespace, id) + "c"
        put = {key: _sealed(key, record)}
        if parent is None and not _begins_thread(config):
            self._store.write(Write(put=put, note=_NOTE))
        else:
            mark = _base(thread, namespace, parent or _NOTHING) + "n"
            any_child = self._forks or metadata.get("source") == _BESIDE
            seen = None if any_child else {id, config["configurable"].get(_SEEN)}
            self._put_child(mark, {**put, mark: _sealed(mark, _Child(id))}, seen)
        return _config(thread, namespace, id)

    def _put_child(self, mark: str, put: dict[str, bytes], seen: set[str | None] | None) -> None:
        try:
            self._store.write(Write(expect={mark: ABSENT}, put=put, note=_NOTE))
        except MovedError:
            retrying(lambda: self._put_beside(mark, put, seen))

    def _put_beside(self, mark: str, put: dict[str, bytes], seen: set[str | None] | None) -> None:
        """Put a checkpoint whose parent has a child: `seen` are those that it may have, None any."""
        entry = self._store.read([mark]).get(mark)
        other = _child(mark, entry)
        if other is not None and seen is not None and other not in seen:
            thread, _, parent = _names(mark)
            place = f"checkpoint {parent!r} has a child" if parent else f"thread {thread!r} has a first checkpoint"
            raise ConflictError(
                f"{place} {other!r}: another run went on from there; load the latest and go on from that,"
                f" load a checkpoint by its id to branch off on purpose, or use DspexSaver(forks=True)",
                ours=parent or None,
                theirs=other,
            )
        self._store.write(Write(expect={mark: entry.revision if entry else ABSENT}, put=put, note=_NOTE))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task wrote until the next checkpoint; what is there stays, but for errors and interrupts."""
        thread, namespace = _place(config)
        base = _base(thread, namespace, str(config["configurable"]["checkpoint_id"]))
        put = {}
        for place, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, place)
            key = _checked(f"{base}w/{_quoted(task_id)}/{index + 100:08d}")
            put[key] = _sealed(key, _PendingWrite(task_id, task_path, index, channel, *self._dumped(value)))
        replaces = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        for batch in _batches(put):
            self._put_batch({key: put[key] for key in batch}, replaces=replaces)

    def _put_batch(self, put: dict[str, bytes], *, replaces: bool) -> None:
        retrying(lambda: self._put_some(put, replaces=replaces))

    def _put_some(self, put: dict[str, bytes], *, replaces: bool) -> None:
        if not replaces:
            there = self._store.read(put)
            put = {key: value for key, value in put.items() if key not in there}
        if put:
            expect = {} if replaces else dict.fromkeys(put, ABSENT)
            self._store.write(Write(expect=expect, put=put, note=_NOTE))

    def _dumped(self, value: Any) -> tuple[str, bytes]:
        type_, data = self.serde.dumps_typed(value)
        _check_type(type_, "a value")
        return type_, data

    def delete_thread(self, thread_id: str) -> None:
        """Forget a thread: its checkpoints, writes and marks, in all namespaces."""
        keys = [key for key, _ in self._scan(_prefix(str(thread_id)))]
        self._delete(sorted(keys, key=lambda key: _kind(key) != "c"))  # no checkpoint is to be seen without its writes

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Forget the checkpoints that some runs made, and their writes: their parents may have other children then."""
        wanted = set(map(str, run_ids))
        for key, value in self._scan(_prefix()) if wanted else ():
            record = _unsealed(key, value, _Checkpoint) if _kind(key) == "c" else None
            if record and _metadata(record).get("run_id") in wanted:
                thread, namespace, id = _names(key)
                self._unmark(_base(thread, namespace, record.parent or _NOTHING) + "n", id)
                self._forget(_base(thread, namespace, id))

    def _unmark(self, mark: str, id: str) -> None:
        """Have a parent no child any more, if this is the one."""

        def attempt() -> None:
            entry = self._store.read([mark]).get(mark)
            if entry and _child(mark, entry) == id:
                self._store.write(Write(expect={mark: entry.revision}, delete=[mark], note=_NOTE))

        retrying(attempt)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread, the whole chains of parents, to another."""
        source, target = _prefix(str(source_thread_id)), _prefix(str(target_thread_id))
        found = [*self._scan(source)]
        found.sort(key=lambda row: _kind(row[0]) == "c")  # what belongs to a checkpoint is there before it
        for batch in _batches(found):
            put = {target + key[len(source) :]: _body(key, value) for key, value in batch}
            self._store.write(Write(put={_checked(key): _with_sum(key, body) for key, body in put.items()}, note=_NOTE))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Forget all checkpoints of some threads ("delete"), or all but the newest of each namespace ("keep_latest").

        Ancestors that the newest needs to rebuild channels of which it has only what changed are kept too.
        """
        if strategy not in ("keep_latest", "delete"):
            raise UsageError(f"strategy must be 'keep_latest' or 'delete', not {strategy!r}")
        for thread in map(str, thread_ids):
            if strategy == "delete":
                self.delete_thread(thread)
            else:
                self._keep_latest(thread)

    def _keep_latest(self, thread: str) -> None:
        scanned = [(key, value) for key, value in self._scan(_prefix(thread)) if _kind(key) == "c"]
        found = {key: _unsealed(key, value, _Checkpoint) for key, value in scanned}
        newest = {_names(key)[1]: key for key in found}  # of each namespace; keys come in order
        kept: set[str] = set()
        for key in newest.values():
            step: str | None = key
            while step in found and step not in kept:
                kept.add(step)
                step = _needed(step, found[step])
        for key in found.keys() - kept:
            self._forget(key[:-1])

    def _forget(self, base: str) -> None:
        """Delete a checkpoint and its writes; the mark of its child stays, for runs that began there."""
        self._delete([f"{base}c", *(key for key, _ in self._scan(f"{base}w/"))])

    def _delete(self, keys: Iterable[str]) -> None:
        for batch in _batches(list(keys)):
            self._store.write(Write(delete=batch, note=_NOTE))

    # --- reading ----------------------------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the newest of its thread and namespace; None when there is none."""
        thread, namespace = _place(config)
        id = get_checkpoint_id(config)
        if id:
            rows = self._scan(_base(thread, namespace, id))
            found = next(_together(reversed([*rows])), None)
        else:
            found = next(_together(self._backwards(_prefix(thread, namespace), first=1)), None)
        return self._tuple(found, by_id=bool(id)) if found else None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first: of a thread, a namespace, with metadata, before another, at most so many."""
        earliest = get_checkpoint_id(before) if before else None
        found = self._newest_first(config, earliest, _NEWEST if limit is None or filter else limit)
        fitting = (one for one in found if _fits(_metadata(one.record), filter or {}))
        for one in itertools.islice(fitting, limit):
            yield self._tuple(one, by_id=True)

    def _newest_first(self, config: RunnableConfig | None, before: str | None, first: int) -> Iterator[_Found]:
        """Those of one namespace are read as they are asked for, others must be sorted."""
        place = config["configurable"] if config else {}
        names = [str(place["thread_id"])] if "thread_id" in place else []
        only = get_checkpoint_id(config) if config else None
        if names and "checkpoint_ns" in place and not only:
            of = _prefix(*names, str(place["checkpoint_ns"]))
            end = f"{of}{_quoted(before)}!" if before else ""
            yield from _together(self._backwards(of, end, first=max(1, min(first, _NEWEST))))
            return
        keys = [key for key, _ in self._scan(_prefix(*names)) if _kind(key) == "c"]
        for key in sorted(keys, key=lambda key: _names(key)[-1], reverse=True):
            thread, namespace, id = _names(key)
            wanted = only in (None, id) and namespace == place.get("checkpoint_ns", namespace)
            if wanted and (before is None or id < before):
                yield from _together(reversed([*self._scan(_base(thread, namespace, id))]))

    def _backwards(self, prefix: str, before: str = "", *, first: int) -> Iterator[tuple[str, bytes]]:
        limit = first
        while page := self._store.scan(prefix, before=before, limit=limit, reverse=True):
            yield from ((key, entry.value) for key, entry in page)
            if len(page) < limit:
                return
            before, limit = page[-1][0], _NEWEST

    def _tuple(self, found: _Found, *, by_id: bool) -> CheckpointTuple:
        record, (thread, namespace, id) = found.record, _names(found.base)
        config = _config(thread, namespace, id)
        if by_id and found.child is not None:
            config["configurable"][_SEEN] = found.child
        found.writes.sort(key=lambda write: writes_sort_key(write.path, write.task, write.index))
        return CheckpointTuple(
            config,
            self._loaded(found.base, record.type, record.data),
            _metadata(record),
            _config(thread, namespace, record.parent) if record.parent else None,
            [(write.task, write.channel, self._loaded(found.base, write.type, write.data)) for write in found.writes],
        )

    def _loaded(self, key: str, type_: str, data: bytes) -> Any:
        _check_type(type_, key)
        return self.serde.loads_typed((type_, data))

    def _scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        after = ""
        while page := self._store.scan(prefix, after=after, limit=_PAGE):
            yield from ((key, entry.value) for key, entry in page)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    # --- asynchronous twins: the same in a thread, so the event loop goes on --------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (one := await asyncio.to_thread(next, found, None)) is not None:
            yield one

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await asyncio.to_thread(lambda: self.prune(thread_ids, strategy=strategy))


def _needed(key: str, record: _Checkpoint) -> str | None:
    """The parent's key, when a checkpoint has of some channel only what changed since."""
    deltas = _metadata(record).get("counters_since_delta_snapshot") or {}
    if record.parent is None or not any(any(counts) for counts in deltas.values()):
        return None
    thread, namespace, _ = _names(key)
    return _base(thread, namespace, record.parent) + "c"


def _metadata(record: _Checkpoint) -> Any:
    return json.loads(record.metadata.decode())  # of bytes, json would first guess how they are encoded


def _begins_thread(config: RunnableConfig) -> bool:
    """Whether a run of a graph puts its first checkpoint; a subgraph may begin anew, when what calls it is replayed.

    Puts without a parent that are no run's are copies and imports, of which a thread may have many.
    """
    return not _place(config)[1] and any(name.startswith(_RUNS) for name in config["configurable"])


def _child(mark: str, entry: Entry | None) -> str | None:
    return _unsealed(mark, entry.value, _Child).checkpoint if entry else None


def _fits(metadata: dict[str, Any], filter: dict[str, Any]) -> bool:
    return all(name in metadata and metadata[name] == value for name, value in filter.items())


def _check_type(type_: str, place: str) -> None:
    """A type is `json`, or `json+aes` where a serializer encrypts."""
    if type_.partition("+")[0] == "pickle":
        raise StateFormatError(
            "it is pickled, and pickles run code when they are read; register its type with the serializer",
            source=place,
        )


def _place(config: RunnableConfig) -> tuple[str, str]:
    place = config["configurable"]
    return str(place["thread_id"]), str(place.get("checkpoint_ns", ""))


def _config(thread: str, namespace: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": id}}


@functools.lru_cache(1024)
def _quoted(name: str) -> str:
    return quote(name, safe="")


def _prefix(*names: str) -> str:
    return "/".join((_ROOT, *map(_quoted, names), ""))


def _base(thread: str, namespace: str, id: str) -> str:
    return _checked(f"{_prefix(thread, namespace)}{_quoted(id)}!")


def _checked(key: str) -> str:
    if len(key) > _MAX_KEY:
        raise UsageError(f"thread, namespace, checkpoint and task are too long together: {key[:100]}...")
    return key


def _kind(key: str) -> str:
    return key[key.index("!") + 1]


def _names(key: str) -> tuple[str, str, str]:
    thread, namespace, id = key[: key.index("!")].split("/")[1:]
    return unquote(thread), unquote(namespace), unquote(id)


def _together(rows: Iterable[tuple[str, bytes]]) -> Iterator[_Found]:
    """Checkpoints from their records, last key first: writes, the child's mark, and what they belong to, where it still is."""
    base, child = "", None
    writes: list[_PendingWrite] = []
    for key, value in rows:
        if not key.startswith(base) or not base:
            base, child, writes = key[: key.index("!") + 1], None, []
        kind = key[len(base)]
        if kind == "w":
            writes.append(_unsealed(key, value, _PendingWrite))
        elif kind == "n":
            child = _unsealed(key, value, _Child).checkpoint
        else:
            yield _Found(base, _unsealed(key, value, _Checkpoint), child, writes)


def _batches(keys: Any) -> Iterator[Any]:
    some = list(keys)
    return (some[start : start + _BATCH] for start in range(0, len(some), _BATCH))


def _sealed(key: str, record: msgspec.Struct) -> bytes:
    return _with_sum(key, msgspec.msgpack.encode(record))


def _with_sum(key: str, body: bytes) -> bytes:
    return _sum(key, body) + body


def _sum(key: str, body: bytes) -> bytes:
    digest = hashlib.sha256(key.encode() + b"\0")
    digest.update(body)
    return digest.digest()


def _unsealed(key: str, value: bytes, form: Callable[..., _T]) -> _T:
    record: _T = msgspec.msgpack.decode(_body(key, value), type=form)
    return record


def _body(key: str, value: bytes) -> bytes:
    body = value[_SUM:]
    if _sum(key, body) != value[:_SUM]:
        raise IntegrityError(f"{key} is damaged: its checksum differs; load another checkpoint", thing=key)
    return body
