"""Files of a guest's working directory: what the caller puts there before a run, what the program leaves there.

Theory of operation. The host holds a descriptor of the directory, which came with the guest's hello and keeps the guest's
tmpfs alive beyond its end. Contents never cross the channel: the host writes and reads the files themselves.

What lies there is the program's, and hostile. No symbolic link is ever followed, for each part of a name is opened on
its own, relative to its parent's descriptor; only regular files are read; number, depth and bytes are bounded; no name
that a program chose is ever used to write on the host.

A file has changed when its inode, size or time of modification has. Inputs are dated into the past, so that the clock's
coarse tick hides no change to them. A file that was written within a tick of the look is not trusted to be seen unchanged: the
next call of a session reports it again rather than missing a change.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, final

from dspex._kernel.ownership import acting_as_owner
from dspex.errors import UsageError

if TYPE_CHECKING:
    from dspex._sandbox.process import Guest

_MOST: Final = 1000  # files, in and out
_ENTRIES: Final = 20_000  # names looked at in one survey
_DEPTH: Final = 32  # directories within directories
_EAGER: Final = 1 << 20  # bytes that a result holds itself rather than a descriptor
_TICK: Final = 20_000_000  # nanoseconds within which a file system may give two writes one time
_CHUNK: Final = 1 << 22
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


# --- In ------------------------------------------------------------------------------------------------------------


class Input(NamedTuple):
    """One file to put into the working directory: its name there, and its content or where that lies."""

    parts: tuple[str, ...]
    content: memoryview | str

    @property
    def name(self) -> str:
        """As the caller gave it."""
        return "/".join(self.parts)


def checked(files: object, limit: int) -> tuple[Input, ...]:
    """The files of a call, checked against the limit of bytes. Raises `UsageError`, which names the file."""
    if files is None:
        return ()
    if not isinstance(files, Mapping):
        raise UsageError(f"files is a {type(files).__name__}; it must be a mapping of names to paths or bytes")
    if len(files) > _MOST:
        raise UsageError(f"files has {len(files):,} entries; at most {_MOST:,} are taken")
    inputs = tuple(Input(_parts(name), _content(name, given)) for name, given in files.items())
    size = sum(map(_size, inputs))
    if size > limit:
        raise UsageError(f"files take {size:,} bytes; limits.disk allows {limit:,}")
    return inputs


def _parts(name: object) -> tuple[str, ...]:
    parts = tuple(name.split("/")) if isinstance(name, str) else ()
    if not parts or len(parts) > _DEPTH or any(p in ("", ".", "..") or "\0" in p for p in parts):
        raise UsageError(f"files has the name {name!r:.200}; it must be a relative path without '..', as 'data/a.csv'")
    return parts


def _content(name: str, given: object) -> memoryview | str:
    if isinstance(given, (bytes, bytearray, memoryview)):
        return memoryview(given).cast("B")
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(f"files[{name!r}] is a {type(given).__name__}; it must be a path of the host, or bytes")
    return str(os.fspath(given))


def _size(entry: Input) -> int:
    if not isinstance(entry.content, str):
        return entry.content.nbytes
    source = _source(entry)
    try:
        return os.fstat(source).st_size
    finally:
        os.close(source)


def _source(entry: Input) -> int:
    """The host's file, open; only a regular one, for anything else may block or never end."""
    try:
        source = os.open(str(entry.content), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"files[{entry.name!r}]: {entry.content}: {reason}") from None
    if not stat.S_ISREG(os.fstat(source).st_mode):
        os.close(source)
        raise UsageError(f"files[{entry.name!r}]: {entry.content} is no regular file")
    return source


def place(guest: Guest, inputs: tuple[Input, ...]) -> None:
    """Write the inputs into the guest's working directory, over files that have their names. Raises `UsageError`."""
    for entry in inputs:
        source = _source(entry) if isinstance(entry.content, str) else -1
        try:
            with acting_as_owner(guest.work):
                guest.seen[entry.name] = _place(guest.work, entry, source)
        except OSError as error:
            _explain(entry, error)
        finally:
            if source >= 0:
                os.close(source)


async def aplace(guest: Guest, inputs: tuple[Input, ...]) -> None:
    """`place` for event loops: large contents are written by a thread, which is waited for whatever happens."""
    if sum(map(_size, inputs)) <= _EAGER:
        place(guest, inputs)
        return
    import asyncio

    writing = asyncio.ensure_future(asyncio.to_thread(place, guest, inputs))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})  # it writes through a descriptor that is closed after this
        raise


def _explain(entry: Input, error: OSError) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise UsageError(f"files[{entry.name!r}]: no room is left under limits.disk") from None
    raise UsageError(f"files[{entry.name!r}] cannot be put into the working directory: {error.strerror}") from None


def _place(work: int, entry: Input, source: int) -> Mark:
    directory = _descend(work, entry.parts[:-1], make=True)
    try:
        _remove_file(directory, entry.parts[-1])
        target = os.open(entry.parts[-1], _NEW, 0o600, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        _fill(target, entry.content, source)
        # A whole second of the past: whatever the program does to the file gives it another time.
        written = min(os.fstat(source).st_mtime_ns if source >= 0 else time.time_ns(), time.time_ns() - 10**9)
        written -= written % 10**9
        os.utime(target, ns=(written, written))
        return Mark.of(os.fstat(target))
    finally:
        os.close(target)


def _remove_file(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _fill(target: int, content: memoryview | str, source: int) -> None:
    if isinstance(content, str):
        left = os.fstat(source).st_size
        while left and (sent := os.sendfile(target, source, None, left)):
            left -= sent
        return
    while content:
        content = content[os.write(target, content) :]


# --- Out -----------------------------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """What tells one state of a file from another."""

    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Mark:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@final
class ResultFile:
    """One file that a program left in its working directory. Its `name` is the program's choice: trust it no further."""

    __slots__ = ("_content", "_mark", "_place", "name", "size")

    def __init__(self, name: str, mark: Mark, place: _Place | None, content: bytes | None) -> None:
        self.name = name
        self.size = mark.size if content is None else len(content)
        self._mark = mark
        self._place = place
        self._content = content

    def read_bytes(self) -> bytes:
        """The content. Raises `UsageError` when it has been changed or removed since the run that left it."""
        if self._content is None:
            assert self._place is not None  # one of both is there
            self._content = self._place.read(self.name, self._mark)
            self._place = None
        return self._content

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The content as text. Raises as `read_bytes` does, and `UnicodeDecodeError`."""
        return self.read_bytes().decode(encoding, errors)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the content to just this path of the host, whatever the file's own name is."""
        content = self.read_bytes()
        with open(path, "wb") as file:
            file.write(content)

    def __repr__(self) -> str:
        return f"ResultFile({self.name!r}, {self.size:,} bytes)"


@final
class Files(Mapping[str, ResultFile]):
    """Files by name, relative to the working directory, in order of their names.

    `complete` is False when the program left more than is shown: more than 1,000 files or 20,000 names, directories more than
    32 deep, files that cannot be opened.
    """

    __slots__ = ("_files", "complete")

    def __init__(self, files: Iterable[ResultFile] = (), *, complete: bool = True) -> None:
        self._files = {file.name: file for file in files}
        self.complete = complete

    def __getitem__(self, name: str) -> ResultFile:
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"Files({list(self._files.values())!r})"


NONE: Final = Files()


def changed(guest: Guest, limit: int) -> Files:
    """The files that are new or have changed since the guest's directory was last looked at; `limit` is that of the disk."""
    if not guest.seen and _is_empty(guest):
        return NONE
    survey = _Survey(guest.work, limit)
    found = {name: mark for name, mark in survey.found.items() if guest.seen.get(name) != mark}
    recent = time.time_ns() - _TICK
    guest.seen = {name: mark for name, mark in survey.found.items() if mark.modified < recent}
    return _taken(guest, found, survey.complete, limit)


def _is_empty(guest: Guest) -> bool:
    """True for a working directory without entries; it is listed only if it has changed since it was found so."""
    changed = os.fstat(guest.work).st_mtime_ns
    if changed == guest.emptied:
        return True
    if os.listdir(guest.work):
        return False
    if changed < time.time_ns() - _TICK:  # else another change may come to bear the same time
        guest.emptied = changed
    return True


def remember(guest: Guest, limit: int) -> None:
    """Take what lies in the guest's directory now as known: it is a copy, and this is what it began with."""
    guest.seen = _Survey(guest.work, limit).found if os.listdir(guest.work) else {}


def present(guest: Guest, limit: int) -> Files:
    """All files that lie in the guest's directory now."""
    survey = _Survey(guest.work, limit)
    return _taken(guest, survey.found, survey.complete, limit)


def _taken(guest: Guest, found: dict[str, Mark], complete: bool, limit: int) -> Files:
    """Small contents at once; large ones when they are asked for, except where the directory goes with the guest."""
    if not found:
        return NONE if complete else Files(complete=False)
    bound = limit if guest.directory else _EAGER
    if not guest.directory and sum(mark.size for mark in found.values()) > bound:
        place = _Place(guest.work)
        return Files((ResultFile(n, found[n], place, None) for n in sorted(found)), complete=complete)
    files = []
    for name in sorted(found):
        try:
            content = _read(guest.work, name, min(found[name].size, bound))
        except OSError:  # unreadable, gone, or no file any more
            complete = False
            continue
        bound -= len(content)
        complete = complete and len(content) == found[name].size
        if len(content) == found[name].size:
            files.append(ResultFile(name, found[name], None, content))
    return Files(files, complete=complete)


class _Survey:
    """The regular files beneath a directory, within bounds: `found`, and whether that is `complete`."""

    def __init__(self, work: int, limit: int) -> None:
        self.found: dict[str, Mark] = {}
        self.complete = True
        self._limit = limit
        self._left = _ENTRIES
        self._look(work, "", _DEPTH)

    def _look(self, directory: int, prefix: str, depth: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                self._left -= 1
                if self._left < 0 or len(self.found) >= _MOST:
                    self.complete = False
                    return
                try:
                    self._note(directory, entry, prefix, depth)
                except OSError:  # it went away meanwhile, or may not be entered
                    self.complete = False

    def _note(self, directory: int, entry: os.DirEntry[str], prefix: str, depth: int) -> None:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            if status.st_size <= self._limit:
                self.found[prefix + entry.name] = Mark.of(status)
            else:
                self.complete = False
        elif stat.S_ISDIR(status.st_mode):
            if depth == 0:
                self.complete = False
                return
            inner = os.open(entry.name, _DIRECTORY, dir_fd=directory)
            try:
                self._look(inner, f"{prefix}{entry.name}/", depth - 1)
            finally:
                os.close(inner)


class _Place:
    """A working directory kept open for the files that are still unread, and closed with the last of them."""

    __slots__ = ("_work",)

    def __init__(self, work: int) -> None:
        self._work = os.dup(work)

    def read(self, name: str, mark: Mark) -> bytes:
        try:
            content = _read(self._work, name, mark.size, mark)
        except OSError as error:
            raise UsageError(f"the file {name!r} cannot be read any more: {error.strerror or error}") from None
        return content

    def __del__(self) -> None:
        if hasattr(self, "_work"):
            os.close(self._work)


def _read(work: int, name: str, most: int, expected: Mark | None = None) -> bytes:
    """At most `most` bytes of a regular file; `OSError` for anything else, or where another one than expected lies."""
    *parents, last = name.split("/")
    directory = _descend(work, tuple(parents), make=False)
    try:
        file = os.open(last, _OLD, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or (expected is not None and Mark.of(status) != expected):
            raise OSError(errno.ESTALE, "it has been changed since the run that left it")
        return _read_out(file, most)
    finally:
        os.close(file)


def _read_out(file: int, most: int) -> bytes:
    chunks = []
    while most and (chunk := os.read(file, min(most, _CHUNK))):
        chunks.append(chunk)
        most -= len(chunk)
    return b"".join(chunks)


def _descend(work: int, parts: tuple[str, ...], *, make: bool) -> int:
    """The directory so many steps below, open; those that are missing are made on request."""
    here = os.dup(work)
    for part in parts:
        above = here
        try:
            if make:
                _make(part, above)
            here = os.open(part, _DIRECTORY, dir_fd=above)
        finally:
            os.close(above)
    return here


def _make(name: str, above: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=above)
    except FileExistsError:
        pass
