"""State files: replaced as a whole or not at all, and on disk before the call returns.

Theory of operation. The bytes go into a new file beside the target, that file is synced, renamed over the target, and
the directory is synced. A reader, and a machine that lost its power, see the old file or the new one, never parts; a
full disk is met before the old file is touched. What a killed writer can leave is that new file, `.dspex-*.tmp`,
which nothing reads.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import stat
from typing import Any

from dspex.errors import StateFormatError, UsageError
from dspex.state import _codec

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_FORMATS = {suffix: chosen.name for chosen in _codec.FORMATS.values() for suffix in chosen.suffixes}


def write_file(
    path: str | os.PathLike[str], state: Any, *, format: str | None = None, compression: str | None = None
) -> None:
    """Write a state to a file, atomically and durably.

    What is not said comes from the name: `.json`, `.msgpack`/`.mpk`, `.pb`/`.binpb`, `.etf`, then `.gz` or `.zst`; any
    other name means plain JSON. An existing file keeps its permissions (its owner where that is allowed), a symbolic
    link stays one and its target is replaced.

    Raises what `encode` raises, before the file is touched; OSError when it cannot be written, and it is unchanged.
    """
    named_format, named_compression = _by_name(path)
    data = _codec.encode(state, format=format or named_format, compression=compression or named_compression)
    replace_file(path, data)


def read_file(path: str | os.PathLike[str], *, max_size: int = _codec.MAX_SIZE) -> Any:
    """The state in a file; format and compression are found by its content, whatever its name.

    Raises StateFormatError naming the file as `decode` does; OSError when it cannot be read.
    """
    source = os.fsdecode(path)
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise StateFormatError("is no regular file", source=source)
        if status.st_size > max_size:
            raise StateFormatError(f"{status.st_size} bytes; max_size allows {max_size}", source=source)
        data = file.read()
    return _codec.decode(data, source=source, max_size=max_size)


def _open_at_once(path: str, flags: int) -> int:
    """A named pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Make `data` the content of a file, all or nothing, and durable when this returns. Raises OSError."""
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    old = _status(target)
    temporary = os.path.join(directory, f".dspex-{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o666 if old is None else 0o600)
    except OSError as error:  # the temporary file's name would mean nothing to anybody
        raise type(error)(error.errno, f"no file can be made in {directory}: {error.strerror}", target) from None
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _take_after(file.fileno(), old)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_directory(directory)


def _status(target: str) -> os.stat_result | None:
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{target} is no regular file; a state can replace only a file")
    return status


def _take_after(descriptor: int, old: os.stat_result | None) -> None:
    """Owner first: changing it may clear bits of the mode."""
    if old is None:
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(PermissionError):  # only root gives files away; the content is what was asked for
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _by_name(path: str | os.PathLike[str]) -> tuple[str, str]:
    name = pathlib.PurePath(path)
    compression = _COMPRESSIONS.get(name.suffix, "plain")
    if compression != "plain":
        name = name.with_suffix("")
    return _FORMATS.get(name.suffix, "json"), compression
