"""Namespaces: leave the shared ones, come back to one's own, say who is who (namespaces(7), user_namespaces(7))."""

from __future__ import annotations

import os
from typing import Final

from dspex._kernel.syscalls import checked, libc

USER: Final = 0x10000000
MOUNT: Final = 0x00020000
PID: Final = 0x20000000
NETWORK: Final = 0x40000000
IPC: Final = 0x08000000
UTS: Final = 0x04000000
CGROUP: Final = 0x02000000

# Looked up once, in the zygote: a look-up builds an object, which every guest would build again.
_UNSHARE: Final = libc().unshare
_SETNS: Final = libc().setns

_NAMES: Final = {
    USER: "user",
    MOUNT: "mount",
    PID: "pid",
    NETWORK: "network",
    IPC: "ipc",
    UTS: "uts",
    CGROUP: "cgroup",
}


def names(flags: int) -> str:
    """The kernel's words for a set of flags, as `user+mount`."""
    return "+".join(name for flag, name in _NAMES.items() if flags & flag)


def unshare(flags: int) -> None:
    """Move this process into new namespaces of the kinds in `flags` (for PID: its next child)."""
    if _UNSHARE(flags) < 0:
        checked(-1, f"unshare({names(flags)})")


def enter(descriptor: int, flag: int) -> None:
    """Enter the namespace that `descriptor` (a file of /proc/PID/ns) stands for."""
    if _SETNS(descriptor, flag) < 0:
        checked(-1, f"setns({names(flag)})")


def write_maps(uid_map: str, gid_map: str, *, pid: int | str = "self", setgroups: bool = False) -> None:
    """Write the uid and gid maps of the user namespace of `pid`.

    `setgroups` is denied unless asked for: an unprivileged writer must deny it before the gid map is accepted.
    """
    if not setgroups:
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", uid_map)
    _write(f"/proc/{pid}/gid_map", gid_map)


def sethostname(name: str) -> None:
    """Name this UTS namespace."""
    data = name.encode()
    checked(libc().sethostname(data, len(data)), "sethostname")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
