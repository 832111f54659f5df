"""One process: its privileges, its ties to its parent, its handle (prctl(2), capabilities(7), pidfd_open(2))."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from typing import Final

from dspex._kernel.syscalls import checked, libc, syscall

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_CAPBSET_READ: Final = 23
_PR_SET_SECUREBITS: Final = 28
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x20080522
_NO_CAPABILITY: Final = struct.pack("=6I", 0, 0, 0, 0, 0, 0)
# noroot, no_setuid_fixup, no_cap_ambient_raise, each with its lock: uid 0 means nothing from here on.
_SECUREBITS: Final = 0b11_00_11_11


def die_with_parent() -> None:
    """Be killed when the thread that created this process ends; end-of-file is watched besides."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, "die with the parent")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, "become a subreaper")


def forbid_new_privileges() -> None:
    """No execve grants anything from here on; also what seccomp and Landlock ask of an ordinary user."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")


def hide_memory() -> None:
    """Refuse ptrace and core dumps: other processes of the same user may not read this one's memory."""
    _prctl(_PR_SET_DUMPABLE, 0, "not dumpable")


def drop_capabilities() -> None:
    """Give up every capability, the right to regain one, and what uid 0 would mean.

    The bounding set goes first, while CAP_SETPCAP is still there; where it is not, there is nothing to bound.
    """
    prctl = libc().prctl
    if prctl(_PR_SET_SECUREBITS, _SECUREBITS, 0, 0, 0) == 0:
        for number in _bounding_set():
            prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    checked(
        libc().capset(ctypes.c_char_p(header), ctypes.c_char_p(_NO_CAPABILITY)),
        "drop capabilities",
    )


def _bounding_set() -> range:
    global _last_capability
    if _last_capability is None:
        prctl = libc().prctl
        _last_capability = next(n for n in range(64, -1, -1) if prctl(_PR_CAPBSET_READ, n, 0, 0, 0) >= 0)
    return range(_last_capability + 1)


_last_capability: int | None = None


def show_memory() -> None:
    """Undo what a change of ids did: this process's files in /proc are its own again."""
    _prctl(_PR_SET_DUMPABLE, 1, "dumpable")


def open_pidfd(pid: int) -> int:
    """A descriptor that stands for process `pid`, readable once it ended."""
    return os.pidfd_open(pid)


def kill(pidfd: int) -> None:
    """SIGKILL the process behind `pidfd`; one that has ended already is no error."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass


def pid_of(pidfd: int) -> int:
    """The number of the process behind `pidfd` in this process's PID namespace; -1 once it was reaped."""
    descriptor = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, 512)
    finally:
        os.close(descriptor)
    return int(text.partition(b"\nPid:")[2].split(maxsplit=1)[0])


def close_descriptors(keep: tuple[int, ...]) -> None:
    """Close every descriptor but those in `keep` (close_range(2), so unlisted ones cannot be missed)."""
    first = 0
    for descriptor in sorted(keep):
        if descriptor > first:
            syscall("close_range", first, descriptor - 1, 0)
        first = descriptor + 1
    syscall("close_range", first, 0x7FFFFFFF, 0)


def _prctl(option: int, value: int, doing: str) -> None:
    checked(libc().prctl(option, value, 0, 0, 0), doing)
