"""`Programs`: what was compiled, kept by content in a directory of this user's, for this process and others.

Theory of operation. An entry is named by a hash of all that it was made from, written beside its place and renamed into it.
Before its bytes stands their checksum: what is cut short, or was changed by accident, is not there. The host never runs an
entry, guests never see the directory: the bytes of one program are handed to the guest that shall become it. When there is too
much, what was used longest ago goes. The few that were used last are in memory, too.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections import OrderedDict
from typing import Final

_MOST: Final = 1 << 30  # bytes of a directory
_AT_HAND: Final = 1 << 26  # bytes in memory
_SHARE: Final = 64  # of what a directory may hold, one part may be kept before somebody looks how much there is
_SUM: Final = 32


class Programs:
    """A directory of programs. Safe to share between threads; other processes may have the same one."""

    def __init__(self, directory: str, most: int = _MOST) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.chmod(directory, 0o700)
        self._directory = directory
        self._most = most
        self._unseen = 0  # bytes that were kept since the directory was looked through
        self._lock = threading.Lock()
        self._hand: OrderedDict[str, bytes] = OrderedDict()

    def find(self, name: str) -> bytes | None:
        """The program of this name, if there is one, whole."""
        with self._lock:
            if name in self._hand:
                self._hand.move_to_end(name)
                return self._hand[name]
        path = os.path.join(self._directory, name)
        try:
            with open(path, "rb") as file:
                data = file.read()
            os.utime(path)
        except FileNotFoundError:
            return None
        program = data[_SUM:]
        if hashlib.sha256(program).digest() != data[:_SUM]:
            return None
        self._take(name, program)
        return program

    def keep(self, name: str, program: bytes, *, shared: bool = True) -> None:
        """Keep it: in memory, and if it is `shared` in the directory. On a full disk it is not, and is compiled again."""
        self._take(name, program)
        if not shared:
            return
        path = os.path.join(self._directory, name)
        made = f"{path}.{secrets.token_hex(4)}"
        try:
            with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(hashlib.sha256(program).digest() + program)
            os.rename(made, path)
        except OSError:
            _forget(made)
        self._unseen += len(program)
        if self._unseen > self._most // _SHARE:
            self._unseen = 0
            self._shrink()

    def _take(self, name: str, program: bytes) -> None:
        with self._lock:
            self._hand[name] = program
            while len(self._hand) > 1 and sum(map(len, self._hand.values())) > _AT_HAND:
                self._hand.popitem(last=False)

    def _shrink(self) -> None:
        entries: list[tuple[float, int, str]] = []
        for entry in os.scandir(self._directory):
            try:
                found = entry.stat()
            except FileNotFoundError:  # another process was faster
                continue
            entries.append((found.st_mtime, found.st_size, entry.path))
        size = sum(length for _, length, _ in entries)
        for _, length, path in sorted(entries):
            if size <= self._most:
                return
            size -= length
            _forget(path)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # another process was faster
