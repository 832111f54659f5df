"""Where compiled things are kept between processes: content in, a directory or file of the user's own out.

Theory of operation. An entry is named by a hash of all that it was made from, made beside its place, and renamed into it: whoever
comes second finds it there, or finds that the rename failed because it is. Only what this user may write is in here, and only
what dspex itself made of it; nothing in it is ever run outside of a sandbox.
"""

from __future__ import annotations

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
