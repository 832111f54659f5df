"""Making a store smaller: versions that need not be kept, chunks that no version needs, notes that are old.

Theory of operation. First stones are put in place of versions that the retention lets go. Then the sweep record is taken
(`_sweep`): from then on no save is made. Every chunk that some version needs is marked, all others are dropped, a batch at a
time, each under the condition that the sweep record is still ours. A sweep that was killed is over when its lease is; nothing
that is needed was ever dropped, so the next one goes on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.errors import MovedError, StoreError, UsageError
from dspex.stores import Write
from dspex.versions import _marking, _sweep
from dspex.versions import _records as records
from dspex.versions._records import SweepRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from dspex.stores import Store
    from dspex.versions._catalog import Catalog
    from dspex.versions._contents import Contents
    from dspex.versions._records import SavedVersion

_BATCH = 400


@dataclass(frozen=True, slots=True)
class Retention:
    """Which versions `compact` keeps: heads, tagged ones and those in snapshots always, of the others the newest
    `keep_last` of each module, and those younger than `keep_for`. With neither, all."""

    keep_last: int | None = None
    keep_for: timedelta | None = None

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < 1:
            raise UsageError(f"keep_last must be at least 1, not {self.keep_last}")
        if self.keep_for is not None and self.keep_for.total_seconds() <= 0:
            raise UsageError(f"keep_for must be a time, not {self.keep_for}")


@dataclass(frozen=True, slots=True)
class Compacted:
    """What `compact` took away."""

    versions: int
    chunks: int


def compact(
    store: Store,
    catalog: Catalog,
    contents: Contents,
    retention: Retention,
    *,
    forget_before: int | None,
    progress: Callable[[int], None],
) -> Compacted:
    """Apply a retention, drop what no version needs, and forget notes up to a revision."""
    deleted = sum(_let_go(store, catalog, module_id, retention) for module_id in list(catalog.modules()))
    dropped = _sweep_chunks(store, catalog, contents, progress)
    if forget_before is not None:
        store.trim(forget_before)
    return Compacted(deleted, dropped)


def _let_go(store: Store, catalog: Catalog, module_id: str, retention: Retention) -> int:
    """Delete what a module need not keep; how many versions."""
    if retention.keep_last is None and retention.keep_for is None:
        return 0
    deleted = 0
    for found in list(_beyond(catalog, module_id, retention)):
        try:
            _marking.delete(store, catalog, module_id, found)
            deleted += 1
        except UsageError:
            pass  # held by a branch, a tag or a snapshot: that is kept
    return deleted


def _beyond(catalog: Catalog, module_id: str, retention: Retention) -> Iterator[SavedVersion]:
    oldest = None
    if retention.keep_for is not None:
        oldest = time.time_ns() // 1000 - int(retention.keep_for.total_seconds() * 1e6)
    for place, found in enumerate(catalog.versions(module_id)):
        newer = oldest is not None and found.saved.time >= oldest
        if not newer and (retention.keep_last is None or place >= retention.keep_last):
            yield found.saved


def _sweep_chunks(store: Store, catalog: Catalog, contents: Contents, progress: Callable[[int], None]) -> int:
    owner = f"{socket.gethostname()}:{os.getpid()}"
    try:
        lease = _sweep.take(store, owner)
    except MovedError:
        raise StoreError(
            f"{store!r}: somebody else began to compact at this moment; try again when that is done"
        ) from None
    read, dropped, renewed = 0, 0, time.monotonic()
    try:
        needed: set[bytes] = set()
        for module_id in catalog.modules():
            for found in catalog.versions(module_id):
                needed |= contents.hashes(module_id, found.saved)
                read += 1
                progress(read)
                if time.monotonic() - renewed > _sweep.LEASE / 3:
                    lease, renewed = _sweep.renew(store, owner, lease), time.monotonic()
        for batch in _spare(store, needed):
            lease, renewed = _sweep.renew(store, owner, lease), time.monotonic()
            store.write(Write(expect={records.SWEEP_KEY: lease}, drop=batch))
            dropped += len(batch)
            progress(read + dropped)
    except MovedError:
        raise StoreError(
            f"{store!r}: compacting took longer than it told others, who went on; nothing needed was dropped, begin again"
        ) from None
    finally:
        with contextlib.suppress(MovedError):  # then it is another's
            _sweep.put(store, SweepRecord(), lease)
    return dropped


def _spare(store: Store, needed: set[bytes]) -> Iterator[list[bytes]]:
    """Chunks that nothing needs, some at a time, as many as a store takes at once."""
    most = store.traits.max_records
    size = min(_BATCH, most // 2) if most else _BATCH
    after = b""
    while page := store.scan_chunks(after=after, limit=size):
        after = page[-1]
        batch = [digest for digest in page if digest not in needed]
        if batch:
            yield batch
