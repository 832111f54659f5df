"""Where compiled things are kept between processes: content in, a directory or file of the user's own out.

Theory of operation. An entry is named by a hash of all that it was made from, made beside its place, and renamed into it: whoever
comes second finds it there, or finds that the rename failed because it is. Only what this user may write is in here, and only
what dspex itself made of it; nothing in it is ever run outside of a sandbox.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def root() -> str:
    """`$XDG_CACHE_HOME/dspex`, or ~/.cache/dspex, made if missing; a directory of this process alone where that cannot be."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = os.path.join(os.path.abspath(base), "dspex")
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
        if os.access(path, os.W_OK):
            return path
    except OSError:
        pass
    return _own()


_mine: list[str] = []


def _own() -> str:
    if not _mine:
        import atexit

        path = tempfile.mkdtemp(prefix="dspex-cache-")
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        _mine.append(path)
    return _mine[0]


def key(parts: Iterable[bytes | str]) -> str:
    """A name for what is made from these."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:40]


def directory(kind: str, name: str, make: Callable[[str], None]) -> str:
    """The directory of this name, which `make` fills where it is not there yet. What `make` raises is raised."""
    home = os.path.join(root(), kind)
    path = os.path.join(home, name)
    if os.path.isdir(path):
        return path
    os.makedirs(home, mode=0o755, exist_ok=True)
    made = tempfile.mkdtemp(prefix=".making-", dir=home)
    try:
        make(made)
        os.chmod(made, 0o755)
        os.rename(made, path)
    except OSError:
        if not os.path.isdir(path):  # else somebody was faster
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return path


def held(kind: str, name: str, make: Callable[[str], None], most: int) -> tuple[str, int]:
    """As `directory`, where all of the kind together take about `most` bytes; it stays there while the descriptor is open."""
    while True:
        path = directory(kind, name, make)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # it was removed in between
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _lies_at(descriptor, path):
            os.utime(descriptor)
            _shrink(os.path.dirname(path), most)
            return path, descriptor
        os.close(descriptor)


def _lies_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _shrink(home: str, most: int) -> None:
    entries = [
        (entry.stat().st_mtime, _size(entry.path), entry.path) for entry in os.scandir(home) if entry.name[0] != "."
    ]
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= most:
            return
        total -= size if _removed(path) else 0


def _size(path: str) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(path))
    except FileNotFoundError:  # somebody removes it
        return 0


def _removed(path: str) -> bool:
    """Remove an entry, unless somebody has it in use."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
