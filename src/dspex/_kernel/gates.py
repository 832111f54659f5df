"""System calls that another process decides upon, one at a time (seccomp_unotify(2)).

Theory of operation. A filter may answer a call with "ask": the caller stops, and whoever holds the filter's *listener* reads
what was called, with which words, by whom, and says go on, or fails it with an error. What is decided upon must lie in
the words themselves: what a pointer leads to may have changed by the time that the call goes on. So only calls whose words
say all are gated.

Once nobody holds the listener any more, gated calls fail (ENOSYS): a gate without its keeper is shut.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from typing import Final, NamedTuple

from dspex._kernel.seccomp import INSTRUCTION
from dspex._kernel.syscalls import NUMBERS, syscall

_SET_MODE_FILTER: Final = 1
_NEW_LISTENER: Final = 8
_HEADER: Final = struct.Struct("@HP")  # struct sock_fprog
_ASKED: Final = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif: id, pid, flags, seccomp_data
_ANSWER: Final = struct.Struct("=QqiI")  # struct seccomp_notif_resp: id, value, error, flags
_LEND: Final = struct.Struct("=QIIII")  # struct seccomp_notif_addfd: id, flags, ours, theirs, flags of theirs
_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_ADD_DESCRIPTOR: Final = 0x40182103
_AT_THAT_NUMBER: Final = 1
_GO_ON: Final = 1
_NAMES: Final = {number: name for name, number in NUMBERS.items()}


class Asked(NamedTuple):
    """A call that waits: its number among those that wait, the calling thread, the call's name and words."""

    id: int
    thread: int
    call: str
    words: tuple[int, ...]


def install(program: bytes) -> int:
    """Put this process under `program`, and return the listener of those calls that the program asks about.

    The caller has set no_new_privs, or has CAP_SYS_ADMIN. `OSError` when the kernel refuses.
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(_HEADER.pack(len(program) // INSTRUCTION.size, ctypes.addressof(code)))
    return syscall("seccomp", _SET_MODE_FILTER, _NEW_LISTENER, header)


def receive(listener: int) -> Asked | None:
    """The next call that waits; None when it was given up (a signal, or the caller's death) before it was read."""
    buffer = bytearray(_ASKED.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, thread, _, call, _, _, *words = _ASKED.unpack(buffer)
    return Asked(number, thread, _NAMES.get(call, ""), tuple(words))


def go_on(listener: int, asked: Asked) -> None:
    """Let the call be made."""
    _answer(listener, asked, 0, _GO_ON)


def refuse(listener: int, asked: Asked, error: int = errno.EPERM) -> None:
    """Let the call fail with `error`."""
    _answer(listener, asked, -error, 0)


def lend(listener: int, asked: Asked, descriptor: int, number: int) -> None:
    """Give the caller a copy of `descriptor` under `number`, in place of what it may have there."""
    fcntl.ioctl(listener, _ADD_DESCRIPTOR, _LEND.pack(asked.id, _AT_THAT_NUMBER, descriptor, number, os.O_CLOEXEC))


def _answer(listener: int, asked: Asked, error: int, flags: int) -> None:
    try:
        fcntl.ioctl(listener, _SEND, _ANSWER.pack(asked.id, 0, error, flags))
    except OSError as failure:
        if failure.errno != errno.ENOENT:  # the caller gave up, or died, meanwhile
            raise
