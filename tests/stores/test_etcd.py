"""The replicated store: one server, a cluster that loses its members, and doors that are locked."""

import concurrent.futures
import contextlib
import functools
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.parse

import pytest

import certificates
import leftovers
import outages
import servers
from dspex.errors import (
    CompactedError,
    MovedError,
    StoreError,
    StoreUnavailableError,
    UnknownOutcomeError,
    UnsupportedError,
    UsageError,
)
from dspex.stores import Write, open_store
from dspex.stores import _etcd_client as client
from dspex.stores._etcd import _reads_are_fresh
from dspex.testing import StoreSuite
from dspex.testing._stores import chunk


class TestEtcd(StoreSuite):
    """One server passes the suite."""

    @pytest.fixture
    def url(self, etcd, name):
        return f"etcd://{etcd.address}/{name}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three servers; a test that kills some starts them again."""
    members = servers.etcd_cluster(tmp_path_factory.mktemp("cluster"))
    yield members
    for member in members:
        member.kill()


def url_of(members, name):
    return f"etcd://{','.join(member.address for member in members)}/{name}"


class TestCluster(StoreSuite):
    """Three servers pass the suite."""

    rounds = 15

    @pytest.fixture
    def url(self, cluster, name):
        return url_of(cluster, name)


def test_every_member_is_killed_in_turn(cluster, name):
    """The leader among them, while writers count: no number is won twice, none that was acknowledged is lost."""
    store = open_store(url_of(cluster, name))
    counted = outages.count_through(store, [step for member in cluster for step in (member.kill, member.start)])
    counted.check(store)
    store.close()


def test_all_members_are_killed(cluster, name):
    """Without a majority nothing is written and the error says so; when they are back everything is there."""
    store = open_store(url_of(cluster, name))

    def outage():
        for member in cluster:
            member.kill()
        for member in cluster:
            member.start()

    outages.count_through(store, [outage]).check(store)
    store.close()


def test_one_dead_endpoint_is_passed_over(cluster, name):
    """An endpoint where nobody listens costs nothing but a moment, first in the list or not."""
    dead = f"127.0.0.1:{servers.free_port()}"
    store = open_store(f"etcd://{dead},{cluster[0].address}/{name}")
    revision = store.write(Write(put={"k": b"v"}))
    assert store.read(["k"]) == {"k": (b"v", revision)}
    store.close()


def test_without_a_majority_nothing_is_half_done(cluster, name, monkeypatch):
    """One server of three takes no write: the first may be unknown, the next is told that there is no leader."""
    monkeypatch.setattr(client, "_PATIENCE", 3.0)
    store, data = open_store(url_of(cluster, name)), chunk(b"data")
    first = store.write(Write(put={"k": b"1"}))
    for member in cluster[1:]:
        member.kill()
    try:
        with pytest.raises((UnknownOutcomeError, StoreUnavailableError)):
            store.write(Write(expect={"k": first}, put={"k": b"2"}, chunks=data))
        for act in (lambda: store.write(Write(put={"k": b"3"})), lambda: store.read(["k"])):
            with pytest.raises(StoreUnavailableError, match=r"no leader.*nothing was changed"):
                act()
        with pytest.raises(StoreUnavailableError):
            open_store(url_of(cluster, name))
    finally:
        for member in cluster[1:]:
            member.start()
    monkeypatch.undo()
    found = store.read(["k"])["k"]
    assert found.value in (b"1", b"2")
    assert (found.revision == first) == (found.value == b"1") == (store.known_chunks(data) == set())
    store.close()


def test_a_member_that_stands_still_is_left(cluster, name, monkeypatch):
    """Each member is frozen in turn while writers count: others are asked, and no number is won twice or lost."""
    monkeypatch.setattr(client, "_PATIENCE", 3.0)
    monkeypatch.setattr(client, "_SILENCE", 0.5)
    store = open_store(url_of(cluster, name))

    def freeze(member):
        os.kill(member.pid, signal.SIGSTOP)

    def thaw(member):
        os.kill(member.pid, signal.SIGCONT)

    outages_ = [functools.partial(act, member) for member in cluster for act in (freeze, thaw)]
    try:
        outages.count_through(store, outages_).check(store)
    finally:
        for member in cluster:
            thaw(member)
    store.close()


def test_a_waiter_leaves_a_member_that_lost_the_others(cluster, name, monkeypatch):
    """Who waits at a member without a leader hears of a write that the majority takes once it is back."""
    store = open_store(url_of(cluster, name))
    since = store.write(Write(put={"k": b"1"}))
    os.kill(cluster[0].pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(client, "_SILENCE", 0.5)
        waiter, writer = open_store(url_of(cluster, name)), open_store(url_of(cluster[1:], name))
        timer = threading.Timer(0.5, lambda: writer.write(Write(put={"k": b"2"})))
        timer.start()
        assert waiter.wait(since, 60) is True
        timer.join()
    finally:
        os.kill(cluster[0].pid, signal.SIGCONT)
    for opened in (store, waiter, writer):
        opened.close()


def test_a_watcher_misses_nothing_across_kills(cluster, name):
    """Who waits and reads the log sees each note once, in order, while servers come and go and etcd is compacted."""
    store, watcher = open_store(url_of(cluster, name)), open_store(url_of(cluster, name))
    seen, over = [], threading.Event()

    def watch():
        since = 0
        while not over.is_set() or store.revision() > since:
            watcher.wait(since, 0.5)
            for change in watcher.changes(since):
                seen.append(int(change.note))
                since = change.revision

    thread = threading.Thread(target=watch)
    thread.start()

    def compact():
        store._client.compact(store._client.range(b"x")[1])

    counted = outages.count_through(store, [cluster[0].kill, compact, cluster[0].start, compact])
    over.set()
    thread.join()
    assert seen == list(range(1, int(store.read(["counter"])["counter"].value) + 1))
    counted.check(store)
    store.close()
    watcher.close()


def test_what_is_too_large_is_refused(etcd, name):
    """A chunk that no request can hold is refused with the servers' options, a lot of small ones is not."""
    store = open_store(f"etcd://{etcd.address}/{name}")
    with pytest.raises(UnsupportedError, match="max-request-bytes"):
        store.write(Write(chunks=chunk(os.urandom(3_000_000))))
    many = {digest: data for i in range(300) for digest, data in chunk(os.urandom(10_000 + i)).items()}
    store.write(Write(put={"k": b"v"}, chunks=many))
    assert store.read_chunks(many) == many
    store.close()


def test_a_full_server_says_of_no_write_that_was_made_that_it_was_not(tmp_path):
    """etcd makes the writes that fill it and answers that there is no space: each is acknowledged, the others are not there."""
    server = servers.etcd(tmp_path, "--quota-backend-bytes=20000000")
    told = {}

    def fill(writer):
        store = open_store(f"etcd://{server.address}/full")
        try:
            for number in range(20):
                key = f"{writer}-{number}"
                told[key] = store.write(Write(put={key: os.urandom(600_000)}))
        except StoreUnavailableError as error:
            told[key] = str(error)
        store.close()

    try:
        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            list(threads.map(fill, range(16)))
        store = open_store(f"etcd://{server.address}/full")
        there = {key: entry.revision for key in told for key, entry in store.read([key]).items()}
        log = [change.revision for change in store.changes(0)]
        store.close()
    finally:
        server.stop()
    refused = [answer for answer in told.values() if isinstance(answer, str)]
    assert len(refused) == 16
    assert all("space exceeded; compact and defragment it" in answer for answer in refused)
    assert there == {key: answer for key, answer in told.items() if isinstance(answer, int)}
    assert log == sorted(there.values())


def test_no_connection_stays_open(etcd, name):
    """Closing a store closes its connections, whoever used them and though an error that it raised is kept; they may come back."""
    before = set(leftovers.descriptors())
    store = open_store(f"etcd://{etcd.address}/{name}")
    since = store.write(Write(put={"k": b"v"}))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: store.read(["k"]), range(40)))
    assert store.wait(since, 0.05) is False
    with pytest.raises(UnsupportedError) as kept:
        store.write(Write(chunks=chunk(os.urandom(3_000_000))))
    assert set(leftovers.descriptors()) > before
    store.close()
    assert set(leftovers.descriptors()) <= before
    assert store.read(["k"])["k"].value == b"v"
    store.close()
    assert set(leftovers.descriptors()) <= before
    del kept  # which held the connections, if only garbage collection closed them


def test_a_write_of_many_chunks_is_conditional_throughout(etcd, name):
    """Where a record has moved, not one of the chunks that would go ahead is written."""
    store = open_store(f"etcd://{etcd.address}/{name}")
    store.write(Write(put={"k": b"1"}))
    many = {digest: data for i in range(300) for digest, data in chunk(b"%d" % i).items()}
    with pytest.raises(MovedError):
        store.write(Write(expect={"k": 0}, put={"k": b"2"}, chunks=many))
    assert store.scan_chunks() == []
    store.close()


def test_stores_under_two_prefixes_are_apart(etcd, name):
    """A prefix holds a store of its own, also below another's."""
    one, other = (open_store(f"etcd://{etcd.address}/{name}{end}") for end in ("", "/sub"))
    one.write(Write(put={"k": b"1"}, chunks=chunk(b"one")))
    assert other.revision() == 0
    assert other.scan("") == []
    assert other.scan_chunks() == []
    one.close()
    other.close()


def test_forgotten_history_of_etcd_is_not_ours(etcd, name):
    """Compacting etcd, as others may, loses no note of the log."""
    store = open_store(f"etcd://{etcd.address}/{name}")
    revisions = [store.write(Write(put={"k": b"%d" % i}, note=b"%d" % i)) for i in range(5)]
    store._client.compact(revisions[-1])
    assert [change.note for change in store.changes(0)] == [b"0", b"1", b"2", b"3", b"4"]
    assert store.wait(revisions[0], 5) is True
    with pytest.raises(CompactedError):
        store._client.range(b"x", revision=str(revisions[0]))
    store.close()


def test_a_quiet_store_in_a_busy_etcd_is_waited_for(etcd, name):
    """When others write and compact, a store in which nothing happens still gives up at the timeout, and hears of a write."""
    store, busy = (open_store(f"etcd://{etcd.address}/{name}{end}") for end in ("", "busy"))
    since = store.write(Write(put={"k": b"1"}))
    store._client.compact([busy.write(Write(put={"k": b"1"})) for _ in range(5)][-1])
    assert store.wait(since, 0.3) is False
    timer = threading.Timer(0.2, lambda: store.write(Write(put={"k": b"2"})))
    timer.start()
    assert store.wait(since, 60) is True
    timer.join()
    store.close()
    busy.close()


def test_the_log_goes_on_across_its_parts(etcd, name):
    """However many writers there are, each page of the log begins after its revision, in order, with nothing left out."""
    stores = [open_store(f"etcd://{etcd.address}/{name}") for _ in range(3)]
    numbers, written = iter(range(450)), {}

    def write(store):
        for number in numbers:
            written[store.write(Write(put={f"k{number}": b"v"}, note=b"%d" % number))] = number

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        list(threads.map(write, stores))
    log = [(revision, b"%d" % written[revision]) for revision in sorted(written)]
    assert len(log) == 450
    assert all(
        len(stores[0]._client.range(stores[0]._part_key(i), stores[0]._part_key(i + 1))[0]) == 100 for i in range(4)
    )
    for limit in (1, 99, 100, 101, 1000):
        for start in (0, 1, 99, 100, 101, 299, 449, 450):
            assert stores[1].changes(log[start - 1][0] if start else 0, limit=limit) == log[start:][:limit]
    for store in stores:
        store.close()


def test_a_long_log_is_trimmed(etcd, name, monkeypatch):
    """Trimming takes whole parts and the beginning of one; what is beyond stays, and the mark never goes back."""
    monkeypatch.setattr("dspex.stores._etcd._STRIDE", 2)
    store = open_store(f"etcd://{etcd.address}/{name}")
    revisions = [store.write(Write(put={"k": b"v"}, note=b"%d" % i)) for i in range(640)]
    marks = [revisions[i] for i in (549, 20, 300, 100, 99, 0, 410, 200)]
    with concurrent.futures.ThreadPoolExecutor(len(marks)) as threads:
        list(threads.map(store.trim, marks))
    assert [change.revision for change in store.changes(revisions[549])] == revisions[550:]
    with pytest.raises(CompactedError) as caught:
        store.changes(revisions[548])
    assert caught.value.trimmed == revisions[549]
    left, _ = store._client.range(store._log, store._part_key(99), keys_only=True)
    assert sorted(kv.revision for kv in left) == revisions[550:]
    store.close()


@pytest.mark.parametrize(("value", "said"), [(b"99", "format 99, made by a newer dspex"), (b"x", "something else")])
def test_a_prefix_in_other_use_is_refused(etcd, name, value, said):
    """A store that a newer dspex made is not written to, nor what is none."""
    store = open_store(f"etcd://{etcd.address}/{name}")
    store._client.txn([], [client.put(f"{name}/clock".encode(), value)], [])
    with pytest.raises(StoreError, match=said):
        open_store(f"etcd://{etcd.address}/{name}")
    store.close()


def test_an_answer_that_is_lost_is_an_unknown_outcome(etcd, name):
    """A write whose connection ends before its answer came is not said to have failed, nor sent again: here it was made."""
    with (
        relay(etcd.port) as (port, swallow),
        contextlib.closing(open_store(f"etcd://127.0.0.1:{port}/{name}")) as store,
    ):
        first = store.write(Write(put={"k": b"before"}))
        swallow.set()
        with pytest.raises(UnknownOutcomeError, match="answer of a write was lost"):
            store.write(Write(expect={"k": first}, put={"k": b"after"}, note=b"once"))
        swallow.clear()
        found = store.read(["k"])["k"]
        assert found.value == b"after"
        assert store.changes(first) == [(found.revision, b"once")]


@contextlib.contextmanager
def relay(target):
    """A port that leads to another, and an event: while it is set, answers that come are swallowed and the connection ends."""
    swallow = threading.Event()

    def pass_on(source, sink, *, answers):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and swallow.is_set():
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", target)) as server:
                back = threading.Thread(target=pass_on, args=(server, self.request), kwargs={"answers": True})
                back.start()
                pass_on(self.request, server, answers=False)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        serving = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield listener.server_address[1], swallow
        finally:
            listener.shutdown()
            serving.join()


def test_another_kind_of_server_is_told(durable_redis, monkeypatch):
    """What speaks, but not as etcd does, is named."""
    monkeypatch.setattr(client, "_PATIENCE", 0.5)
    with pytest.raises(StoreError, match=f"etcd://{durable_redis.address}"):
        open_store(f"etcd://{durable_redis.address}")


def test_the_port_of_peers_is_told(etcd):
    """etcd's other port answers, but is no gateway: the error says which is wanted."""
    (peer,) = [word.partition("://")[2] for word in etcd.command if word.startswith("--listen-peer-urls=")]
    with pytest.raises(StoreError, match="no answer of etcd's JSON gateway; name the servers' client URLs"):
        open_store(f"etcd://{peer}")


def test_nobody_there_is_said(monkeypatch):
    """Where no endpoint answers, the error names them, and that nothing was changed."""
    monkeypatch.setattr(client, "_PATIENCE", 0.5)
    address = f"127.0.0.1:{servers.free_port()}"
    with pytest.raises(StoreUnavailableError, match=f"etcd://{address}: no endpoint answers .*nothing was changed"):
        open_store(f"etcd://{address}")


@pytest.mark.parametrize(
    "url", ["etcd://", "etcd://host,", "etcd://me:hush@host?cart=x", "etcd://me:hush@host?cert=c.pem"]
)
def test_bad_urls_are_refused(url):
    """What names no server, or half a certificate, is no URL of etcd; a password in it is not shown."""
    with pytest.raises(UsageError, match="is no URL of etcd") as caught:
        open_store(url)
    assert "hush" not in str(caught.value)


def test_a_port_that_cannot_be_is_refused():
    """It is told at once, not after asking for a while."""
    with pytest.raises(UsageError, match=r"etcd://host:99999: .* endpoints are host:port"):
        open_store("etcd://host:99999")


@pytest.mark.parametrize(("host", "endpoint"), [("[::1]", r"\[::1\]:2379"), ("127.0.0.1:1", "127.0.0.1:1")])
def test_the_port_may_be_left_out(monkeypatch, host, endpoint):
    """It is etcd's own then, also after an address of IPv6."""
    monkeypatch.setattr(client, "_PATIENCE", 0.2)
    with pytest.raises(StoreUnavailableError, match=f"etcd://{endpoint}: no endpoint"):
        open_store(f"etcd://{host}")


@pytest.mark.parametrize(
    ("version", "fresh"),
    [
        *(((3, 4, 23), False), ((3, 4, 42), True), ((3, 5, 0), False), ((3, 5, 27), False), ((3, 5, 28), True)),
        *(((3, 6, 0), False), ((3, 6, 8), False), ((3, 6, 9), True), ((3, 7, 0), True)),
    ],
)
def test_servers_with_stale_reads_are_known(version, fresh):
    """Only releases in which reads during pauses are mended are said to be linearizable."""
    assert _reads_are_fresh(version) is fresh


def test_tls_with_a_certificate_of_the_client(tmp_path, monkeypatch):
    """A server that wants certificates lets in who shows one, and nobody else."""
    monkeypatch.setattr(client, "_PATIENCE", 1.0)
    files = certificates.make(tmp_path)
    settings = [f"--cert-file={files.certificate}", f"--key-file={files.key}"]
    settings += ["--client-cert-auth", f"--trusted-ca-file={files.root}"]
    server = servers.etcd(tmp_path, *settings, scheme="https")
    try:
        options = urllib.parse.urlencode({"ca": files.root, "cert": files.certificate, "key": files.key})
        store = open_store(f"etcd://{server.address}/tls?{options}")
        store.write(Write(put={"k": b"v"}))
        assert store.read(["k"])["k"].value == b"v"
        assert store.wait(0, 5) is True
        store.close()
        for bad in (f"?ca={files.root}", ""):
            with pytest.raises(StoreError):
                open_store(f"etcd://{server.address}/tls{bad}")
    finally:
        server.stop()


def test_users_and_passwords(tmp_path, monkeypatch):
    """With authentication on, the right password opens, a wrong one is named, and a token that ran out is renewed."""
    monkeypatch.setattr(client, "_PATIENCE", 2.0)
    server = servers.etcd(tmp_path)

    def open_admin(*login):
        return contextlib.closing(client.Client(client.Access((f"http://{server.address}",), None, None, None, *login)))

    def control(path, **body):
        with open_admin() as admin:
            admin._ask(path, body)

    try:
        control("/v3/auth/user/add", name="root", password="secret")
        control("/v3/auth/role/add", name="root")
        control("/v3/auth/user/grant", user="root", role="root")
        control("/v3/auth/enable")
        store = open_store(f"etcd://root:secret@{server.address}/locked")
        store.write(Write(put={"k": b"v"}))
        server.restart()  # which forgets its tokens
        assert store.wait(0, 5) is True
        assert store.read(["k"])["k"].value == b"v"
        with open_admin("root", "secret") as admin:  # after which older tokens hold no more
            admin._ask("/v3/auth/user/add", {"name": "other", "password": "secret"})
        store.write(Write(put={"k": b"w"}))
        store.close()
        with pytest.raises(StoreError, match="does not let 'root' in"):
            open_store(f"etcd://root:wrong@{server.address}/locked")
    finally:
        server.stop()


def test_its_clients_are_asked_for(tmp_path):
    """Without the HTTP library the error says what to install."""
    code = (
        "import sys; sys.modules['urllib3'] = None\nfrom dspex.stores import open_store\nopen_store('etcd://localhost')"
    )
    path = os.pathsep.join(filter(None, map(str, sys.path)))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path}, check=False
    )
    assert "pip install 'dspex[etcd]'" in done.stderr
