"""Compression of state files: gzip and zstd, told by their first bytes, and never larger than asked for.

zstd is the standard library's own from Python 3.14 on, and before that its backport (`pip install 'dspex[state]'`).
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Any

from dspex.errors import StateError, StateFormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("plain", "gzip", "zstd")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_STEP = 1 << 12  # bytes given at once: the rest of them is copied where a frame ends
_GZIP_WINDOW = 31  # zlib's number for the largest window inside a gzip frame, with its CRC


def compressed(data: bytes, name: str) -> bytes:
    """`data` compressed. Equal data gives equal bytes: no time and no file name are written.

    Raises UsageError for an unknown name, StateError when zstd is not installed.
    """
    if name == "plain":
        return data
    if name == "gzip":
        packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP_WINDOW)
        return packer.compress(data) + packer.flush()
    if name == "zstd":
        zstd = _zstd()
        options = {zstd.CompressionParameter.compression_level: 3, zstd.CompressionParameter.checksum_flag: 1}
        return bytes(zstd.compress(data, options=options))
    raise UsageError(f"compression {name!r} is unknown; there are {', '.join(NAMES)}")


def expanded(data: bytes, max_size: int) -> bytes:
    """`data` as it was before compression; plain data is given back.

    Raises StateFormatError for damaged data, and for more than `max_size` bytes, before or after: before they are in
    memory.
    """
    if len(data) > max_size:
        raise StateFormatError(f"larger than {max_size} bytes; max_size allows more")
    if data.startswith(_GZIP):
        return _frames(data, lambda: zlib.decompressobj(_GZIP_WINDOW), zlib.error, max_size, "gzip")
    if data.startswith(_ZSTD):
        zstd = _zstd()
        return _frames(data, zstd.ZstdDecompressor, zstd.ZstdError, max_size, "zstd")
    return data


def _frames(data: bytes, start: Callable[[], Any], failure: type[Exception], max_size: int, name: str) -> bytes:
    """Every frame of the data, one after the other, as both tools write and read them."""
    found: list[bytes] = []
    left, at, frame = max_size, 0, start()
    while at < len(data):
        if frame.eof:
            frame = start()
        step = data[at : at + _STEP]
        try:
            # One byte more than allowed: what gives less has taken in the whole step, or its frame has ended.
            part = frame.decompress(step, left + 1)
        except failure as error:
            raise StateFormatError(f"damaged {name} data: {error}") from error
        left -= len(part)
        if left < 0:
            raise StateFormatError(f"expands to more than {max_size} bytes; max_size allows more")
        found.append(part)
        at += len(step) - len(frame.unused_data)
    if not frame.eof:
        raise StateFormatError(f"the {name} data is cut short")
    return b"".join(found)


def _zstd() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise StateError("zstd is not installed: pip install 'dspex[state]'") from error
    return zstd
