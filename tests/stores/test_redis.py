"""The store in Redis, against real servers: one that writes to disk before it answers, and one that never does."""

import os
import signal
import sys
import threading
import time

import pytest
import redis

import certificates
import servers
from dspex.errors import (
    CompactedError,
    StoreError,
    StoreUnavailableError,
    UnknownOutcomeError,
    UsageError,
)
from dspex.stores import ABSENT, Write, open_store
from dspex.testing import StoreSuite
from dspex.testing._stores import chunk
from outages import count_through, every_change

DURABLE = ("appendonly yes", "appendfsync always")


def url_of(server, prefix="dspex", *, user="", password=servers.PASSWORD, more=""):
    return f"redis://{user}:{password}@{server.address}/0?prefix={prefix}{more}"


@pytest.fixture
def start(tmp_path):
    """Starts servers that may be killed."""
    started = []

    def start(*settings):
        directory = tmp_path / str(len(started))
        directory.mkdir()
        started.append(servers.redis(directory, *settings))
        return started[-1]

    yield start
    for server in started:
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


@pytest.fixture
def asking():
    """Opens clients of the library, and closes them at the end."""
    clients = []

    def asking(server):
        clients.append(redis.Redis(port=server.port, password=servers.PASSWORD))
        return clients[-1]

    yield asking
    for client in clients:
        client.close()


class TestDurableRedis(StoreSuite):
    """With AOF and a sync of every write, it passes the suite."""

    @pytest.fixture
    def url(self, durable_redis, name):
        return url_of(durable_redis, name)


class TestPlainRedis(StoreSuite):
    """With memory only, it passes the suite: what it does not promise is not asked of it."""

    @pytest.fixture
    def url(self, plain_redis, name):
        return url_of(plain_redis, name)


def test_a_killed_server_loses_nothing_that_was_acknowledged(start, opened):
    """With AOF and a sync of every write: writers have clear errors, and go on without being opened again."""
    server = start(*DURABLE)
    store = opened(url_of(server))
    assert store.traits.durable_ack
    assert store.traits.linearizable
    counted = count_through(store, [server.restart] * 8)
    assert counted.unavailable + counted.unknown > 0
    counted.check(store)


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("appendonly yes", "appendfsync everysec"),
        ("appendonly yes", "appendfsync no"),
        (*DURABLE, "no-appendfsync-on-rewrite yes"),
    ],
)
def test_a_server_that_does_not_sync_is_not_said_to_be_durable(start, opened, settings):
    """`durable_ack` is what the server's settings say."""
    assert opened(url_of(start(*settings))).traits.durable_ack is False


def test_without_aof_a_killed_server_forgets_and_gives_no_revision_again(start, opened):
    """What is lost without AOF: everything. But nobody who read before takes new records for those that he knew."""
    server = start()
    store = opened(url_of(server))
    before = [store.write(Write(put={"k": b"lost"}, note=b"lost")) for _ in range(5)]
    server.restart()
    assert store.read(["k"]) == {}
    assert store.revision() == 0
    after = store.write(Write(expect={"k": ABSENT}, put={"k": b"new"}, note=b"new"))
    assert after > before[-1]
    assert [change.note for change in store.changes(before[-1])] == [b"new"]


def test_an_answer_that_is_lost_is_an_unknown_outcome(start, opened):
    """A write to a server that stands still is not said to have failed: here it was made, later."""
    server = start()
    store = opened(url_of(server, more="&socket_timeout=0.5"))
    since = store.write(Write(put={"k": b"before"}))
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(UnknownOutcomeError):
        store.write(Write(expect={"k": since}, put={"k": b"after"}))
    with pytest.raises(StoreUnavailableError):
        store.read(["k"])
    os.kill(server.pid, signal.SIGCONT)
    assert store.wait(since, 30) is True
    assert store.read(["k"])["k"].value == b"after"


def test_connections_and_scripts_that_the_server_dropped_are_replaced(plain_redis, name, opened, asking):
    """Connections that were closed while idle, and scripts that the server forgot, are no error of the next command."""
    store = opened(url_of(plain_redis, name))
    since = store.write(Write(put={"k": b"1"}))
    assert store.wait(since, 0.01) is False
    for act in (
        lambda: store.read(["k"]),
        lambda: store.write(Write(put={"k": b"2"})),
        lambda: store.wait(since, 0.01),
    ):
        asking(plain_redis).client_kill_filter(_type="normal", skipme=True)
        asking(plain_redis).script_flush()
        assert act()


def test_a_wait_whose_server_goes_is_an_error(start, opened):
    """Who waits is told that the server went, and may wait again when it is back."""
    server = start()
    store = opened(url_of(server))
    outage = threading.Timer(0.3, server.kill)
    outage.start()
    with pytest.raises(StoreUnavailableError):
        store.wait(0, 60)
    outage.join()
    server.start()
    assert store.wait(0, 0.01) is False


def test_a_short_timeout_is_none_of_waiting(plain_redis, name, opened):
    """Who waits longer than an answer may take waits to the end."""
    store = opened(url_of(plain_redis, name, more="&socket_timeout=0.1"))
    assert store.wait(0, 0.5) is False


def test_a_reader_of_the_log_misses_nothing(plain_redis, name, opened):
    """One who reads on from the newest revision that it saw has every note, while many write at once."""
    store, reader = opened(url_of(plain_redis, name)), opened(url_of(plain_redis, name))
    seen, over = [], threading.Event()

    def follow():
        while not over.is_set() or reader.revision() > (seen[-1].revision if seen else 0):
            seen.extend(reader.changes(seen[-1].revision if seen else 0, limit=7))

    def write(writer):
        for i in range(100):
            store.write(Write(put={f"{writer}/{i}": b"x"}, note=b"%d/%d" % (writer, i)))

    following = threading.Thread(target=follow)
    writing = [threading.Thread(target=write, args=(writer,)) for writer in range(5)]
    for thread in (following, *writing):
        thread.start()
    for thread in writing:
        thread.join()
    over.set()
    following.join()
    assert len(seen) == 500
    assert seen == every_change(store)


def test_what_was_trimmed_stays_known(start, opened):
    """The trimmed mark outlives the server, and never goes back."""
    server = start(*DURABLE)
    store = opened(url_of(server))
    revisions = [store.write(Write(put={"k": b"v"})) for _ in range(4)]
    store.trim(revisions[2])
    store.trim(revisions[0])
    server.restart()
    with pytest.raises(CompactedError) as caught:
        store.changes(0)
    assert caught.value.trimmed == revisions[2]


def test_a_full_server_refuses_the_whole_write(start, opened, asking):
    """Out of memory: nothing of a write was made, and it works again when there is some."""
    server = start()
    store = opened(url_of(server))
    first = store.write(Write(put={"k": b"1"}))
    asking(server).config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailableError, match="nothing was changed"):
        store.write(Write(put={"k": b"2", "l": b"2"}, delete=["m"], chunks=chunk(b"x"), drop=[b"y" * 32]))
    asking(server).config_set("maxmemory", 0)
    assert store.read(["k", "l"]) == {"k": (b"1", first)}
    assert store.scan_chunks() == []
    assert store.write(Write(expect={"k": first}, put={"k": b"2"})) > first


def test_a_server_that_evicts_is_refused(start):
    """A server that would drop keys when memory is short is no store."""
    server = start("maxmemory 100mb", "maxmemory-policy allkeys-lru")
    with pytest.raises(StoreError, match="evicts keys"):
        open_store(url_of(server))


def test_replicas_are_refused_and_take_promises_away(start, opened, asking):
    """A replica is no store; and with one, a failover may lose what was acknowledged: the traits say so."""
    primary = start(*DURABLE)
    replica = start(f"replicaof {servers.HOST} {primary.port}", f"masterauth {servers.PASSWORD}")
    deadline = time.monotonic() + 60
    while asking(primary).info("replication")["connected_slaves"] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(StoreUnavailableError, match="replica; name the primary"):
        open_store(url_of(replica))
    traits = opened(url_of(primary)).traits
    assert (traits.durable_ack, traits.linearizable) == (False, False)


def test_a_server_that_does_not_tell_is_not_said_to_be_durable(start, opened):
    """Where CONFIG is forbidden, that is said, and durability is not claimed."""
    server = start(*DURABLE, "user limited on >limited ~* +@all -config")
    with pytest.warns(RuntimeWarning, match=r"CONFIG GET is forbidden\); durable_ack is taken to be false"):
        store = opened(url_of(server, user="limited", password="limited"))
    assert store.traits.durable_ack is False
    store.write(Write(put={"k": b"v"}))


def test_a_server_that_tells_too_little_is_refused(start):
    """Where INFO is forbidden, nothing can be said of the server, and it is no store."""
    server = start("user limited on >limited ~* +@all -info")
    with pytest.raises(StoreError, match="no permissions"):
        open_store(url_of(server, user="limited", password="limited"))


def test_a_large_chunk_is_read_back(durable_redis, name, opened):
    """8 MB of any bytes are a chunk."""
    store, data = opened(url_of(durable_redis, name)), chunk(os.urandom(8_000_000))
    store.write(Write(put={"k": b"v"}, chunks=data))
    assert store.read_chunks(data) == data


def test_prefixes_are_apart(plain_redis, name, opened, asking):
    """Two prefixes of one server share no record, chunk, revision or log; all keys of one have one hash tag."""
    one, other = opened(url_of(plain_redis, name)), opened(url_of(plain_redis, name + "2"))
    one.write(Write(expect={"k": ABSENT}, put={"k": b"one"}, chunks=chunk(b"one"), note=b"one"))
    assert other.revision() == 0
    assert other.scan("") == [] == other.changes(0) == other.scan_chunks()
    other.write(Write(expect={"k": ABSENT}, put={"k": b"other"}))
    assert one.read(["k"])["k"].value == b"one"
    keys = [key.decode() for key in asking(plain_redis).keys(f"*{name}*")]
    assert {key.partition(":")[0] for key in keys} == {f"{{{name}}}", f"{{{name}2}}"}


@pytest.mark.parametrize("password", ["wrong-horse", ""])
def test_a_wrong_password_is_told_without_it(plain_redis, password):
    """Who may not log in is told so; the password is in no message."""
    with pytest.raises(StoreUnavailableError, match=r"password|Authentication") as caught:
        open_store(url_of(plain_redis, password=password))
    assert "wrong-horse" not in str(caught.value)


def test_no_server_is_told():
    """A port that nobody listens on is a store that cannot be reached."""
    with pytest.raises(StoreUnavailableError, match="Connection refused"):
        open_store(f"redis://127.0.0.1:{servers.free_port()}/0")


def test_another_kind_of_server_is_told(postgres):
    """A server that does not speak Redis's protocol is a store that cannot be reached."""
    with pytest.raises(StoreUnavailableError):
        open_store(url_of(postgres, more="&socket_timeout=2"))


def test_a_prefix_of_somebody_else_is_refused(plain_redis, name, asking):
    """Keys that are not ours are let be."""
    asking(plain_redis).hset(f"{{{name}}}:records", "mine", "1")
    with pytest.raises(StoreError, match="no store of dspex; name another"):
        open_store(url_of(plain_redis, name))
    asking(plain_redis).set(f"{{{name}}}:about", "mine")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        open_store(url_of(plain_redis, name))


def test_a_store_may_be_opened_while_it_is_made(plain_redis, name, opened, asking):
    """Who opens a store in the moment of its first write takes it for what it is: here it is made again and again."""
    store, over = opened(url_of(plain_redis, name)), threading.Event()
    store.write(Write(put={"k": b"v"}, chunks=chunk(b"x")))
    client = asking(plain_redis)
    keys = client.keys(f"{{{name}}}:*")

    def make():
        while not over.is_set():
            client.delete(*keys)
            store.write(Write(put={"k": b"v"}, chunks=chunk(b"x")))

    making = threading.Thread(target=make)
    making.start()
    try:
        for _ in range(100):
            open_store(url_of(plain_redis, name)).close()
    finally:
        over.set()
        making.join()


def test_a_newer_format_is_refused(plain_redis, name, opened, asking):
    """A store that a newer dspex made is not written to."""
    opened(url_of(plain_redis, name)).write(Write(put={"k": b"v"}))
    asking(plain_redis).hset(f"{{{name}}}:about", "format", "99")
    with pytest.raises(StoreError, match="format 99, made by a newer dspex"):
        open_store(url_of(plain_redis, name))


def test_what_does_not_fit_together_is_damage(plain_redis, name, opened, asking):
    """Records and chunks that are listed and absent, or there and not listed, are named; a whole store has no damage."""
    store, data = opened(url_of(plain_redis, name)), chunk(b"data")
    store.write(Write(put={"a": b"1", "b": b"2", "c": b"3"}, chunks=data))
    assert store.damage() == []
    asking(plain_redis).zrem(f"{{{name}}}:keys", "a")
    asking(plain_redis).hdel(f"{{{name}}}:records", "b")
    asking(plain_redis).zrem(f"{{{name}}}:hashes", *data)
    records, chunks = store.damage()
    assert (records.keys, records.chunks) == (("a", "b"), ())
    assert (chunks.keys, chunks.chunks) == ((), tuple(data))


def test_tls_is_spoken_and_checked(start, tmp_path, opened):
    """`rediss://` speaks TLS, with a server whose certificate holds only."""
    authority = certificates.make(tmp_path)
    port = servers.free_port()
    files = [f"tls-{name}-file {path}" for name, path in (("cert", authority.certificate), ("key", authority.key))]
    start(f"tls-port {port}", *files, f"tls-ca-cert-file {authority.root}", "tls-auth-clients no")
    url = f"rediss://:{servers.PASSWORD}@127.0.0.1:{port}/0"
    store = opened(f"{url}?ssl_ca_certs={authority.root}")
    revision = store.write(Write(put={"k": b"v"}))
    assert store.read(["k"]) == {"k": (b"v", revision)}
    with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:port/0",
        "redis://h/states",
        "redis://h/0?prefix=",
        "redis://h/0?prefix={a}",
        "redis://h/0?nonsense=1",
        "redis://h/0?protocol=3",
    ],
)
def test_urls_that_cannot_be_are_refused(url):
    """Ports and databases that are no numbers, prefixes that would mislead, and unknown settings are errors of the caller."""
    with pytest.raises(UsageError):
        open_store(url)


def test_the_library_that_is_missing_is_named(monkeypatch):
    """Without its library, the store tells what to install."""
    monkeypatch.delitem(sys.modules, "dspex.stores._redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UsageError, match=r"needs redis; install it with: pip install 'dspex\[redis\]'"):
        open_store("redis://host/0")
