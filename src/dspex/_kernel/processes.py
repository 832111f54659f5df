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
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
# Looked up once, in the zygote: a look-up builds an object, which every guest would build again.
_CAPSET: Final = libc().capset
_PRCTL: Final = libc().prctl
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITY_HEADER: Final = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
_NO_CAPABILITY: Final = ctypes.create_string_buffer(struct.pack("=6I", 0, 0, 0, 0, 0, 0), 24)
_CAP_SYS_CHROOT: Final = 18
_CAP_SYS_ADMIN: Final = 21


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
    """Give up every capability. With no_new_privs set there is no way back to one."""
    checked(_CAPSET(_CAPABILITY_HEADER, _NO_CAPABILITY), "drop capabilities")


def keep_capabilities_for_a_view() -> None:
    """Give up every capability but the two that entering a mount namespace takes, and let these sleep.

    They count in this process's own user namespace only, and do nothing until they are raised (capset(2)).
    """
    asleep = 1 << _CAP_SYS_CHROOT | 1 << _CAP_SYS_ADMIN
    data = ctypes.create_string_buffer(struct.pack("=6I", 0, asleep, 0, 0, 0, 0), 24)
    checked(_CAPSET(_CAPABILITY_HEADER, data), "drop capabilities")


def show_memory() -> None:
    """Undo what a change of ids did: this process's files in /proc are its own again."""
    _prctl(_PR_SET_DUMPABLE, 1, "dumpable")


def signal_descriptor(number: int) -> int:
    """A descriptor that is readable when signal `number`, which the caller has blocked, is pending (signalfd(2))."""
    mask = ctypes.create_string_buffer((1 << (number - 1)).to_bytes(8, "little"), 8)
    return syscall("signalfd4", -1, mask, 8, os.O_CLOEXEC)


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
    checked(_PRCTL(option, value, 0, 0, 0), doing)
