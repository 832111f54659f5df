"""The canonical form of a state: the same bytes for equal states, on every machine.

It is the packed tree of the state (`_packed.py`) as MessagePack, with these choices, all that format leaves open:
integers, strings, lists and maps in their shortest form; floats as 64-bit IEEE 754; the keys of maps sorted by their
UTF-8 bytes; no extension types. Hence 1 and 1.0 differ, 0.0 and -0.0 differ, every NaN outside arrays is one NaN,
the order of a dict's keys is no part of the state, and text is compared as it is, without Unicode normalisation.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from dspex.errors import StateFormatError
from dspex.state import _packed


def canonical(state: Any) -> bytes:
    """The canonical bytes of a state. Raises StateError for a value that is no plain data."""
    return _packed.deterministic(_packed.pack(state))


def from_canonical(data: bytes) -> Any:
    """The state of its canonical bytes. Raises StateFormatError for all other bytes.

    That the bytes are canonical is checked, so two stored chunks of one state are one chunk.
    """
    try:
        tree = msgspec.msgpack.decode(data)
        exact = _packed.deterministic(tree) == data
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise StateFormatError(f"no canonical form of a state: {error}") from error
    if not exact:
        raise StateFormatError("no canonical form of a state: keys are not sorted, or a value is not in its shortest form")
    return _packed.unpack(tree)


def content_id(state: Any) -> str:
    """The name of a state's content: `sha256:` and the SHA-256 of its canonical bytes, in hexadecimal."""
    return f"sha256:{hashlib.sha256(canonical(state)).hexdigest()}"
