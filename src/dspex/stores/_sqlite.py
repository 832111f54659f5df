"""`sqlite:///file`: the default. One file, no server, any number of processes on one machine; durable (synchronous=FULL).

Theory of operation. The database is in WAL mode: readers never wait for writers. A write begins with BEGIN IMMEDIATE, so what
it expects is checked under the lock that it writes with. SQLite's own waiting for that lock is unfair (of eight processes
one may stand still for seconds), so writers queue on a file lock beside the database first. A store has two connections, one to
write and one to read, each under its own lock; both are closed before a fork (`_forking`). While nobody writes, reads
go by the writing connection, for its cache still holds what was just written.

Records stand in a tree of their keys, without rowids: a small one is one page to write. Large values would make that tree deep
and its pages split at every other write, so they stand in a table of their own, `bodies`, and are removed by triggers.
In format 1 all stood in the tree; such a store is brought forward when it is opened, in one transaction, and an older dspex
refuses it from then on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

from dspex.errors import CompactedError, MovedError, StoreError, StoreUnavailableError, UsageError
from dspex.stores import _forking as forking
from dspex.stores._store import ABSENT, Change, Damage, Entry, Traits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from dspex.stores._store import Write

APPLICATION_ID = 0x64737078  # 'dspx', in the file's header: tells our files from others
FORMAT = 2
_BUSY = 30.0  # seconds to wait for a lock that another process holds
_MADE = b"a store of dspex was made\n"  # what the file of turns says from then on
_STEP = 0.02  # seconds between two looks at the revision, while waiting for changes
_MANY = 500  # parameters of one statement

_RECORDS = """
CREATE TABLE records (key TEXT PRIMARY KEY, value BLOB, body INTEGER, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE bodies (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TRIGGER replaced AFTER UPDATE ON records WHEN old.body IS NOT NULL BEGIN DELETE FROM bodies WHERE id = old.body; END;
CREATE TRIGGER deleted AFTER DELETE ON records WHEN old.body IS NOT NULL BEGIN DELETE FROM bodies WHERE id = old.body; END;
"""
SCHEMA = f"""{_RECORDS}
CREATE TABLE chunks (hash BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE log (revision INTEGER PRIMARY KEY, note BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""
# What format 1 had in the tree of keys stays there until it is put again.
_FROM_1 = f"""
ALTER TABLE records RENAME TO former;
{_RECORDS}
INSERT INTO records SELECT key, value, NULL, revision FROM former ORDER BY key;
DROP TABLE former;
PRAGMA user_version = 2;
"""
_PUT = (
    "INSERT INTO records VALUES (?, ?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, body = excluded.body, revision = excluded.revision"
)
_REVISION = "SELECT key, revision FROM records WHERE key = ?"
_INSIDE = 800  # bytes of a value that stand in the tree of keys: of a row there, SQLite keeps about 1,000 in its page
# A body that is not there is a value that is damaged: whoever reads it finds that.
_ENTRY = "key, coalesce(value, (SELECT data FROM bodies WHERE id = body), x''), revision"
_TRAITS = Traits(
    durable_ack=True,
    linearizable=True,
    multi_key_transaction=True,
    watch_replay=True,
    max_value=None,
    max_records=None,
    shared=True,
)


class SqliteStore:
    """A store in one SQLite file, made where it is not.

    `synchronous` is SQLite's: FULL, the default, makes every acknowledged write durable against power loss; NORMAL may
    lose the last of them then, not after kill -9.

    Raises StoreError for a file that is no store, or of a newer dspex; StoreUnavailableError where it cannot be opened.
    """

    schema = SCHEMA
    fork_rank = 1

    def __init__(self, path: str | os.PathLike[str], *, synchronous: str = "FULL") -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise UsageError(f"synchronous must be 'FULL' or 'NORMAL', not {synchronous!r}")
        self._path = pathlib.Path(path).absolute()
        self._synchronous = synchronous
        self._opening = threading.Lock()
        self._opened: _Connections | None = None
        forking.register(self)
        self._connections()

    @property
    def traits(self) -> Traits:
        return _TRAITS

    def __repr__(self) -> str:
        return _url(self._path)

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        wanted = tuple(keys)
        rows = self.rows(f"SELECT {_ENTRY} FROM records WHERE key IN ({_marks(wanted)})", wanted)
        return {key: Entry(value, revision) for key, value, revision in rows}

    def scan(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[tuple[str, Entry]]:
        low = ("key > ?", after) if after >= prefix else ("key >= ?", prefix)
        high = min(filter(None, (before, prefix + "\x7f")))
        rows = self.rows(
            f"SELECT {_ENTRY} FROM records WHERE {low[0]} AND key < ?"
            f" ORDER BY key {'DESC' if reverse else 'ASC'} LIMIT ?",
            (low[1], high, limit),
        )
        return [(key, Entry(value, revision)) for key, value, revision in rows]

    def write(self, write: Write) -> int:
        with self.writing() as connection:
            _check(connection, write)
            write_chunks(connection, write.chunks, write.drop)
            return write_records(connection, write) if write.has_records else 0

    def read_chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        return dict(self._of_chunks("hash, data", hashes))

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        return {row[0] for row in self._of_chunks("hash", hashes)}

    def _of_chunks(self, columns: str, hashes: Iterable[bytes]) -> list[Any]:
        wanted = tuple(hashes)
        if len(wanted) <= _MANY:
            return self.rows(f"SELECT {columns} FROM chunks WHERE hash IN ({_marks(wanted)})", wanted)
        found: list[Any] = []
        for start in range(0, len(wanted), _MANY):
            some = wanted[start : start + _MANY]
            found += self.rows(f"SELECT {columns} FROM chunks WHERE hash IN ({_marks(some)})", some)
        return found

    def scan_chunks(self, *, after: bytes = b"", limit: int = 1000) -> list[bytes]:
        rows = self.rows("SELECT hash FROM chunks WHERE hash > ? ORDER BY hash LIMIT ?", (after, limit))
        return [row[0] for row in rows]

    def changes(self, since: int, *, limit: int = 1000) -> list[Change]:
        # The notes first: what is trimmed between the two is found missing by the second.
        rows = self.rows("SELECT revision, note FROM log WHERE revision > ? ORDER BY revision LIMIT ?", (since, limit))
        oldest = self.rows("SELECT min(revision) FROM log", ())[0][0]
        trimmed = oldest - 1 if oldest else 0
        if since < trimmed:
            raise CompactedError(since, trimmed)
        return [Change(*row) for row in rows]

    def wait(self, since: int, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.revision() <= since:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_STEP, left))
        return True

    def trim(self, before: int) -> None:
        with self.writing() as connection:
            # The newest stays, for the next revision is counted from it.
            connection.execute(
                "DELETE FROM log WHERE revision <= ? AND revision < (SELECT max(revision) FROM log)", (before,)
            )

    def revision(self) -> int:
        newest: int | None = self.rows("SELECT max(revision) FROM log", ())[0][0]
        return newest or 0

    def damage(self) -> list[Damage]:
        try:
            found = self.rows("PRAGMA integrity_check(20)", ())
        except StoreError as error:
            return [Damage(repr(self), str(error))]
        return [Damage(repr(self), cause) for (cause,) in found if cause != "ok"]

    def close(self) -> None:
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def before_fork(self) -> None:
        """Close everything, once no thread uses it; see `_forking`."""
        self._opening.acquire()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def after_fork(self) -> None:
        """Let threads open it again."""
        self._opening.release()

    def rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        """The rows of a query: by the writing connection where nobody writes, else by the other."""
        while True:
            connections = self._opened or self._connections()
            idle = connections.writing.acquire(blocking=False)
            lock = connections.writing if idle else connections.reading
            if not idle:
                lock.acquire()
            try:
                if not connections.closed:
                    return (connections.writer if idle else connections.reader).execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise _store_error(self, error) from error
            finally:
                lock.release()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes: committed at the end, rolled back by an error."""
        while True:
            connections = self._connections()
            with connections.writing:
                if connections.closed:
                    continue
                with connections.turn():
                    yield from self._transaction(connections.writer)
                    return

    def _transaction(self, writer: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        try:
            writer.execute("BEGIN IMMEDIATE")
            yield writer
            writer.execute("COMMIT")
        except BaseException as error:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _store_error(self, error) from error
            raise

    def _connections(self) -> _Connections:
        opened = self._opened
        if opened is not None:
            return opened
        with self._opening:
            if self._opened is None:
                try:
                    self._opened = _Connections(self._path, self._synchronous, self.schema)
                except (sqlite3.Error, OSError) as error:
                    raise _store_error(self, error) from error
            return self._opened


class _Connections:
    """What one process has open."""

    def __init__(self, path: pathlib.Path, synchronous: str, schema: str) -> None:
        if not path.parent.is_dir():
            raise StoreUnavailableError(f"{_url(path)}: the directory {path.parent} does not exist; make it first")
        self.closed = False
        self.reading, self.writing = threading.Lock(), threading.Lock()
        self.turns = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.ExitStack() as undoing:
            undoing.callback(os.close, self.turns)
            with self.turn():
                self._check_not_emptied(path)
                self.writer = undoing.enter_context(contextlib.closing(_connect(path, synchronous)))
                _prepare(self.writer, path, schema)
                if not os.fstat(self.turns).st_size:
                    os.pwrite(self.turns, _MADE, 0)
            self.reader = _connect(path, synchronous)
            undoing.pop_all()

    def _check_not_emptied(self, path: pathlib.Path) -> None:
        """SQLite takes an empty file for a new one. The file beside it tells that it was a store: its saves would be gone."""
        if os.fstat(self.turns).st_size and path.exists() and not path.stat().st_size:
            raise StoreError(
                f"{_url(path)} is empty, and was a store; restore it from a copy, or delete it to begin anew"
            )

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        fcntl.flock(self.turns, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.turns, fcntl.LOCK_UN)

    def close(self) -> None:
        with self.reading, self.writing:
            self.closed = True
            self.reader.close()
            self.writer.close()
            os.close(self.turns)


def _url(path: pathlib.Path) -> str:
    return f"sqlite:///{path}"


def _connect(path: pathlib.Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


def _prepare(connection: sqlite3.Connection, path: pathlib.Path, schema: str) -> None:
    """Make the tables of a new file, bring an older one forward; refuse one of somebody else, or of a newer dspex."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StoreError(f"{_url(path)} is an SQLite database, but no store of dspex; name another file")
    if version > FORMAT:
        raise StoreError(
            f"{_url(path)} has format {version}, made by a newer dspex; this one reads up to {FORMAT}: upgrade dspex"
        )
    if not tables:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")
    elif version == 1:
        connection.executescript(f"BEGIN IMMEDIATE; {_FROM_1} COMMIT;")


def _check(connection: sqlite3.Connection, write: Write) -> None:
    expected = write.expect
    keys = list(expected)
    found: dict[str, int] = {}
    for start in range(0, len(keys), _MANY):
        some = keys[start : start + _MANY]
        # Not `key IN (...)`: for that SQLite makes a table of the keys first, which takes three times as long.
        found |= connection.execute(" UNION ALL ".join([_REVISION] * len(some)), some).fetchall()
    moved = [key for key, revision in expected.items() if found.get(key, ABSENT) != revision]
    if moved:
        raise MovedError(moved)


def write_chunks(connection: sqlite3.Connection, chunks: Mapping[bytes, bytes], drop: Collection[bytes]) -> None:
    """Put and remove rows of chunks."""
    connection.executemany("INSERT OR IGNORE INTO chunks VALUES (?, ?)", chunks.items())
    if drop:
        connection.executemany("DELETE FROM chunks WHERE hash = ?", ((digest,) for digest in drop))


def write_records(connection: sqlite3.Connection, write: Write) -> int:
    """Put and remove rows of records, and leave the note; its revision."""
    revision = connection.execute("INSERT INTO log (note) VALUES (?)", (write.note,)).lastrowid
    connection.executemany(_PUT, [(key, *_placed(connection, value), revision) for key, value in write.put.items()])
    if write.delete:
        connection.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in write.delete))
    return revision or 0


def _placed(connection: sqlite3.Connection, value: bytes) -> tuple[bytes | None, int | None]:
    """A value, or the row that it was put in."""
    if len(value) <= _INSIDE:
        return value, None
    return None, connection.execute("INSERT INTO bodies (data) VALUES (?)", (value,)).lastrowid


def _marks(values: Any) -> str:
    return ",".join("?" * len(values))


def _store_error(store: SqliteStore, error: Exception) -> Exception:
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return StoreError(f"{store!r}: {error}; `dspex state verify` tells what is affected")
    if isinstance(error, OSError):
        return StoreUnavailableError(f"{store!r}: {error.strerror}; is the directory writable?")
    return StoreUnavailableError(f"{store!r}: {error}; nothing was changed")
