"""States to bytes and back: any format, any compression, told by the content and never by a name.

JSON and Erlang terms are also written by others. Of these formats a file without dspex's envelope is taken for plain
data: a JSON object as it is (DSPy's own state files are such), a term by the rules of `formats/_etf.py`.
"""

from __future__ import annotations

from typing import Any

from dspex.errors import StateFormatError, UsageError
from dspex.state import _compression, _envelope, _packed
from dspex.state.formats import _dspy, _etf, _json, _messagepack, _protobuf

FORMATS = {module.FORMAT.name: module.FORMAT for module in (_json, _messagepack, _protobuf, _etf, _dspy)}
MAX_SIZE = 1 << 28  # 256 MiB


def encode(state: Any, *, format: str = "json", compression: str | None = None) -> bytes:
    """The bytes of a state.

    `format` is "json", "msgpack", "protobuf", "etf", or "dspy" (which `dspy.Module.load` reads); `compression` is None
    or "plain", "gzip", "zstd". Equal states with their keys in the same order give equal bytes.

    Raises StateError naming the path of a value that is no plain data, or that the format cannot hold; UsageError for
    an unknown format or compression.
    """
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is unknown; there are {', '.join(FORMATS)}")
    chosen = FORMATS[format]
    tree = _packed.pack(state)
    data = chosen.dumps(tree if chosen.bare else _envelope.sealed(tree))
    return _compression.compressed(data, compression or "plain")


def decode(data: bytes, *, source: str = "bytes", max_size: int = MAX_SIZE) -> Any:
    """The state of such bytes, checked against their checksum; no code of theirs ever runs.

    `source` names them in errors. `max_size` bounds the bytes, compressed or not; decoded values take a few times as
    much memory, and for hostile MessagePack up to sixty times.

    Raises StateFormatError, saying where and why, for bytes that are damaged, foreign, too large, too deep or written
    by a newer dspex; StateError when a library that they need is not installed.
    """
    try:
        return _decoded(data, max_size)
    except StateFormatError as error:
        raise StateFormatError(error.cause, source=source, place=error.place) from error.__cause__
    except RecursionError as error:
        raise StateFormatError("nested too deep", source=source) from error
    except MemoryError as error:
        raise StateFormatError("too large for the memory that is left", source=source) from error


def _decoded(data: bytes, max_size: int) -> Any:
    if not data:
        raise StateFormatError("is empty")
    data = _compression.expanded(data, max_size)
    chosen = next((known for known in FORMATS.values() if known.recognises(data)), None)
    if chosen is None:
        raise StateFormatError(f"no state file: it starts with {data[:16]!r}", place="byte 0")
    tree = chosen.loads(data)
    if _envelope.is_envelope(tree):
        return _packed.unpack(_checked(tree))
    if chosen is _json.FORMAT:
        _packed.check_depth(tree)
        return tree
    return _packed.unpack(tree)


def _checked(tree: Any) -> Any:
    """The content of an envelope. What MessagePack cannot count in 64 bits was no packed tree."""
    try:
        return _envelope.opened(tree)
    except (OverflowError, TypeError, UnicodeEncodeError) as error:
        raise StateFormatError(f"no packed state: {error}") from error
