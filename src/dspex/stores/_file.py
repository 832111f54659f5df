"""`file:///dir`: a directory of files that people can read, for any number of processes on one machine; durable.

    dir/journal/000000/000000000001.txt   one file for each write (`_journal`): they are all there is
    dir/index.db                          an SQLite database made of them, for finding; may be deleted at any time
    dir/lock                              writers queue here

Theory of operation. A write becomes a file beside its place, synced, renamed into it, and the directory is synced: from then
on it is acknowledged, and a reader or a power cut never sees a part of it. Then it goes into the index, which is not synced:
what the index lost in a power cut, or what a killed writer had not put there yet, is taken from the journal by whoever opens
or writes next. The index holds records and log as they are, and of chunks only where they stand in the journal, where they
are read from.

Dropped chunks are taken out of their files, which are replaced as a whole; that is the only change that a file ever sees.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import threading
from typing import TYPE_CHECKING

import msgspec

from dspex.errors import (
    IntegrityError,
    MovedError,
    StoreError,
    StoreUnavailableError,
    UnknownOutcomeError,
    UsageError,
)
from dspex.state import replace_file
from dspex.stores import _forking as forking
from dspex.stores import _journal
from dspex.stores._sqlite import SCHEMA, SqliteStore, write_chunks, write_records
from dspex.stores._store import ABSENT, Damage, Traits, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dspex.stores._store import Change, Entry

_FILES = 1000  # files of one directory
_TRAITS = Traits(
    durable_ack=True,
    linearizable=True,
    multi_key_transaction=True,
    watch_replay=True,
    max_value=None,
    max_records=None,
    shared=True,
)


class FileStore:
    """A store in a directory, made where it is not; on a local disk, for it locks with flock.

    Raises StoreUnavailableError where it cannot be made, StoreError for a directory of something else, IntegrityError
    for a damaged journal.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = pathlib.Path(path).absolute()
        self._thread = threading.RLock()
        self._turn: int | None = None
        self._opened: _Index | None = None
        forking.register(self)
        with self._failing():
            self._make()
            with self._locked():
                self._open()

    def __repr__(self) -> str:
        return f"file:///{self._path}"

    @property
    def traits(self) -> Traits:
        return _TRAITS

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        return self._index.read(keys)

    def scan(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[tuple[str, Entry]]:
        return self._index.scan(prefix, after=after, before=before, limit=limit, reverse=reverse)

    def write(self, write: Write) -> int:
        with self._failing(), self._locked():
            self._catch_up()
            _check(self._index, write)
            if not (write.has_records or write.chunks or write.drop):
                return 0
            number, newest = self._index.applied()
            number += 1
            revision = newest + 1 if write.has_records else 0
            data, entry = _journal.written(number, revision, write)
            dropped = self._index.read_chunks(write.drop) if write.drop else {}
            try:
                self._publish(number, data)
                self._index.apply(entry)
                self._rewrite(dropped)
            except (OSError, StoreError) as error:
                if not os.path.exists(self._file(number)):
                    raise
                raise UnknownOutcomeError(
                    f"{self!r}: {error}; the write stands in the journal, and may be made"
                ) from error
            return revision

    def read_chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        with self._failing():
            found = self._chunks(hashes)
            moved = [digest for digest, data in found.items() if data is None]
            if moved:  # a file was replaced since the index was read, or by somebody who was killed before it was told
                with self._locked():
                    self._look_again(moved)
                    found |= self._chunks(moved)
        return {digest: data or b"" for digest, data in found.items()}

    def _chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes | None]:
        return {digest: self._chunk(digest, place) for digest, place in self._index.read_chunks(hashes).items()}

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        return self._index.known_chunks(hashes)

    def scan_chunks(self, *, after: bytes = b"", limit: int = 1000) -> list[bytes]:
        return self._index.scan_chunks(after=after, limit=limit)

    def changes(self, since: int, *, limit: int = 1000) -> list[Change]:
        return self._index.changes(since, limit=limit)

    def wait(self, since: int, timeout: float) -> bool:
        return self._index.wait(since, timeout)

    def trim(self, before: int) -> None:
        self._index.trim(before)

    def revision(self) -> int:
        return self._index.revision()

    def damage(self) -> list[Damage]:
        found = self._index.damage()
        with self._failing(), self._locked():
            for number in range(1, self._index.applied()[0] + 1):
                damage = self._damage_of(number)
                if damage is not None:
                    found.append(damage)
        return found

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    fork_rank = 0

    def before_fork(self) -> None:
        """Wait until no thread has the turn, and let none take it."""
        self._thread.acquire()

    def after_fork(self) -> None:
        """Let threads go on."""
        self._thread.release()

    # --- the journal ------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        if self._path.is_dir() and not (self._path / "journal").is_dir() and any(self._path.iterdir()):
            raise StoreError(f"{self!r} holds something else; name an empty or a new directory")
        if not self._path.parent.is_dir():
            raise StoreUnavailableError(f"{self!r}: the directory {self._path.parent} does not exist; make it first")
        for directory in (self._path, self._path / "journal"):
            directory.mkdir(exist_ok=True)  # synced with the first write

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # A file of its own for each turn: a forked child shares what its parent has open, and so its lock.
        with self._thread:
            if self._turn is not None:  # this thread has it already
                yield
                return
            turn = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._turn = turn
            try:
                fcntl.flock(turn, fcntl.LOCK_EX)
                yield
            finally:
                self._turn = None
                os.close(turn)

    @property
    def _index(self) -> _Index:
        """The index; opened anew when another process, or a person, has replaced it, for nobody writes into the old one."""
        opened = self._opened
        if opened is None or not opened.is_at_its_place():
            with self._failing(), self._locked():
                if self._opened is None or not self._opened.is_at_its_place():
                    self._open()
                opened = self._opened
        assert opened is not None
        return opened

    def _open(self) -> None:
        """Open the index, and bring it up to the journal."""
        old, self._opened = self._opened, None
        if old is not None:
            old.close()
        index = self._open_index()
        try:
            self._opened = index
            self._catch_up()
            newest = self._newest()
            if newest > index.applied()[0]:
                path = self._file(index.applied()[0] + 1)
                raise IntegrityError(f"{path} is missing, and later ones are there; restore it from a copy", thing=path)
        except BaseException:
            self._opened = None
            index.close()
            raise

    def _newest(self) -> int:
        """The largest number of a file. On the way, what killed writers left beside their places is removed."""
        journal = self._path / "journal"
        for directory in sorted((path for path in journal.iterdir() if path.is_dir()), reverse=True):
            names = os.listdir(directory)
            for name in names:
                if name.startswith(".dspex-") and name.endswith(".tmp"):
                    (directory / name).unlink(missing_ok=True)
            numbers = [int(name[:-4]) for name in names if name.endswith(".txt") and name[:-4].isdigit()]
            if numbers:
                return max(numbers)
        return 0

    def _open_index(self) -> _Index:
        """The index, made anew where it is not of this journal."""
        path = self._path / "index.db"
        try:
            index = _Index(path)
        except StoreUnavailableError:
            raise  # a full disk, no more descriptors: the index may well be good, and others use it
        except StoreError:
            index = None  # damaged, or of another dspex: all that it has stands in the journal
        if index is not None:
            try:
                if self._fits(index):
                    return index
            except IntegrityError:
                index.close()
                raise
            except StoreError:
                pass
            index.close()
        for suffix in ("", "-wal", "-shm", "-turn"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _Index(path)

    def _fits(self, index: _Index) -> bool:
        """Whether the index is of this journal. One whose newest file is damaged is kept: it has more than the journal then."""
        applied, _ = index.applied()
        if applied == 0:
            return True
        path = self._file(applied)
        try:
            return _journal.read(_content(path), path, applied).checksum == index.checksum()
        except IntegrityError:
            return True
        except FileNotFoundError:
            raise IntegrityError(
                f"{path} is missing, and was written; restore it from a copy, or delete {self._path}/index.db to go on"
                f" with what is left",
                thing=path,
            ) from None

    def _catch_up(self) -> None:
        """Take from the journal what the index has not."""
        number = self._index.applied()[0] + 1
        while os.path.exists(path := self._file(number)):
            self._index.apply(_journal.read(_content(path), path, number))
            number += 1

    def _publish(self, number: int, data: bytes) -> None:
        path = self._file(number)
        if (
            number % _FILES <= 1
        ):  # also where the directory is there: who made it may have been killed before it was synced
            directory = os.path.dirname(path)
            os.makedirs(directory, exist_ok=True)
            _sync(os.path.dirname(directory))
        if number == 1:
            _sync(self._path)
            _sync(self._path.parent)
        replace_file(path, data)

    def _file(self, number: int) -> str:
        return f"{self._path}/journal/{number // _FILES:06d}/{number:012d}.txt"

    def _chunk(self, digest: bytes, place: bytes) -> bytes | None:
        """A chunk, None when something else stands at its place."""
        number, offset, length = _journal.location(place)
        start = offset - 65  # its hash stands before it
        try:
            with open(self._file(number), "rb") as file:
                file.seek(start)
                line = file.read(length + 65)
        except FileNotFoundError:
            return None
        if line[:64] != digest.hex().encode():
            return None
        try:
            return _journal.bytes_of(line[65:])
        except ValueError:
            return line[65:]  # damaged: its hash will tell

    def _look_again(self, hashes: Iterable[bytes]) -> None:
        """Tell the index where the chunks of some files stand now."""
        places = self._index.read_chunks(hashes).values()
        for number in {_journal.location(place).file for place in places}:
            path = self._file(number)
            with contextlib.suppress(FileNotFoundError, IntegrityError):  # then the chunk is lost, and said to be
                self._index.move(_journal.read(_content(path), path, number))

    def _rewrite(self, dropped: Mapping[bytes, bytes]) -> None:
        """Take dropped chunks out of the files that hold them: `dropped` says where they stood."""
        for number in sorted({_journal.location(place).file for place in dropped.values()}):
            path = self._file(number)
            old = _journal.read(_content(path), path, number)
            chunks = {digest: data for digest, data in old.write.chunks.items() if digest not in dropped}
            data, entry = _journal.written(number, old.revision, msgspec.structs.replace(old.write, chunks=chunks))
            replace_file(path, data)
            self._index.move(entry)

    def _damage_of(self, number: int) -> Damage | None:
        path = self._file(number)
        try:
            data = _content(path)
        except OSError as error:
            return Damage(path, f"cannot be read: {error.strerror}")
        try:
            _journal.read(data, path, number)
        except IntegrityError:
            words = [line.split(b" ", 2)[:2] for _, line in _journal.lines(data)]
            keys = tuple(
                word[1].decode("ascii", "replace") for word in words if word[0] in (b"put", b"delete") and word[1:]
            )
            chunks = tuple(word[1] for word in words if word[0] == b"chunk" and word[1:])
            return Damage(path, "its checksum differs", keys, tuple(map(_hash, chunks)))
        return None

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            raise StoreError(f"{self!r}: {error}") from error
        except OSError as error:
            raise StoreUnavailableError(f"{self!r}: {error}; nothing was changed") from error


class _Index(SqliteStore):
    """The journal's records and log, where its chunks stand, and how far it was read."""

    schema = (
        f"{SCHEMA}"
        "CREATE TABLE journal (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, revision INTEGER NOT NULL,"
        " checksum BLOB NOT NULL);"
    )

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(path, synchronous="NORMAL")
        self._place = path
        self._identity = _identity(path)

    def is_at_its_place(self) -> bool:
        """Whether the file is still the one that was opened."""
        return _identity(self._place) == self._identity

    def applied(self) -> tuple[int, int]:
        """The number of the newest file that is in here, and the newest revision."""
        rows = self.rows("SELECT number, revision FROM journal", ())
        return rows[0] if rows else (0, 0)

    def checksum(self) -> bytes:
        """That of the newest file that is in here."""
        rows = self.rows("SELECT checksum FROM journal", ())
        return rows[0][0] if rows else b""

    def apply(self, entry: _journal.Entry) -> None:
        """Take in the next file of the journal."""
        write = entry.write
        with self.writing() as connection:
            places = {digest: place.packed() for digest, place in entry.places.items()}
            write_chunks(connection, places, write.drop)
            if write.has_records:
                write_records(connection, write)
            connection.execute(
                "INSERT INTO journal VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " number = excluded.number, revision = max(revision, excluded.revision), checksum = excluded.checksum",
                (entry.number, entry.revision, entry.checksum),
            )

    def move(self, entry: _journal.Entry) -> None:
        """Take in that a file was replaced: where the rest of its chunks stand now."""
        with self.writing() as connection:
            rows = [(place.packed(), digest) for digest, place in entry.places.items()]
            connection.executemany("UPDATE chunks SET data = ? WHERE hash = ?", rows)
            connection.execute("UPDATE journal SET checksum = ? WHERE number = ?", (entry.checksum, entry.number))


def _identity(path: pathlib.Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _check(index: _Index, write: Write) -> None:
    found = index.read(write.expect)
    moved = [
        key for key, revision in write.expect.items() if (found[key].revision if key in found else ABSENT) != revision
    ]
    if moved:
        raise MovedError(moved)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _hash(word: bytes) -> bytes:
    try:
        return bytes.fromhex(word.decode("ascii", "replace"))
    except ValueError:
        return word


def _sync(directory: str | pathlib.Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
