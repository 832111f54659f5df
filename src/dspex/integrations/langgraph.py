"""LangGraph's checkpoints in any store of dspex: `DspexSaver("sqlite:///states.db")`.

    langgraph/c/<thread>/<namespace>/<checkpoint>               a checkpoint, as LangGraph's serializer wrote it
    langgraph/w/<thread>/<namespace>/<checkpoint>/<task>/<index>  a pending write
    langgraph/n/<thread>/<namespace>/<checkpoint>               the child that came next

A value is its SHA-256 together with its key, and MessagePack. The mark of the child is what refuses two runs that go on from
one checkpoint at the same time: the second one's put finds it and fails, instead of hiding the work of the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any, Self, TypeVar
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

from dspex.errors import ConflictError, IntegrityError, MovedError, UsageError
from dspex.stores import ABSENT, Store, Write, open_store
from dspex.versions._retrying import retrying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol

_ROOT = "langgraph"
_PAGE = 200
_BATCH = 50  # records of one deletion: every store takes as many
_MAX_KEY = 2000
_ON_PURPOSE = ("fork", "update")  # sources of checkpoints that go back to an old one, and mean to
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


class DspexSaver(BaseCheckpointSaver[Any]):
    """A LangGraph checkpointer, sync and async, over a store of dspex (a URL or a `Store`).

        with DspexSaver("sqlite:///states.db") as saver:
            graph = builder.compile(checkpointer=saver)

    A put is durable when it returns, where the store's `durable_ack` says so. A second put from a parent that has another
    child raises ConflictError, unless its source says that it goes back on purpose ("fork", "update"), or `forks=True`.
    A byte that is not what was put raises IntegrityError. Nothing is unpickled, unless a `serde` of yours does.
    """

    def __init__(self, store: str | Store, *, serde: SerializerProtocol | None = None, forks: bool = False) -> None:
        super().__init__(serde=serde)
        self._owned = isinstance(store, str)
        self._store = open_store(store) if isinstance(store, str) else store
        self._forks = forks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, where the saver opened it."""
        if self._owned:
            self._store.close()

    # --- writing ----------------------------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint, as a child of the one that `config` names. Raises ConflictError when that has another."""
        thread, namespace = _place(config)
        parent = get_checkpoint_id(config)
        type_, data = self.serde.dumps_typed(checkpoint)
        found = json.dumps(get_checkpoint_metadata(config, metadata), ensure_ascii=False)
        record = _Checkpoint(parent, type_, data, found.encode("utf-8", "ignore"))
        key = _key("c", thread, namespace, checkpoint["id"])
        put = {key: _sealed(key, record)}
        if parent is None:
            self._store.write(Write(put=put, note=_NOTE))
        else:
            on_purpose = self._forks or metadata.get("source") in _ON_PURPOSE
            self._put_child(_key("n", thread, namespace, parent), checkpoint["id"], put, on_purpose=on_purpose)
        return _config(thread, namespace, checkpoint["id"])

    def _put_child(self, mark: str, id: str, put: dict[str, bytes], *, on_purpose: bool) -> None:
        child = {mark: _sealed(mark, _Child(id))}
        try:
            self._store.write(Write(expect={mark: ABSENT}, put={**put, **child}, note=_NOTE))
        except MovedError:
            retrying(lambda: self._put_beside(mark, id, {**put, **child}, on_purpose=on_purpose))

    def _put_beside(self, mark: str, id: str, put: dict[str, bytes], *, on_purpose: bool) -> None:
        """Put a checkpoint whose parent has, or had, a child."""
        entry = self._store.read([mark]).get(mark)
        other = _unsealed(mark, entry.value, _Child).checkpoint if entry else id
        *place, parent = _names(mark)
        if other != id and not on_purpose and self._store.read([_key("c", *place, other)]):
            raise ConflictError(
                f"checkpoint {parent!r} has a child {other!r}: another run went on from it; load the latest, or"
                f" fork on purpose with update_state() or DspexSaver(forks=True)",
                ours=parent,
                theirs=other,
            )
        self._store.write(Write(expect={mark: entry.revision if entry else ABSENT}, put=put, note=_NOTE))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task wrote until the next checkpoint; what is there stays, but for errors and interrupts."""
        thread, namespace = _place(config)
        id = str(config["configurable"]["checkpoint_id"])
        put = {}
        for place, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, place)
            key = _key("w", thread, namespace, id, task_id, f"{index + 100:08d}")
            put[key] = _sealed(key, _PendingWrite(task_id, task_path, index, channel, *self.serde.dumps_typed(value)))
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

    def delete_thread(self, thread_id: str) -> None:
        """Forget a thread: its checkpoints, writes and marks, in all namespaces."""
        for kind in "cwn":
            self._delete(key for key, _ in self._scan(_prefix(kind, str(thread_id))))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Forget the checkpoints that some runs made, and their writes."""
        wanted = set(map(str, run_ids))
        for key, value in list(self._scan(_prefix("c"))) if wanted else ():
            if json.loads(_unsealed(key, value, _Checkpoint).metadata).get("run_id") in wanted:
                self._forget(key)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread, the whole chains of parents, to another."""
        source, target = str(source_thread_id), str(target_thread_id)
        for kind, form in (("w", _PendingWrite), ("n", _Child), ("c", _Checkpoint)):
            put = {}
            for key, value in self._scan(_prefix(kind, source)):
                copy = _key(kind, target, *_names(key)[1:])
                put[copy] = _sealed(copy, _unsealed(key, value, form))
            for batch in _batches(put):
                self._store.write(Write(put={key: put[key] for key in batch}, note=_NOTE))

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
        found = {key: _unsealed(key, value, _Checkpoint) for key, value in self._scan(_prefix("c", thread))}
        newest: dict[str, str] = {}
        for key in found:
            namespace = _names(key)[1]
            newest[namespace] = max(newest.get(namespace, ""), key)
        kept: set[str] = set()
        for key in newest.values():
            step: str | None = key
            while step in found and step not in kept:
                kept.add(step)
                step = _needed(step, found[step])
        for key in found.keys() - kept:
            self._forget(key)

    def _forget(self, key: str) -> None:
        """Delete a checkpoint and its writes; the mark that it had a child stays with its parent only."""
        names = _names(key)
        self._delete([key, _key("n", *names), *(other for other, _ in self._scan(_prefix("w", *names)))])

    def _delete(self, keys: Iterable[str]) -> None:
        for batch in _batches(list(keys)):
            self._store.write(Write(delete=batch, note=_NOTE))

    # --- reading ----------------------------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the newest of its thread and namespace; None when there is none."""
        thread, namespace = _place(config)
        id = get_checkpoint_id(config)
        if id:
            key = _key("c", thread, namespace, id)
            entry = self._store.read([key]).get(key)
        else:
            page = self._store.scan(_prefix("c", thread, namespace), limit=1, reverse=True)
            key, entry = page[0] if page else ("", None)
        return self._tuple(key, entry.value) if entry else None

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
        left = limit
        for key in sorted(self._keys(config), key=lambda key: _names(key)[-1], reverse=True):
            if left == 0:
                return
            if earliest and _names(key)[-1] >= earliest:
                continue
            entry = self._store.read([key]).get(key)
            if entry is None:
                continue  # deleted meanwhile
            metadata = json.loads(_unsealed(key, entry.value, _Checkpoint).metadata)
            if all(name in metadata and metadata[name] == value for name, value in (filter or {}).items()):
                yield self._tuple(key, entry.value)
                left = None if left is None else left - 1

    def _keys(self, config: RunnableConfig | None) -> Iterator[str]:
        place = config["configurable"] if config else {}
        names = [str(place["thread_id"])] if "thread_id" in place else []
        if names and "checkpoint_ns" in place:
            names.append(str(place["checkpoint_ns"]))
        only = get_checkpoint_id(config) if config else None
        for key, _ in self._scan(_prefix("c", *names)):
            if only is None or _names(key)[-1] == only:
                yield key

    def _tuple(self, key: str, value: bytes) -> CheckpointTuple:
        record = _unsealed(key, value, _Checkpoint)
        thread, namespace, id = _names(key)
        return CheckpointTuple(
            _config(thread, namespace, id),
            self.serde.loads_typed((record.type, record.data)),
            json.loads(record.metadata),
            _config(thread, namespace, record.parent) if record.parent else None,
            self._writes(thread, namespace, id),
        )

    def _writes(self, thread: str, namespace: str, id: str) -> list[tuple[str, str, Any]]:  # type: ignore[valid-type]
        scanned = self._scan(_prefix("w", thread, namespace, id))
        found = [_unsealed(key, value, _PendingWrite) for key, value in scanned]
        found.sort(key=lambda write: writes_sort_key(write.path, write.task, write.index))
        return [(write.task, write.channel, self.serde.loads_typed((write.type, write.data))) for write in found]

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
    deltas = json.loads(record.metadata).get("counters_since_delta_snapshot") or {}
    if record.parent is None or not any(any(counts) for counts in deltas.values()):
        return None
    return _key("c", *_names(key)[:-1], record.parent)


def _place(config: RunnableConfig) -> tuple[str, str]:
    place = config["configurable"]
    return str(place["thread_id"]), str(place.get("checkpoint_ns", ""))


def _config(thread: str, namespace: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": id}}


def _prefix(kind: str, *names: str) -> str:
    return "/".join((_ROOT, kind, *(quote(name, safe="") for name in names), ""))


def _key(kind: str, *names: str) -> str:
    key = _prefix(kind, *names)[:-1]
    if len(key) > _MAX_KEY:
        raise UsageError(f"thread, namespace, checkpoint and task are too long together: {key[:100]}...")
    return key


def _names(key: str) -> tuple[str, ...]:
    return tuple(map(unquote, key.split("/")[2:]))


def _batches(keys: Any) -> Iterator[Any]:
    some = list(keys)
    return (some[start : start + _BATCH] for start in range(0, len(some), _BATCH))


def _sealed(key: str, record: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(record)
    return hashlib.sha256(key.encode() + b"\0" + body).digest() + body


def _unsealed(key: str, value: bytes, form: Callable[..., _T]) -> _T:
    body = value[32:]
    if hashlib.sha256(key.encode() + b"\0" + body).digest() != value[:32]:
        raise IntegrityError(f"{key} is damaged: its checksum differs; load another checkpoint", thing=key)
    record: _T = msgspec.msgpack.decode(body, type=form)
    return record
