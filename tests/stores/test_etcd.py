"""The replicated store: one server, a cluster that loses its members, and doors that are locked."""

import os
import subprocess
import sys
import threading
import urllib.parse

import pytest

import certificates
import outages
import servers
from dspex.errors import CompactedError, MovedError, StoreError, StoreUnavailableError, UnsupportedError, UsageError
from dspex.stores import Write, open_store
from dspex.stores import _etcd_client as client
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


def test_without_a_majority_nothing_is_half_done(cluster, name):
    """One server of three takes no write, and tells that nothing was changed, or that it is not known."""
    store = open_store(url_of(cluster, name))
    first = store.write(Write(put={"k": b"1"}))
    for member in cluster[1:]:
        member.kill()
    try:
        with pytest.raises(StoreError):
            store.write(Write(expect={"k": first}, put={"k": b"2"}, chunks=chunk(b"data")))
    finally:
        for member in cluster[1:]:
            member.start()
    found = store.read(["k"])["k"]
    assert found.value in (b"1", b"2")
    assert (found.revision == first) == (found.value == b"1")
    store.close()


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


def test_nobody_there_is_said(monkeypatch):
    """Where no endpoint answers, the error names them, and that nothing was changed."""
    monkeypatch.setattr(client, "_PATIENCE", 0.5)
    address = f"127.0.0.1:{servers.free_port()}"
    with pytest.raises(StoreUnavailableError, match=f"etcd://{address}: no endpoint answers .*nothing was changed"):
        open_store(f"etcd://{address}")


@pytest.mark.parametrize("url", ["etcd://", "etcd://host?cart=x", "etcd://host?cert=c.pem"])
def test_bad_urls_are_refused(url):
    """What names no server, or half a certificate, is no URL of etcd."""
    with pytest.raises(UsageError, match="is no URL of etcd"):
        open_store(url)


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

    def control(path, **body):
        pool = client.Client(client.Access((f"http://{server.address}",)))
        return pool._ask(path, body)

    try:
        control("/v3/auth/user/add", name="root", password="secret")
        control("/v3/auth/role/add", name="root")
        control("/v3/auth/user/grant", user="root", role="root")
        control("/v3/auth/enable")
        store = open_store(f"etcd://root:secret@{server.address}/locked")
        store.write(Write(put={"k": b"v"}))
        server.restart()  # which forgets its tokens
        assert store.read(["k"])["k"].value == b"v"
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
