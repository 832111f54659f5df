"""Making files as another user does (setfsuid(2), setfsgid(2)): for the calling thread only, and only for a while.

A file system that was mounted in a user namespace takes no inode of a user whom that namespace does not know, which the
host's root is. So root makes files there as the one to whom their directory belongs; as a by-product they are that
user's to read, write and delete.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspex._kernel.syscalls import libc

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY_AT_ALL = -1  # an id that is never set: the call then only tells the present one


@contextmanager
def acting_as_owner(directory: int) -> Iterator[None]:
    """Make files as the owner of this open directory. `PermissionError` where this process may not."""
    owner = os.fstat(directory)
    if owner.st_uid == os.geteuid():
        yield
        return
    gid, uid = libc().setfsgid(owner.st_gid), libc().setfsuid(owner.st_uid)
    try:
        if libc().setfsuid(_NOBODY_AT_ALL) != owner.st_uid:
            raise PermissionError(f"files cannot be made as user {owner.st_uid}, whose directory it is")
        yield
    finally:
        libc().setfsuid(uid)
        libc().setfsgid(gid)
