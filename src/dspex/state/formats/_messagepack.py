"""MessagePack: the fastest. The envelope is one map; every value is in its shortest form, as all libraries write it."""

from __future__ import annotations

from typing import Any

import msgspec

from dspex.errors import StateFormatError
from dspex.state._envelope import HEADER
from dspex.state.formats._format import Format

_START = b"\x82" + msgspec.msgpack.encode(HEADER)  # a map of two, with the header first


def dumps(tree: Any) -> bytes:
    """The tree as MessagePack."""
    return msgspec.msgpack.encode(tree)


def loads(data: bytes) -> Any:
    """The tree of MessagePack data.

    It must be what `dumps` gives for that tree: else a key stood twice, or a value was not in its shortest form.
    """
    try:
        tree = msgspec.msgpack.decode(data)
        exact = dumps(tree) == data
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise StateFormatError(str(error)) from error
    if not exact:
        raise StateFormatError("a key stands twice in one map, or a value is not in its shortest form")
    return tree


FORMAT = Format("msgpack", (".msgpack", ".mpk"), dumps, loads, lambda data: data.startswith(_START))
