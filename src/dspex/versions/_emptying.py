"""Taking a module's newest version away without taking a version: main is empty from then on, and moments know it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from dspex.stores import ABSENT, Write
from dspex.versions import _records as records
from dspex.versions._events import Event, note
from dspex.versions._records import ModuleRecord, SavedVersion
from dspex.versions._version import MAIN

if TYPE_CHECKING:
    from dspex.versions._catalog import Line


def emptied(module_id: str, line: Line, time: int) -> Write:
    """The write that leaves main without a newest version, and a mark from when on."""
    record = line.record
    mark = SavedVersion(
        number=record.number + 1,
        id=str(record.number + 1),
        uid=secrets.token_hex(8),
        parents=(record.newest.id,) if record.newest else (),
        branch=MAIN,
        schema="",
        content="",
        size=0,
        time=time,
        top=(),
        deleted=True,
        empty=True,
    )
    module, version = records.module_key(module_id), records.version_key(module_id, mark.number)
    heads = {branch: number for branch, number in record.heads.items() if branch != MAIN}
    after = ModuleRecord(number=mark.number, time=time, heads=heads)
    put = {module: records.sealed(module, after), version: records.sealed(version, mark)}
    expect = {module: line.revision, version: ABSENT}
    return Write(expect=expect, put=put, note=note([Event("delete", module_id, name=MAIN, time=time)]))
