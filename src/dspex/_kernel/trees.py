"""Remove a directory that a hostile program has filled.

Theory of operation. `shutil.rmtree` descends by recursion, a frame and a descriptor for each level, and gives up where it
may not look: a program that nests a thousand directories ends the process that removes them, and one that makes a
directory without the right to read it leaves it behind. Here the tree is made flat instead: a directory that lies in
another is renamed into the top one, under a name that nobody could have taken, so that no path is ever longer than two names,
and each is emptied once. Whoever removes is the owner, so every mode can be mended; a link is never followed.
"""

from __future__ import annotations

import os
import stat
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(directory: str) -> None:
    """Remove `directory` and all beneath it, as far as it goes; what has gone already is no error. Raises nothing."""
    try:
        top = _open(directory, None)
    except OSError:
        return
    try:
        while names := os.listdir(top):
            removed = [_remove_one(name, top) for name in names]
            if not any(removed):
                break  # nothing gave way: it is another's, or the file system is read-only
    except OSError:
        pass
    finally:
        os.close(top)
    try:
        os.rmdir(directory)
    except OSError:
        pass


def _remove_one(name: str, top: int) -> bool:
    """Remove a file or an empty directory, or empty a full one into `top`; False when neither could be done."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=top)
            return True
        below = _open(name, top)
    except OSError:
        return False
    try:
        for inner in os.listdir(below):
            _lift(inner, below, top)
        os.rmdir(name, dir_fd=top)
    except OSError:
        return False
    finally:
        os.close(below)
    return True


def _lift(name: str, below: int, top: int) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=below, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=below)
        return
    os.close(_open(name, below))  # a directory must be writable to be moved
    os.rename(name, os.urandom(16).hex(), src_dir_fd=below, dst_dir_fd=top)


def _open(name: str, parent: int | None) -> int:
    """The directory, opened, its mode mended first. By a descriptor, for a name could be made a link meanwhile."""
    place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(place).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{place}", stat.S_IRWXU)
        return os.open(".", _DIRECTORY, dir_fd=place)
    finally:
        os.close(place)
