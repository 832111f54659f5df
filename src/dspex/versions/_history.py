"""The graph of a module's versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dspex.versions._version import Version


@dataclass(frozen=True, slots=True)
class History:
    """The versions of a module by id, newest first, and the head of each branch.

    Parents that were deleted have no version here; `parents` leads through them all the same.
    """

    module_id: str
    versions: Mapping[str, Version]
    heads: Mapping[str, str]
    parents: Mapping[str, tuple[str, ...]]

    def ancestors(self, id: str) -> Iterator[str]:
        """The ids from which a version came, nearest first, itself included."""
        seen, pending = set(), [id]
        while pending:
            level, pending = pending, []
            for one in level:
                if one not in seen:
                    seen.add(one)
                    yield one
                    pending += self.parents.get(one, ())

    def common(self, one: str, other: str) -> str | None:
        """The newest version from which both came: the base of a merge. None when there is none.

        The newest, not the nearest: a save that was merged has its old parent beside its new one, and from that old one all
        that came between would count as changed by both.
        """
        both = set(self.ancestors(one)) & set(self.ancestors(other))
        return next((id for id in self.parents if id in both), None)
