"""What happened in a store, as its log tells it: one note for each write, a list of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened. `kind` is save, branch, tag, untag, delete, restore, snapshot or sweep.

    `name` is that of the tag, branch or snapshot; `time` microseconds since the epoch, as its writer's clock had it.
    """

    kind: str
    module_id: str = ""
    version_id: str = ""
    name: str = ""
    time: int = 0
    revision: int = 0


_decode = msgspec.json.Decoder(tuple[Event, ...]).decode
_encode = msgspec.json.Encoder().encode


def note(events: Iterable[Event]) -> bytes:
    """The note of a write in which these happened."""
    return _encode(tuple(events))


def events(revision: int, note: bytes) -> tuple[Event, ...]:
    """The events of a note; those that no manager wrote are none."""
    try:
        found = _decode(note)
    except msgspec.MsgspecError:
        return ()
    return tuple(msgspec.structs.replace(event, revision=revision) for event in found)
