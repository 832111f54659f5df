"""Large inputs cross once: which variables of a call the guest still holds from an earlier one.

Theory of operation. RLM gives all inputs again at every step. What was sent is remembered by a digest of the bytes that
crossed, so that a list that the caller has changed in place is sent anew; for str and bytes, which cannot change, the
object itself will do. The guest keeps what it was sent, and binds it again under its name, so a program may use the name for
something else; what it changes in place stays changed.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

from dspex.languages import _values

_LARGE: Final = 1 << 16  # bytes; to send less costs no more than to ask whether it is there


class _Held(NamedTuple):
    value: object  # a str or bytes, else None
    digest: bytes


class Inputs:
    """What one guest holds."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def divided(self, variables: dict[str, Any]) -> tuple[dict[str, Any], list[str], dict[str, _Held]]:
        """The variables to send, the names of those that the guest has, and what to remember once they were sent."""
        new, again, marks = dict[str, Any](), list[str](), dict[str, _Held]()
        for name, value in variables.items():
            held = self._held.get(name)
            if held is not None and held.value is value and value is not None:
                again.append(name)
                continue
            mark = _mark(value)
            if mark is not None and held is not None and held.digest == mark.digest:
                again.append(name)
                continue
            new[name] = value
            if mark is not None:
                marks[name] = mark
        return new, again, marks

    def sent(self, marks: dict[str, _Held]) -> None:
        """These are in the guest now."""
        self._held.update(marks)

    def copy(self) -> Inputs:
        """What a branch of the guest holds."""
        same = Inputs()
        same._held = dict(self._held)
        return same

    def forget(self) -> None:
        """The guest may hold nothing any more."""
        self._held.clear()


def _mark(value: Any) -> _Held | None:
    """How to know a value again; None for one that is small."""
    if type(value) in (int, float, bool, type(None)) or (type(value) in (str, bytes) and len(value) < _LARGE):
        return None
    pickled, buffers = _values.encode({"": value})
    if len(pickled) + sum(buffer.nbytes for buffer in buffers) < _LARGE:
        return None
    digest = hashlib.blake2b(pickled, digest_size=16)
    for buffer in buffers:
        digest.update(buffer)
    return _Held(value if type(value) in (str, bytes) else None, digest.digest())
