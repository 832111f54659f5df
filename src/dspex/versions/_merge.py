"""Three-way merge of states, by path.

Dicts are merged key by key, all else is one value: a list that both sides changed differently is a conflict, as the
places of its items mean nothing once either side has moved them. Values are compared with their types: 1 and 1.0 differ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dspex.state import canonical

_ABSENT = object()


class Merged(NamedTuple):
    """What came of a merge; with `conflicts` (paths), the state has our side of each."""

    state: Any
    conflicts: tuple[str, ...]


def merge(base: Any, ours: Any, theirs: Any) -> Merged:
    """What both changed since `base`, put together."""
    conflicts: list[str] = []
    state = _merge(base, ours, theirs, "", conflicts)
    return Merged(state, tuple(conflicts))


def _merge(base: Any, ours: Any, theirs: Any, path: str, conflicts: list[str]) -> Any:
    if _same(ours, theirs) or _same(theirs, base):
        return ours
    if _same(ours, base):
        return theirs
    if type(ours) is dict and type(theirs) is dict:
        return _merge_dicts(base if type(base) is dict else {}, ours, theirs, path, conflicts)
    conflicts.append(path or "(the whole state)")
    return ours


def _merge_dicts(
    base: dict[Any, Any], ours: dict[Any, Any], theirs: dict[Any, Any], path: str, conflicts: list[str]
) -> dict[Any, Any]:
    merged = {}
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        before, mine, other = (side.get(key, _ABSENT) for side in (base, ours, theirs))
        value = _merge(before, mine, other, path_below(path, key), conflicts)
        if value is not _ABSENT:
            merged[key] = value
    return merged


def path_below(path: str, key: Any) -> str:
    """The path of what a dict at `path` has under `key`."""
    if not (type(key) is str and key):
        return f"{path}[{key!r}]"
    return f"{path}.{key}" if path else key


def _same(one: Any, other: Any) -> bool:
    if one is _ABSENT or other is _ABSENT:
        return one is other
    if one is other:
        return True
    return type(one) is type(other) and canonical(one) == canonical(other)
