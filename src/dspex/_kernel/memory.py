"""Memory files of a fixed size, and the seals that keep them so (memfd_create(2), fcntl(2))."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

SEAL_SEAL: Final = 0x1
SEAL_SHRINK: Final = 0x2
SEAL_GROW: Final = 0x4
SEAL_WRITE: Final = 0x8
_ADD_SEALS: Final = 1033


def fixed_size(name: str, size: int) -> int:
    """A memory file of exactly `size` bytes for ever, still writable, open for further seals."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, _ADD_SEALS, SEAL_SHRINK | SEAL_GROW)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def output_file(name: str, size: int) -> int:
    """A memory file that takes at most `size` bytes and no further seal, for a guest to print into."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, _ADD_SEALS, SEAL_SHRINK | SEAL_GROW | SEAL_SEAL)
    return descriptor


def fill(descriptor: int, buffers: Iterable[memoryview]) -> None:
    """Write the buffers one behind the other.

    By write, not through a mapping: that would take a page fault for every 4 KB, which costs twice what the copy does.
    """
    offset = 0
    for buffer in buffers:
        rest = buffer.cast("B")
        while rest:
            written = os.pwrite(descriptor, rest, offset)
            rest, offset = rest[written:], offset + written


def seal(descriptor: int) -> None:
    """Make the content final. `OSError` (EBUSY) while anybody holds a writable mapping."""
    fcntl.fcntl(descriptor, _ADD_SEALS, SEAL_WRITE | SEAL_SEAL)
