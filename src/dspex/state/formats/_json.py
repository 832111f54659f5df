"""JSON: for people. Indented by two, keys in the order of the state, so that a change is a small difference.

Bytes are base64. A file may be reindented and its keys reordered by other tools; that it has no key twice is seen at
once when it is written just as dspex writes, and by a second, slower reading when it is not.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import Any

import msgspec

from dspex.errors import StateFormatError
from dspex.state._envelope import HEADER
from dspex.state.formats._format import Format

_OBJECT = re.compile(rb"[ \t\r\n]*+\{")
_BYTE = re.compile(r"(.*) \((byte \d+)\)", re.DOTALL)


def dumps(tree: Any) -> bytes:
    """The tree as indented JSON, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(tree), indent=2) + b"\n"


def loads(data: bytes) -> Any:
    """The tree of a JSON object."""
    try:
        tree = msgspec.json.decode(data)
        if dumps(tree) != data:
            json.loads(data, object_pairs_hook=_once)
    except StateFormatError:
        raise
    except (msgspec.MsgspecError, ValueError) as error:
        raise _malformed(error) from error
    if b'"$bytes"' in data and HEADER in tree:
        _restore_bytes(tree)
    return tree


def _malformed(error: Exception) -> StateFormatError:
    found = _BYTE.fullmatch(str(error))
    if found:
        return StateFormatError(found[1], place=found[2])
    return StateFormatError(f"no JSON: {error}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise StateFormatError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def _restore_bytes(tree: Any) -> None:
    """Put bytes where the packed tree has them; text below `$bytes` is base64."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if type(node) is dict and node.keys() == {"$bytes"}:
            node["$bytes"] = _from_base64(node["$bytes"])
            continue
        children = node.values() if type(node) is dict else node
        pending += [child for child in children if type(child) in (dict, list)]


def _from_base64(text: Any) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (ValueError, TypeError) as error:
        raise StateFormatError(f"what stands at a $bytes is no base64: {error}") from error


FORMAT = Format("json", (".json",), dumps, loads, lambda data: _OBJECT.match(data) is not None)
