"""`postgresql://user@host:port/database?schema=dspex`: tables in a schema of a PostgreSQL server, for programs on many machines.

Theory of operation. A write is one transaction. It first takes an advisory lock that belongs to the schema and ends with the
transaction, so that writes stand in one order: what a write expects is checked under the lock that it writes with, and a
revision is never seen before a smaller one (numbers of a sequence would be: they are given out before the commit, and a reader
that goes on from the largest misses those that commit late). Writes of chunks alone, which expect nothing, take no lock.
NOTIFY only wakes who waits; what happened is read from the log, so a notice that is lost costs a second, and no change.

What can be told of a failure: before COMMIT was sent nothing was changed, whatever broke. From then on, until the answer, the
outcome is unknown. A connection that was found dead, or a deadlock, before that point is tried again.

Durability is the server's to give: fsync and synchronous_commit are asked of it, and `traits` say what they are. A session
keeps the synchronous_commit that it began with, so a reload of the server's settings changes nothing behind our back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dspex.errors import CompactedError, MovedError, StoreError, StoreUnavailableError, UnknownOutcomeError, UsageError
from dspex.stores._store import ABSENT, Change, Damage, Entry, Traits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dspex.stores._store import Write

FORMAT = 1
_BUSY = 30  # seconds to wait for the lock that another writer holds, or for a connection of our own
_STALLED = 60  # seconds after which the server ends a writer that stands still within its transaction
_LOOK = 1.0  # seconds between two looks at the revision while waiting, should a notice be lost
_CONNECTIONS = 5
_ATTEMPTS = 3
_LONGEST_NAME = 63  # bytes; the server cuts longer names off, and two of them would be one
_AGAIN = ("40001", "40P01")  # serialization_failure, deadlock_detected: the server took the transaction back

_TRAITS = Traits(
    durable_ack=True,
    linearizable=True,
    multi_key_transaction=True,
    watch_replay=True,
    max_value=2**28,  # a message has at most 2**30 bytes, and bytes are read back as hexadecimal digits
    max_records=None,
    shared=True,
)
_Result = TypeVar("_Result")


class PostgresStore:
    """A store in one schema of a PostgreSQL database, made where it is not.

    `url` is SQLAlchemy's: what stands behind the question mark goes to libpq (`sslmode=verify-full`), but for `schema`.

    Raises UsageError for a URL that cannot be; StoreUnavailableError for a server that does not let us in, or is a
    read-only standby; StoreError for a schema that holds something else, or a store of a newer dspex.
    """

    def __init__(self, url: str) -> None:
        self._url, self._schema = _parsed(url)
        self._opening = threading.Lock()
        self._opened: _Connections | None = None
        self._inherited: list[_Connections] = []  # a parent's: never used nor closed, so never let go of
        self._connections()

    @property
    def traits(self) -> Traits:
        return dataclasses.replace(_TRAITS, durable_ack=self._connections().durable)

    def __repr__(self) -> str:
        url = self._url.set(drivername="postgresql", query={"schema": self._schema})
        shown: str = url.render_as_string(hide_password=True)
        return shown

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        rows = self._rows(lambda sql: sql.read, keys=list(keys))
        return {key: Entry(value, revision) for key, value, revision in rows}

    def scan(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[tuple[str, Entry]]:
        high = min(filter(None, (before, prefix + "\x7f")))
        rows = self._rows(lambda sql: sql.scan(prefix, after, high, limit=limit, reverse=reverse))
        return [(key, Entry(value, revision)) for key, value, revision in rows]

    def write(self, write: Write) -> int:
        return self._try(lambda: self._write(write))

    def _write(self, write: Write) -> int:
        opened = self._connections()
        with opened.writing.connect() as connection:
            transaction = connection.begin()
            revision = _change(connection, opened.sql, write)
            try:
                transaction.commit()
            except DBAPIError as error:
                if _state(error) in _AGAIN:
                    raise
                raise UnknownOutcomeError(
                    f"{self!r}: {_text(error)}; the write was sent and its answer lost: read what became of it"
                ) from error
        return revision

    def read_chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        return dict(self._rows(lambda sql: sql.read_chunks, hashes=list(hashes)))

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        return {row[0] for row in self._rows(lambda sql: sql.known_chunks, hashes=list(hashes))}

    def scan_chunks(self, *, after: bytes = b"", limit: int = 1000) -> list[bytes]:
        return [row[0] for row in self._rows(lambda sql: sql.scan_chunks, after=after, limit=limit)]

    def changes(self, since: int, *, limit: int = 1000) -> list[Change]:
        rows = self._rows(lambda sql: sql.changes, since=since, limit=limit)
        trimmed = self._rows(lambda sql: sql.trimmed)[0][0]  # read after the log: what was trimmed in between shows
        if since < trimmed:
            raise CompactedError(since, trimmed)
        return [Change(*row) for row in rows]

    def wait(self, since: int, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if self.revision() > since:
            return True
        with self._listening() as listener:
            while self.revision() <= since:  # asked again after LISTEN: nothing comes in between unseen
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                for _ in listener.notifies(timeout=min(left, _LOOK), stop_after=1):
                    pass
        return True

    def trim(self, before: int) -> None:
        self._try(lambda: self._trim(before))

    def _trim(self, before: int) -> None:
        opened = self._connections()
        with opened.writing.begin() as connection:
            connection.execute(opened.sql.lock)
            upto = min(before, connection.execute(opened.sql.newest).scalar_one())
            connection.execute(opened.sql.mark_trimmed, {"upto": upto})
            connection.execute(opened.sql.trim, {"upto": upto})

    def revision(self) -> int:
        newest: int = self._rows(lambda sql: sql.newest)[0][0]
        return newest

    def damage(self) -> list[Damage]:
        """What the server cannot read: it tells a flipped bit where it was set up with data checksums."""
        found = (self._damage_of(name) for name in self._connections().sql.whole)
        return [damage for damage in found if damage is not None]

    def _damage_of(self, table: str) -> Damage | None:
        try:
            self._rows(lambda sql: sql.whole[table])
        except StoreUnavailableError:
            raise
        except StoreError as error:
            return Damage(f"table {self._schema}.{table}", str(error))
        return None

    def close(self) -> None:
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None and opened.process == os.getpid():
            opened.close()
        elif opened is not None:
            self._inherited.append(opened)

    def _rows(self, statement: Callable[[_Sql], Any], **values: Any) -> list[Any]:
        """What one statement reads: all of it is as of one moment."""

        def rows() -> list[Any]:
            opened = self._connections()
            with opened.reading.connect() as connection:
                return list(connection.execute(statement(opened.sql), values))

        return self._try(rows)

    def _try(self, act: Callable[[], _Result]) -> _Result:
        """Do what may be done again as long as it raises errors of the database, and raise ours."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return act()
            except DBAPIError as error:
                if attempt == _ATTEMPTS or not (error.connection_invalidated or _state(error) in _AGAIN):
                    raise _store_error(self, error) from error
            except SQLAlchemyError as error:
                raise _store_error(self, error) from error
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def _listening(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of its own that is told of writes."""
        opened = self._connections()
        try:
            with opened.listening.connect() as connection:
                connection.execute(opened.sql.listen)
                listener: Any = connection.connection.driver_connection
                try:
                    yield listener
                except psycopg.Error:
                    connection.invalidate()
                    raise
                connection.execute(opened.sql.unlisten)
        except (SQLAlchemyError, psycopg.Error) as error:
            raise _store_error(self, error) from error

    def _connections(self) -> _Connections:
        opened = self._opened
        if opened is not None and opened.process == os.getpid():
            return opened
        with self._opening:
            if self._opened is None or self._opened.process != os.getpid():
                self._inherited += [self._opened] if self._opened else []
                try:
                    self._opened = _Connections(self._url, self._schema, repr(self))
                except SQLAlchemyError as error:
                    raise _store_error(self, error) from error
            return self._opened


class _Connections:
    """What one process has open: a small pool to write, one to read, and connections that listen."""

    def __init__(self, url: sa.URL, schema: str, name: str) -> None:
        self.process = os.getpid()
        self.sql = _Sql(schema)
        self.durable = True
        self._name = name
        given = {"application_name": "dspex", "connect_timeout": "10"}
        # A server that vanished without a word is noticed in minutes, not hours.
        given |= {"tcp_user_timeout": str(_BUSY * 1000), "keepalives_idle": str(_BUSY)}
        url = url.update_query_dict({key: value for key, value in given.items() if key not in url.query})
        bounds: Any = {"pool_size": _CONNECTIONS, "max_overflow": 0, "pool_timeout": _BUSY}
        self.writing = sa.create_engine(url, isolation_level="READ COMMITTED", **bounds)
        self.reading = sa.create_engine(url, isolation_level="AUTOCOMMIT", **bounds)  # one statement, one round trip
        self.listening = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=-1)
        for engine in (self.writing, self.reading):
            sa.event.listen(engine, "connect", self._greet)
        try:
            with self.writing.begin() as connection:
                self.sql.prepare(connection, name)
        except BaseException:
            self.close()
            raise

    def _greet(self, connection: psycopg.Connection[Any], _: object) -> None:
        """Ask a new session of the server what it promises, and tell it how long we wait."""
        version, standby, flushes, commits, *_ = connection.execute(
            "SELECT version(), pg_is_in_recovery(), current_setting('fsync'),"
            " set_config('synchronous_commit', current_setting('synchronous_commit'), false),"
            " set_config('lock_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false)",
            (f"{_BUSY}s", f"{_STALLED}s"),
        ).fetchone() or ("", True, "", "")
        connection.commit()
        if standby or not version.startswith("PostgreSQL "):
            connection.close()
        if not version.startswith("PostgreSQL "):  # others that speak its protocol take its locks and lock nothing
            raise StoreError(
                f"{self._name} is {version.split(' (')[0]}, no PostgreSQL; a store needs its advisory locks"
            )
        if standby:
            raise StoreUnavailableError(f"{self._name} is a read-only standby; name the primary server")
        self.durable = self.durable and flushes == "on" and commits != "off"

    def close(self) -> None:
        for engine in (self.writing, self.reading, self.listening):
            engine.dispose()


class _Sql:
    """The tables of one schema, and the statements on them."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        number = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:8], "big", signed=True)
        channel = f"dspex_{number & (2**64 - 1):016x}"
        self._tables(schema)
        self.lock = sa.select(sa.func.pg_advisory_xact_lock(sa.literal(number, sa.BigInteger)))
        self.listen, self.unlisten = sa.text(f"LISTEN {channel}"), sa.text(f"UNLISTEN {channel}")
        self._of_records()
        self._of_chunks()
        self._of_log(channel)
        columns = (self.records.c.value, self.chunks.c.data, self.log.c.note)
        self.whole = {column.table.name: sa.select(sa.func.max(sa.func.md5(column))) for column in columns}

    def _tables(self, schema: str) -> None:
        self.metadata = data = sa.MetaData(schema=schema)
        self.about = sa.Table(
            "dspex",
            data,
            sa.Column("format", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("trimmed", sa.BigInteger, nullable=False),
        )
        self.records = sa.Table(
            "records",
            data,
            sa.Column("key", sa.Text(collation="C"), primary_key=True),  # bytewise, whatever the database's rules
            sa.Column("value", sa.LargeBinary, nullable=False),
            sa.Column("revision", sa.BigInteger, nullable=False),
        )
        self.chunks = sa.Table(
            "chunks",
            data,
            sa.Column("hash", sa.LargeBinary, primary_key=True),
            sa.Column("data", sa.LargeBinary, nullable=False),
        )
        self.log = sa.Table(
            "log",
            data,
            sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("note", sa.LargeBinary, nullable=False),
        )

    def _of_records(self) -> None:
        columns, put = self.records.c, insert(self.records)
        among = columns.key == sa.any_(sa.bindparam("keys", type_=ARRAY(sa.Text)))
        self.read = sa.select(columns.key, columns.value, columns.revision).where(among)
        self.revisions = sa.select(columns.key, columns.revision).where(among)
        self.delete = sa.delete(self.records).where(among)
        self.put = put.on_conflict_do_update(
            index_elements=[columns.key], set_={"value": put.excluded.value, "revision": put.excluded.revision}
        )

    def scan(self, prefix: str, after: str, high: str, *, limit: int, reverse: bool) -> sa.Select[Any]:
        columns = self.records.c
        low = columns.key > after if after >= prefix else columns.key >= prefix
        order = columns.key.desc() if reverse else columns.key.asc()
        found = sa.select(columns.key, columns.value, columns.revision).where(low, columns.key < high)
        return found.order_by(order).limit(limit)

    def _of_chunks(self) -> None:
        columns = self.chunks.c
        among = columns.hash == sa.any_(sa.bindparam("hashes", type_=ARRAY(sa.LargeBinary)))
        self.read_chunks = sa.select(columns.hash, columns.data).where(among)
        self.known_chunks = sa.select(columns.hash).where(among)
        self.drop_chunks = sa.delete(self.chunks).where(among)
        self.put_chunks = insert(self.chunks).on_conflict_do_nothing()
        beyond = columns.hash > sa.bindparam("after", type_=sa.LargeBinary)
        self.scan_chunks = sa.select(columns.hash).where(beyond).order_by(columns.hash).limit(sa.bindparam("limit"))

    def _of_log(self, channel: str) -> None:
        columns = self.log.c
        self.trimmed = sa.select(self.about.c.trimmed)
        last = sa.func.coalesce(sa.select(sa.func.max(columns.revision)).scalar_subquery(), 0)
        newest = sa.func.greatest(last, self.trimmed.scalar_subquery(), type_=sa.BigInteger)
        self.newest = sa.select(newest)
        following = sa.select(newest + 1, sa.bindparam("note", type_=sa.LargeBinary))
        self.append = (
            sa.insert(self.log)
            .from_select(["revision", "note"], following)
            .returning(columns.revision, sa.func.pg_notify(channel, ""))
        )
        beyond = columns.revision > sa.bindparam("since", type_=sa.BigInteger)
        page = sa.select(columns.revision, columns.note).where(beyond)
        self.changes = page.order_by(columns.revision).limit(sa.bindparam("limit"))
        upto = sa.bindparam("upto", type_=sa.BigInteger)
        self.trim = sa.delete(self.log).where(columns.revision <= upto)
        self.mark_trimmed = sa.update(self.about).values(trimmed=sa.func.greatest(self.about.c.trimmed, upto))

    def prepare(self, connection: sa.Connection, name: str) -> None:
        """Make the tables of a new schema; refuse one of somebody else, or of a newer dspex."""
        connection.execute(self.lock)
        inspector = sa.inspect(connection)
        tables = inspector.get_table_names(self.schema)
        if not tables:
            if self.schema not in inspector.get_schema_names():
                connection.execute(sa.schema.CreateSchema(self.schema))
            self.metadata.create_all(connection, checkfirst=False)
            connection.execute(sa.insert(self.about).values(format=FORMAT, trimmed=0))
        elif self.about.name not in tables:
            raise StoreError(
                f"{name}: the schema {self.schema!r} has tables, but is no store of dspex; name another: ?schema=..."
            )
        else:
            _check_format(name, connection.execute(sa.select(self.about.c.format)).scalar_one())


def _check_format(name: str, version: int) -> None:
    if version > FORMAT:
        raise StoreError(
            f"{name} has format {version}, made by a newer dspex; this one reads up to {FORMAT}: upgrade dspex"
        )


def _change(connection: sa.Connection, sql: _Sql, write: Write) -> int:
    """Make the change within a transaction, and give its revision."""
    if write.has_records or write.expect or write.drop:
        connection.execute(sql.lock)
    if write.expect:
        _check(connection, sql, write)
    if write.chunks:
        rows = [{"hash": digest, "data": data} for digest, data in sorted(write.chunks.items())]  # sorted: no deadlock
        connection.execute(sql.put_chunks, rows)
    if write.drop:
        connection.execute(sql.drop_chunks, {"hashes": sorted(write.drop)})
    return _write_records(connection, sql, write) if write.has_records else 0


def _check(connection: sa.Connection, sql: _Sql, write: Write) -> None:
    rows = connection.execute(sql.revisions, {"keys": list(write.expect)})
    found: dict[str, int] = {row.key: row.revision for row in rows}
    moved = [key for key, revision in write.expect.items() if found.get(key, ABSENT) != revision]
    if moved:
        raise MovedError(moved)


def _write_records(connection: sa.Connection, sql: _Sql, write: Write) -> int:
    revision: int = connection.execute(sql.append, {"note": write.note}).scalar_one()
    if write.put:
        rows = [{"key": key, "value": value, "revision": revision} for key, value in write.put.items()]
        connection.execute(sql.put, rows)
    if write.delete:
        connection.execute(sql.delete, {"keys": list(write.delete)})
    return revision


def _parsed(text: str) -> tuple[sa.URL, str]:
    """The URL for the driver, and the name of the schema."""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "this is no URL of a PostgreSQL store; one looks like postgresql://user:password@host:5432/database?schema=dspex"
        ) from error
    schema = url.query.get("schema", "dspex")
    if not isinstance(schema, str) or not 0 < len(schema.encode()) <= _LONGEST_NAME:
        raise UsageError(f"schema must be one name of 1 to {_LONGEST_NAME} bytes, not {schema!r}")
    return url.set(drivername="postgresql+psycopg").difference_update_query(["schema"]), schema


def _state(error: BaseException) -> str:
    """The server's five letters for what happened; empty where the connection broke."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def _text(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip().split("\n", maxsplit=1)[0]


def _store_error(store: PostgresStore, error: Exception) -> StoreError:
    if isinstance(error, PoolTimeoutError):
        return StoreUnavailableError(
            f"{store!r}: all {_CONNECTIONS} connections were in use for {_BUSY} s; nothing was changed"
        )
    if isinstance(error, (OperationalError, psycopg.OperationalError)) or getattr(
        error, "connection_invalidated", False
    ):
        return StoreUnavailableError(f"{store!r}: {_text(error)}; nothing was changed")
    return StoreError(f"{store!r}: {_text(error)}; nothing was changed")
