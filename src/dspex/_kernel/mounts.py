"""Mounts: binds, tmpfs, proc, and the change of root (mount(2), mount_setattr(2), pivot_root(2))."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from dspex._kernel.syscalls import checked, libc, syscall

NOSUID: Final = 0x2
NODEV: Final = 0x4
NOEXEC: Final = 0x8
_READ_ONLY: Final = 0x1
_REMOUNT: Final = 0x20
_BIND: Final = 0x1000
_RECURSIVE: Final = 0x4000
_PRIVATE: Final = 0x40000
_DETACH: Final = 0x2

# Looked up once, in the zygote: a look-up builds an object, which every guest would build again.
_MOUNT: Final = libc().mount

_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_ATTR_READ_ONLY: Final = 0x1
_ATTR_NOSUID: Final = 0x2
_ATTR_NODEV: Final = 0x4


def make_private() -> None:
    """Stop every mount of this namespace from passing events to the namespace that it was copied from."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE, None)


def bind(source: str, target: str, *, writable: bool = False, device: bool = False) -> None:
    """Show `source` (a file or a tree) at `target`, read-only unless `writable`."""
    _mount(source, target, None, _BIND | _RECURSIVE, None)
    attributes = _ATTR_NOSUID | (0 if device else _ATTR_NODEV) | (0 if writable else _ATTR_READ_ONLY)
    _set_attributes(target, attributes)


def tmpfs(target: str, *, size: int | None = None, inodes: int | None = None, noexec: bool = False) -> None:
    """Mount an empty memory file system of at most `size` bytes and `inodes` files."""
    options = ["mode=755"]
    if size is not None:
        options.append(f"size={size}")
    if inodes is not None:
        options.append(f"nr_inodes={inodes}")
    _mount("tmpfs", target, "tmpfs", NOSUID | NODEV | (NOEXEC if noexec else 0), ",".join(options))


def proc(target: str, *, own_only: bool = False) -> None:
    """Mount the /proc of this process's own PID namespace; `own_only` hides what its reader could not trace."""
    _mount("proc", target, "proc", NOSUID | NODEV | NOEXEC, "hidepid=ptraceable" if own_only else None)


def unmount(target: str) -> None:
    """Take the mount at `target` out of sight; whoever has something of it open keeps that (umount2(2), lazily)."""
    checked(libc().umount2(target.encode(), _DETACH), f"unmount {target}")


def read_only(target: str) -> None:
    """Make one mount read-only, not those below it."""
    _set_attributes(target, _ATTR_READ_ONLY, recursive=False)


def change_root(new_root: str) -> None:
    """Make `new_root` (a mount point) the root and let go of the old one; the working directory becomes `/`.

    pivot_root(".", ".") stacks the old root on the new one, so no directory is needed to hold it (pivot_root(2)).
    """
    os.chdir(new_root)
    syscall("pivot_root", ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))
    checked(libc().umount2(b".", _DETACH), "unmount the old root")
    os.chdir("/")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    result = _MOUNT(_bytes(source), target.encode(), _bytes(kind), ctypes.c_ulong(flags), _bytes(data))
    if result < 0:
        checked(-1, f"mount {kind or source or ''} at {target}")


def _set_attributes(target: str, attributes: int, *, recursive: bool = True) -> None:
    # mount_setattr only adds flags, so those that a user namespace has locked (nosuid and the like) stay;
    # a classic remount would have to repeat every one of them or be refused.
    argument = struct.pack("=QQQQ", attributes, 0, 0, 0)
    try:
        syscall(
            "mount_setattr",
            _AT_FDCWD,
            ctypes.c_char_p(target.encode()),
            _AT_RECURSIVE if recursive else 0,
            ctypes.c_char_p(argument),
            len(argument),
        )
    except OSError as error:
        raise OSError(error.errno, f"make {target} read-only: {os.strerror(error.errno or 0)}") from error


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
