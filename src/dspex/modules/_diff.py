"""What two programs, or two states, differ in: parameter by parameter, down to the value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from dspex.errors import UsageError
from dspex.modules._paths import below
from dspex.modules._state import METADATA

_NOTHING = object()


class Difference(NamedTuple):
    """One difference: what is at `path` in the first (`before`) and in the second (`after`); None where nothing is."""

    path: str
    change: Literal["added", "removed", "changed"]
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.change == "changed":
            return f"~ {self.path}: {_short(self.before)} -> {_short(self.after)}"
        return (
            f"+ {self.path}: {_short(self.after)}"
            if self.change == "added"
            else f"- {self.path}: {_short(self.before)}"
        )


def diff(a: Any, b: Any) -> list[Difference]:
    """What the second of two programs has otherwise than the first, ordered by path as the first has them.

    Each is a module, anything with a `dump_state()`, or a state. Metadata do not count.

        for difference in diff(program, compiled):
            print(difference)  # ~ answer.signature.instructions: 'Given ...' -> 'Think ...'

    Raises UsageError for something that has no state.
    """
    differences: list[Difference] = []
    pending = [("", _state(a), _state(b))]
    while pending:
        path, before, after = pending.pop()
        pairs = _pairs(path, before, after)
        if pairs is None:
            differences += _leaf(path, before, after)
        else:
            pending += reversed(pairs)
    return differences


def _state(value: Any) -> Any:
    state = value.dump_state() if hasattr(value, "dump_state") else value
    if not isinstance(state, Mapping):
        raise UsageError(f"a module or a state can be compared, not {type(value).__name__}")
    return {key: inner for key, inner in state.items() if key != METADATA}


def _pairs(path: str, before: Any, after: Any) -> list[tuple[str, Any, Any]] | None:
    """What is inside of both, by path; None when there is nothing to look into."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = [*before, *(key for key in after if key not in before)]
        return [(_inner(path, key), before.get(key, _NOTHING), after.get(key, _NOTHING)) for key in keys]
    if isinstance(before, (list, tuple)) and type(before) is type(after):
        length = max(len(before), len(after))
        return [(f"{path}[{i}]", _item(before, i), _item(after, i)) for i in range(length)]
    return None


def _inner(path: str, key: Any) -> str:
    if not path:
        return str(key)  # a path of its own
    return below(path, key) if isinstance(key, str) and key.isidentifier() else f"{path}[{key!r}]"


def _item(items: Any, place: int) -> Any:
    return items[place] if place < len(items) else _NOTHING


def _leaf(path: str, before: Any, after: Any) -> list[Difference]:
    if before is _NOTHING:
        return [Difference(path, "added", None, after)]
    if after is _NOTHING:
        return [Difference(path, "removed", before, None)]
    return [] if _same(before, after) else [Difference(path, "changed", before, after)]


def _same(before: Any, after: Any) -> bool:
    if type(before) is not type(after):
        return False
    if hasattr(before, "dtype"):
        return bool(before.dtype == after.dtype and before.shape == after.shape and before.tobytes() == after.tobytes())
    return bool(before == after or (_is_nan(before) and _is_nan(after)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
