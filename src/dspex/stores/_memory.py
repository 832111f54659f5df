"""`memory://`: records and chunks in this process, gone with it. For tests and for trying things out."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

from dspex.errors import CompactedError, MovedError
from dspex.stores import _forking as forking
from dspex.stores._store import ABSENT, Change, Entry, Traits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.stores._store import Damage, Write

_TRAITS = Traits(
    durable_ack=False,
    linearizable=True,
    multi_key_transaction=True,
    watch_replay=True,
    max_value=None,
    max_records=None,
    shared=False,
)


class MemoryStore:
    """A store in this process's memory; every thread may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._records: dict[str, Entry] = {}
        self._keys: list[str] = []
        self._chunks: dict[bytes, bytes] = {}
        self._log: list[Change] = []
        self._revision = 0
        self._trimmed = 0

        forking.register(self)

    fork_rank = 0

    def before_fork(self) -> None:
        """Wait until no thread is inside."""
        self._changed.acquire()

    def after_fork(self) -> None:
        """Let threads go on."""
        self._changed.release()

    def __repr__(self) -> str:
        return "memory://"

    @property
    def traits(self) -> Traits:
        return _TRAITS

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        with self._changed:
            return {key: self._records[key] for key in keys if key in self._records}

    def scan(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[tuple[str, Entry]]:
        with self._changed:
            low = bisect_right(self._keys, after) if after >= prefix else bisect_left(self._keys, prefix)
            high = bisect_left(self._keys, min(filter(None, (before, prefix + "\x7f"))))
            keys = self._keys[max(low, high - limit) : high][::-1] if reverse else self._keys[low:high][:limit]
            return [(key, self._records[key]) for key in keys]

    def write(self, write: Write) -> int:
        with self._changed:
            check(write, self._records)
            for digest, data in write.chunks.items():
                self._chunks.setdefault(digest, data)
            for digest in write.drop:
                self._chunks.pop(digest, None)
            return self._write_records(write) if write.has_records else 0

    def _write_records(self, write: Write) -> int:
        self._revision += 1
        for key, value in write.put.items():
            if key not in self._records:
                insort(self._keys, key)
            self._records[key] = Entry(value, self._revision)
        for key in write.delete:
            if self._records.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        self._log.append(Change(self._revision, write.note))
        self._changed.notify_all()
        return self._revision

    def read_chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        return {digest: self._chunks[digest] for digest in hashes if digest in self._chunks}

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        return {digest for digest in hashes if digest in self._chunks}

    def scan_chunks(self, *, after: bytes = b"", limit: int = 1000) -> list[bytes]:
        with self._changed:
            return sorted(digest for digest in self._chunks if digest > after)[:limit]

    def changes(self, since: int, *, limit: int = 1000) -> list[Change]:
        with self._changed:
            if since < self._trimmed:
                raise CompactedError(since, self._trimmed)
            first = bisect_right(self._log, since, key=lambda change: change.revision)
            return self._log[first : first + limit]

    def wait(self, since: int, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._revision > since, timeout)

    def trim(self, before: int) -> None:
        with self._changed:
            self._trimmed = max(self._trimmed, min(before, self._revision))
            self._log = [change for change in self._log if change.revision > self._trimmed]

    def revision(self) -> int:
        return self._revision

    def damage(self) -> list[Damage]:
        return []

    def close(self) -> None:
        """Nothing is held but memory; a closed store may still be read."""


def check(write: Write, records: dict[str, Entry]) -> None:
    """Raise MovedError for what is not at its expected revision among `records`."""
    moved = [
        key
        for key, revision in write.expect.items()
        if (records[key].revision if key in records else ABSENT) != revision
    ]
    if moved:
        raise MovedError(moved)
