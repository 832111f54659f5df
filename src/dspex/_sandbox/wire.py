"""The frames between host and guest, without any I/O: one layout, both ways, every language.

Theory of operation. A frame is a header of 16 bytes (magic, kind, flags, length of the body, length of the buffers),
the body, then the raw buffers. `Decoder` is fed whatever the socket gave and hands out whole frames; it checks each
header against its bounds before it keeps a byte of what follows, so a guest that announces a terabyte costs nothing.
Behind an answer nothing may follow; behind a call more frames may, for a guest makes several calls at once.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("<2sBBIQ")
MAGIC: Final = b"dx"

EXECUTE: Final = 1
LENT: Final = 2
RETURN: Final = 3
FORK: Final = 4
TUNE: Final = 5
ANSWER: Final = 16
BORROW: Final = 17
CALL: Final = 18
DISPLAY: Final = 19
KEEP: Final = 21  # of a guest that compiles: what it has compiled, for the host to keep
READY: Final = 20  # of a guest whose runtime takes time to start: it has

TAGGED: Final = 1  # of an ANSWER or a CALL: the value holds tags
IN_LOAN: Final = 2  # of an ANSWER: the buffers lie in the memory file that the host lent
IN_MEMORY_FILE: Final = 1  # of an EXECUTE or a RETURN: the buffers come as one sealed memory file
WITH_PROGRAM: Final = 2  # of an EXECUTE: beside it comes what the guest shall become, as a sealed memory file

MAX_BODY: Final = 0xFFFFFFFF

_FROM_GUESTS: Final = (ANSWER, BORROW, CALL, DISPLAY, READY, KEEP)
_FOLLOWED: Final = (CALL, DISPLAY, READY, KEEP)  # kinds behind which more frames may come without being asked for


class MalformedFrame(ValueError):  # noqa: N818 (a fact about bytes, caught at once by the layer above)
    """Bytes that are no frame of this protocol, or one beyond its bounds."""


class Frame(NamedTuple):
    """One message: what it is, how to read it, its body, the raw buffers behind it."""

    kind: int
    flags: int
    body: bytes
    buffers: bytes


def header(kind: int, flags: int, body: int, buffers: int) -> bytes:
    """The 16 bytes in front of a body of `body` bytes and buffers of `buffers` bytes."""
    return HEADER.pack(MAGIC, kind, flags, body, buffers)


class Decoder:
    """Turns a stream of bytes into frames; `limit` bounds body and buffers together, `kept` those of a KEEP."""

    def __init__(self, limit: int, kept: int = 0) -> None:
        self._limit = limit
        self.kept = kept
        self._data = bytearray()
        self._needed = HEADER.size

    @property
    def wanted(self) -> int:
        """How many more bytes the frame under way takes at least (a good size for the next read)."""
        return self._needed - len(self._data)

    def feed(self, data: bytes) -> Frame | None:
        """Take bytes; the first frame that is complete, if one is (no bytes: the next one). Raises `MalformedFrame`."""
        self._data += data
        if len(self._data) < HEADER.size:
            return None
        _, kind, flags, body, _ = self._checked_header()
        if len(self._data) < self._needed:
            return None
        if len(self._data) > self._needed and kind not in _FOLLOWED:
            raise MalformedFrame("bytes follow the frame that nobody asked for")
        view = memoryview(self._data)
        end = HEADER.size + body
        frame = Frame(kind, flags, bytes(view[HEADER.size : end]), bytes(view[end : self._needed]))
        self._data, self._needed = self._data[self._needed :], HEADER.size
        return frame

    def _checked_header(self) -> tuple[bytes, int, int, int, int]:
        magic, kind, flags, body, buffers = HEADER.unpack_from(self._data)
        if magic != MAGIC:
            raise MalformedFrame(f"a frame cannot start with {magic!r}")
        if kind not in _FROM_GUESTS:
            raise MalformedFrame(f"kind {kind} is not one that a guest may send")
        limit = self.kept if kind == KEEP else self._limit
        if body + buffers > limit:
            raise MalformedFrame(f"{body + buffers:,} bytes announced, {limit:,} allowed")
        self._needed = HEADER.size + body + buffers
        return magic, kind, flags, body, buffers
