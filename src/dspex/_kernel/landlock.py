"""What a process may do with files, TCP and other processes, decided by itself for good (Landlock,
landlock(7)).

Theory of operation
-------------------
A ruleset *handles* kinds of access: each kind that it handles is refused everywhere, except beneath the
directories (or on the files) for which a rule gives it back. `restrict` lays the ruleset on the calling
thread and all its future children; further rulesets can only take more away. It needs no privilege but
no_new_privs.

The kernel judges a path by walking from the file up to the root, and grants what the rules on the way add up
to. Two consequences for a tree with mounts:

- A rule belongs to an inode, not to a name. The walk crosses from the root of a mount straight to the parent
  of its mount point, and never looks at the directory that the mount covers. So a rule on `/a` holds for
  what is mounted on `/a/b` later; a rule put on `/a/b` before the mount holds for nothing that can be
  reached.
- A rule on a bind mount's source holds at its target too, since both are one inode.

A kind that the running kernel does not know cannot be handled, so the walls depend on its ABI: `layers` names
them. All kinds known up to ABI 7 are handled; the scopes have no exceptions here, TCP those of ports to connect to.

A file has fewer kinds of access than a directory, and the kernel refuses a rule that gives a file those of a
directory; what a rule asks for is cut to what its object can have. Devices and sockets in the file system are
never granted: nothing here makes one, renames across directories included where they need the right (ABI 2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import Final

from dspex._kernel.syscalls import NUMBERS, checked, libc, syscall

_SYSCALL: Final = libc().syscall
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_PORT: Final = 2

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_CHAR: Final = 1 << 6
_MAKE_DIR: Final = 1 << 7
_MAKE_REG: Final = 1 << 8
_MAKE_SOCK: Final = 1 << 9
_MAKE_FIFO: Final = 1 << 10
_MAKE_BLOCK: Final = 1 << 11
_MAKE_SYM: Final = 1 << 12
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15

_READ: Final = _READ_FILE | _READ_DIR
_CHANGE: Final = (
    _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_FIFO | _MAKE_SYM | _REFER
)
_OF_A_FILE: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_CONNECT: Final = 0b10
_TCP: Final = 0b01 | _CONNECT  # bind, connect
_SCOPES: Final = 0b11  # abstract unix sockets, signals

_LAYERS: Final = (
    (1, "files"),
    (2, "links and renames"),
    (3, "truncation"),
    (4, "tcp"),
    (5, "device commands"),
    (6, "abstract sockets"),
    (6, "signals"),
)


def abi() -> int:
    """The version of Landlock that this kernel offers; 0 when it has none, or has it switched off or filtered."""
    try:
        return syscall("landlock_create_ruleset", None, 0, _VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def layers(abi: int) -> tuple[str, ...]:
    """The names of the walls that a ruleset gives at this ABI."""
    return tuple(name for needed, name in _LAYERS if abi >= needed)


class Ruleset:
    """Rules in the making; closes its descriptor at the end of a `with` block."""

    def __init__(self, descriptor: int, handled: int, *, tcp: bool) -> None:
        self._descriptor = descriptor
        self._handled = handled
        self._tcp = tcp
        # Ready before the fork: what a child builds after it costs page faults.
        self._restrict = _restrict_call(descriptor)

    @classmethod
    def create(cls, version: int | None = None) -> Ruleset:
        """A ruleset that handles all that ABI `version` knows (default: the kernel's own) and allows nothing
        yet.

        `OSError` (ENOSYS) when the kernel has no Landlock.
        """
        version = abi() if version is None else version
        if version < 1:
            raise OSError(errno.ENOSYS, "landlock: not offered by this kernel (CONFIG_SECURITY_LANDLOCK, lsm=)")
        handled = _handled_files(version)
        attributes = _attributes(version, handled)
        descriptor = syscall("landlock_create_ruleset", ctypes.c_char_p(attributes), len(attributes), 0)
        return cls(descriptor, handled, tcp=version >= 4)

    def allow_read(self, target: int | str | os.PathLike[str]) -> None:
        """Give back reading and listing of `target` (a path or an open descriptor) and all beneath it."""
        self._allow(target, _READ)

    def allow_read_execute(self, target: int | str | os.PathLike[str]) -> None:
        """Give back reading, listing and executing."""
        self._allow(target, _READ | _EXECUTE)

    def allow_write(self, target: int | str | os.PathLike[str]) -> None:
        """Give back reading, and every change but the making of sockets and devices."""
        self._allow(target, _READ | _CHANGE)

    def allow_connect(self, port: int) -> None:
        """Give back connecting to a TCP port, of whatever address. Nothing to do where TCP is not handled (ABI 3)."""
        if self._tcp:
            rule = struct.pack("=QQ", _CONNECT, port)
            syscall("landlock_add_rule", self._descriptor, _PORT, ctypes.c_char_p(rule), 0)

    def restrict(self) -> None:
        """Put the calling thread under these rules for good; no_new_privs must be set."""
        checked(_SYSCALL(*self._restrict), "landlock_restrict_self")

    def close(self) -> None:
        """Let go of the ruleset; what it restricts stays restricted."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._restrict = _restrict_call(-1)

    def __enter__(self) -> Ruleset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _allow(self, target: int | str | os.PathLike[str], access: int) -> None:
        if isinstance(target, int):
            self._add_rule(target, access)
            return
        descriptor = os.open(target, os.O_PATH | os.O_CLOEXEC)
        try:
            self._add_rule(descriptor, access)
        finally:
            os.close(descriptor)

    def _add_rule(self, descriptor: int, access: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_A_FILE
        rule = struct.pack("=Qi", access & self._handled, descriptor)
        syscall("landlock_add_rule", self._descriptor, _PATH_BENEATH, ctypes.c_char_p(rule), 0)


def _restrict_call(descriptor: int) -> tuple[ctypes.c_long, ...]:
    return tuple(map(ctypes.c_long, (NUMBERS["landlock_restrict_self"], descriptor, 0)))


def _handled_files(version: int) -> int:
    known = (1 << 13) - 1
    for needed, access in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        known |= access if version >= needed else 0
    return known


def _attributes(version: int, handled: int) -> bytes:
    # struct landlock_ruleset_attr as long as this version knows it.
    words = [handled]
    if version >= 4:
        words.append(_TCP)
    if version >= 6:
        words.append(_SCOPES)
    return struct.pack(f"={len(words)}Q", *words)
