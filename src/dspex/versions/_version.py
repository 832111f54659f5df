"""A version: one save of a module's state, as the caller sees it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

MAIN: Final = "main"
LATEST: Final = "latest"


class Parent(enum.Enum):
    """What a save may stand on besides a version."""

    NEW = "new"
    HEAD = "head"
    APART = "apart"  # of a sync: made elsewhere, from nothing that is here

    def __repr__(self) -> str:
        return self.name


NEW: Final = Parent.NEW  # the module must not exist yet
HEAD: Final = Parent.HEAD  # whatever is newest, atomically: what is meant when no parent is named


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One save of a module's state; nothing of it ever changes but its tags.

    `id` is unique in the module, made by the manager's strategy; `schema` is the shape of the state; `parents` are the
    ids of the versions it was made from, the first being the head it replaced; `content` is `dspex.state.content_id` of
    the state; `time` (UTC) grows along a module's versions even where the clock does not; `branch` is None for a version
    that no branch leads to. `uid` is the same wherever the version was synced to, `revision` that of this store.
    """

    id: str
    module_id: str
    schema: str
    parents: tuple[str, ...]
    content: str
    time: datetime
    branch: str | None
    size: int
    uid: str
    revision: int
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.module_id}@{self.id}"
