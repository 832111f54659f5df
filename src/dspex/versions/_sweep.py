"""The sweep record: the door between saves, which rely on chunks being there, and who removes chunks.

Every save expects the record as it found it, and none is made while it names an owner. Who sweeps writes its name first: all
saves that began before fail then and begin again, after the sweep. The owner's own removals expect the record too, so one that
was thought dead, and whose time ran out, removes nothing any more.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dspex.errors import MovedError, StoreError
from dspex.stores import ABSENT, Write
from dspex.versions import _records as records
from dspex.versions._events import Event, note
from dspex.versions._records import SweepRecord

if TYPE_CHECKING:
    from dspex.stores import Entry, Store

LEASE = 30.0  # seconds for which an owner is believed alive; it renews its lease with every batch
_SKEW = 30.0  # seconds by which the clocks of machines may differ
_PAUSE = 0.01


def at_rest(store: Store, entry: Entry | None) -> int:
    """The record's revision when nobody sweeps. Raises MovedError, to begin again, while somebody does."""
    if entry is None:
        return ABSENT
    sweep = records.unsealed(records.SWEEP_KEY, entry.value, SweepRecord)
    if not sweep.owner:
        return entry.revision
    if not _alive(sweep):
        return put(store, SweepRecord(), entry.revision)
    time.sleep(_PAUSE)
    raise MovedError([records.SWEEP_KEY])


def take(store: Store, owner: str) -> int:
    """Become the owner; the record's revision. Raises StoreError when another sweeps."""
    entry = store.read([records.SWEEP_KEY]).get(records.SWEEP_KEY)
    if entry is not None:
        sweep = records.unsealed(records.SWEEP_KEY, entry.value, SweepRecord)
        if sweep.owner and _alive(sweep):
            raise StoreError(f"{store!r} is being compacted by {sweep.owner}; try again when that is done")
    return renew(store, owner, entry.revision if entry else ABSENT)


def _alive(sweep: SweepRecord) -> bool:
    """Whether an owner is believed alive. A lease longer than any that is given means that a clock was set back since: whoever
    is passed too early only has to begin again, for nothing is removed but under its own record."""
    return 0 <= sweep.until - time.time() <= LEASE + _SKEW


def renew(store: Store, owner: str, revision: int) -> int:
    """Stay the owner for another lease. Raises MovedError when it is no longer."""
    return put(store, SweepRecord(owner, time.time() + LEASE), revision)


def put(store: Store, sweep: SweepRecord, revision: int) -> int:
    """Write the record in place of that of `revision`."""
    key = records.SWEEP_KEY
    event = Event("sweep", time=time.time_ns() // 1000)
    return store.write(Write(expect={key: revision}, put={key: records.sealed(key, sweep)}, note=note([event])))
