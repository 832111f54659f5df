"""Remove or copy a directory that a hostile program has filled.

Theory of operation of `remove`. `shutil.rmtree` descends by recursion, a frame and a descriptor for each level, and gives up
where it may not look: a program that nests a thousand directories ends the process that removes them, and one that makes a
directory without the right to read it leaves it behind. Here the tree is made flat instead: a directory that lies in
another is renamed into the top one, under a name that nobody could have taken, so that no path is ever longer than two names,
and each is emptied once. Whoever removes is the owner, so every mode can be mended; a link is never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

# What an entry that went, or was replaced by another kind, or appeared twice while its directory was read, is answered by.
_GONE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EEXIST))
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


def copy(source: int, target: int, levels: int) -> None:
    """Copy what lies in the directory `source` into the empty directory `target`; both are descriptors.

    Files, directories and links with their modes and times, holes as holes; a hard link becomes a file of its own, and what a
    guest cannot make (FIFOs, devices) is left out, as is what goes while it is copied. No link is followed.

    `TooDeepError` for directories more than `levels` deep; `OSError` when the target is full.
    """
    if levels == 0:
        raise TooDeepError("directories are nested too deeply to be copied")
    for name in os.listdir(source):
        try:
            found = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                _copy_directory(name, source, target, found, levels)
            elif stat.S_ISREG(found.st_mode):
                _copy_file(name, source, target, found)
            elif stat.S_ISLNK(found.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        except OSError as error:
            if error.errno not in _GONE:
                raise


class TooDeepError(OSError):
    """Directories are nested more deeply than a copy descends."""


def _copy_directory(name: str, source: int, target: int, found: os.stat_result, levels: int) -> None:
    below = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        os.mkdir(name, 0o700, dir_fd=target)
        new = os.open(name, _DIRECTORY, dir_fd=target)
        try:
            copy(below, new, levels - 1)
            _like(new, found)
        finally:
            os.close(new)
    finally:
        os.close(below)


def _copy_file(name: str, source: int, target: int, found: os.stat_result) -> None:
    # Not blocking: by now the name may be a FIFO's, on which nobody writes.
    old = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            os.ftruncate(new, found.st_size)
            _copy_data(old, new, found.st_size)
            _like(new, found)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _copy_data(old: int, new: int, size: int) -> None:
    end = 0
    while end < size:
        try:
            start = os.lseek(old, end, os.SEEK_DATA)
            end = min(os.lseek(old, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows, or it was cut off meanwhile
                return
            raise
        os.lseek(new, start, os.SEEK_SET)
        while start < end:
            sent = os.sendfile(new, old, start, end - start)
            if not sent:  # it was cut off meanwhile
                return
            start += sent


def _like(descriptor: int, found: os.stat_result) -> None:
    os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
    os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
