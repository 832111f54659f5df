"""The store in PostgreSQL, against a real server."""

import os
import signal
import sys
import threading
import time

import psycopg
import pytest

import servers
from dspex.errors import StoreError, StoreUnavailableError, UnknownOutcomeError, UsageError
from dspex.stores import ABSENT, Write, open_store
from dspex.testing import StoreSuite
from dspex.testing._stores import chunk
from outages import count_through, every_change


def url_of(server, schema="dspex", *, password=servers.PASSWORD, database="postgres"):
    return f"postgresql://dspex:{password}@{server.address}/{database}?schema={schema}"


def ask(server, *statements):
    """The rows of the last statement that has some, as the superuser."""
    url = f"postgresql://dspex:{servers.PASSWORD}@{server.address}/postgres"
    rows = []
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
            rows = cursor.fetchall() if cursor.description else rows
    return rows


def until_locked(server, *, granted):
    """Wait until a writer has the lock, or waits for it."""
    deadline = time.monotonic() + 30
    while not ask(server, f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted = {granted}"):
        assert time.monotonic() < deadline, "nobody waits for the lock of writers"


@pytest.fixture
def own(tmp_path):
    """A server that may be killed."""
    server = servers.postgres(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def opened():
    """Opens stores, and closes them at the end."""
    stores = []

    def opened(url):
        stores.append(open_store(url))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


class TestPostgres(StoreSuite):
    """It passes the suite."""

    @pytest.fixture
    def url(self, postgres, name):
        return url_of(postgres, name)


def test_a_killed_server_loses_nothing_that_was_acknowledged(own, opened):
    """While the server is killed and comes back, writers have clear errors, and go on without being opened again."""
    store = opened(url_of(own))
    assert store.traits.durable_ack
    counted = count_through(store, [own.restart] * 4)
    assert counted.unavailable + counted.unknown > 0
    counted.check(store)


def test_an_answer_to_commit_that_is_lost_is_an_unknown_outcome(own, opened):
    """A write whose COMMIT was sent is not said to have failed when the server dies: here it was made."""
    store = opened(url_of(own))
    ask(own, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    raised = []

    def write():
        try:
            store.write(Write(put={"k": b"v"}))
        except StoreError as error:
            raised.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    deadline = time.monotonic() + 60
    while not ask(own, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'dspex'"):
        assert time.monotonic() < deadline
    own.restart()
    thread.join()
    assert [type(error) for error in raised] == [UnknownOutcomeError]
    assert store.read(["k"])["k"].value == b"v"


def test_a_connection_that_the_server_closed_is_replaced(postgres, name, opened):
    """Connections that were closed while idle are no error of the next read, write or wait."""
    store = opened(url_of(postgres, name))
    since = store.write(Write(put={"k": b"1"}))
    assert store.wait(since, 0.01) is False
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dspex'"
    ask(postgres, terminate)
    assert store.read(["k"])["k"].value == b"1"
    ask(postgres, terminate)
    assert store.write(Write(put={"k": b"2"})) > since
    ask(postgres, terminate)
    assert store.wait(since, 0.01) is True


def test_a_wait_whose_server_goes_is_an_error(own, opened):
    """Who waits is told that the server went, and may wait again when it is back."""
    store = opened(url_of(own))
    outage = threading.Timer(0.3, own.kill)
    outage.start()
    with pytest.raises(StoreUnavailableError):
        store.wait(0, 60)
    outage.join()
    own.start()
    assert store.wait(0, 0.01) is False


def test_a_reader_of_the_log_misses_no_late_commit(postgres, name, opened):
    """One who reads on from the newest revision that it saw has every note, while many write at once."""
    store, reader = opened(url_of(postgres, name)), opened(url_of(postgres, name))
    seen, over = [], threading.Event()

    def follow():
        while not over.is_set() or reader.revision() > (seen[-1].revision if seen else 0):
            seen.extend(reader.changes(seen[-1].revision if seen else 0, limit=7))

    def write(writer):
        for i in range(60):
            store.write(Write(put={f"{writer}/{i}": b"x"}, note=b"%d/%d" % (writer, i)))

    following = threading.Thread(target=follow)
    writing = [threading.Thread(target=write, args=(writer,)) for writer in range(5)]
    for thread in (following, *writing):
        thread.start()
    for thread in writing:
        thread.join()
    over.set()
    following.join()
    assert len(seen) == 300
    assert seen == every_change(store)


def test_nothing_is_visible_before_a_smaller_revision(postgres, name, opened):
    """A write that stands still within its transaction holds up the next, which has the larger revision."""
    store = opened(url_of(postgres, name))
    store.write(Write(put={"k": b"0"}, note=b"0"))
    with psycopg.connect(url_of(postgres).partition("?")[0]) as slow:
        slow.execute(f"INSERT INTO {name}.records VALUES ('late', '', 1)")
        writer = threading.Thread(target=lambda: store.write(Write(put={"late": b"1"}, note=b"1")))
        writer.start()
        until_locked(postgres, granted=True)
        second = threading.Thread(target=lambda: store.write(Write(put={"other": b"2"}, note=b"2")))
        second.start()
        until_locked(postgres, granted=False)
        assert [change.note for change in store.changes(0)] == [b"0"]
        slow.rollback()
        writer.join()
        second.join()
    assert [change.note for change in store.changes(0)] == [b"0", b"1", b"2"]


def test_a_large_chunk_is_read_back(postgres, name, opened):
    """8 MB of any bytes are a chunk."""
    store, data = opened(url_of(postgres, name)), chunk(os.urandom(8_000_000))
    store.write(Write(put={"k": b"v"}, chunks=data))
    assert store.read_chunks(data) == data


def test_schemas_are_apart(postgres, name, opened):
    """Two schemas of one database share no record, chunk, revision or log."""
    one, other = opened(url_of(postgres, name)), opened(url_of(postgres, f"{name}/2 \"'"))
    one.write(Write(expect={"k": ABSENT}, put={"k": b"one"}, chunks=chunk(b"one"), note=b"one"))
    assert other.revision() == 0
    assert other.scan("") == [] == other.changes(0) == other.scan_chunks()
    other.write(Write(expect={"k": ABSENT}, put={"k": b"other"}))
    assert one.read(["k"])["k"].value == b"one"


@pytest.mark.parametrize("setting", ["fsync=off", "synchronous_commit=off"])
def test_a_server_that_does_not_sync_is_not_said_to_be_durable(tmp_path, opened, setting):
    """`durable_ack` is what the server's settings say."""
    server = servers.postgres(tmp_path, setting)
    try:
        assert opened(url_of(server)).traits.durable_ack is False
    finally:
        server.kill()


@pytest.mark.parametrize("table", ["records", "chunks", "log"])
def test_a_flipped_bit_in_a_table_is_damage(own, opened, table):
    """With data checksums, the server finds a flipped bit; the table is named."""
    store = opened(url_of(own))
    store.write(Write(put={"k": b"v"}, chunks=chunk(b"data"), note=b"n"))
    assert store.damage() == []
    [(path,)] = ask(own, f"SELECT pg_relation_filepath('dspex.{table}')")
    own.stop()
    with (own.directory / "data" / path).open("r+b") as file:
        file.seek(8000)
        byte = file.read(1)
        file.seek(8000)
        file.write(bytes([byte[0] ^ 1]))
    own.start()
    [damage] = store.damage()
    assert damage.place == f"table dspex.{table}"
    assert "invalid page" in damage.cause


def test_a_standby_is_refused(own):
    """A server that only follows another one, and so may be behind, is no store."""
    own.stop()
    (own.directory / "data" / "standby.signal").touch()
    own.start()
    with pytest.raises(StoreUnavailableError, match="read-only standby; name the primary"):
        open_store(url_of(own))


def test_a_wrong_password_is_told_without_it(postgres):
    """Who may not log in is told so; the password is in no message."""
    with pytest.raises(StoreUnavailableError, match="password authentication failed") as caught:
        open_store(url_of(postgres, password="wrong-horse"))
    assert "wrong-horse" not in str(caught.value)


def test_no_server_and_no_database_are_told():
    """A port that nobody listens on is a store that cannot be reached."""
    with pytest.raises(StoreUnavailableError, match="Connection refused"):
        open_store(f"postgresql://dspex@127.0.0.1:{servers.free_port()}/postgres")


def test_a_database_that_is_not_there_is_named(postgres):
    """So is a database that does not exist."""
    with pytest.raises(StoreUnavailableError, match='database "nothing" does not exist'):
        open_store(url_of(postgres, database="nothing"))


def test_another_kind_of_server_is_told(plain_redis):
    """A server that does not speak PostgreSQL is a store that cannot be reached."""
    with pytest.raises(StoreUnavailableError):
        open_store(url_of(plain_redis) + "&connect_timeout=2")


def test_a_server_that_only_speaks_the_protocol_is_refused(postgres, name):
    """A server of another make, whose advisory locks may lock nothing, is named and refused."""
    ask(
        postgres,
        f"CREATE SCHEMA {name}",
        f"CREATE FUNCTION {name}.version() RETURNS text LANGUAGE sql AS $$ SELECT 'OtherDB v1 (x86)' $$",
        f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'p'",
        f"ALTER ROLE {name} SET search_path = {name}, pg_catalog",
    )
    with pytest.raises(StoreError, match="is OtherDB v1, no PostgreSQL"):
        open_store(f"postgresql://{name}:p@{postgres.address}/postgres")


def test_a_schema_of_somebody_else_is_refused(postgres, name):
    """Tables that are not ours are let be."""
    ask(postgres, f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.records (mine int)")
    with pytest.raises(StoreError, match="is no store of dspex; name another"):
        open_store(url_of(postgres, name))
    assert ask(postgres, f"SELECT count(*) FROM pg_tables WHERE schemaname = '{name}'") == [(1,)]


def test_a_newer_format_is_refused(postgres, name, opened):
    """A store that a newer dspex made is not written to."""
    opened(url_of(postgres, name))
    ask(postgres, f"UPDATE {name}.dspex SET format = 99")
    with pytest.raises(StoreError, match="format 99, made by a newer dspex"):
        open_store(url_of(postgres, name))


def test_an_account_without_rights_is_told(postgres, name):
    """Who may not make tables is told so by the server's own words."""
    ask(postgres, f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    with pytest.raises(StoreError, match="permission denied"):
        open_store(f"postgresql://{name}:p@{postgres.address}/postgres")


@pytest.mark.parametrize("url", ["postgresql://h:port/d", "postgresql://h/d?schema=" + 64 * "x"])
def test_urls_that_cannot_be_are_refused(url):
    """A port that is no number, and names that the server would cut off, are errors of the caller."""
    with pytest.raises(UsageError):
        open_store(url)


def test_the_library_that_is_missing_is_named(monkeypatch):
    """Without its library, the store tells what to install."""
    monkeypatch.delitem(sys.modules, "dspex.stores._postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"needs psycopg; install it with: pip install 'dspex\[postgresql\]'"):
        open_store("postgresql://host/database")


def test_a_server_that_stands_still_is_given_up(own, opened):
    """A server that answers no more does not hold a reader for ever: it is ended here by the server's own end."""
    store = opened(url_of(own))
    os.kill(own.pid, signal.SIGSTOP)
    with pytest.raises(StoreUnavailableError, match="timeout expired"):
        open_store(url_of(own) + "&connect_timeout=2")
    os.kill(own.pid, signal.SIGCONT)
    assert store.read(["k"]) == {}
