"""Encryption at rest: what an observer of the store sees, wrong keys, changed bytes, and changing the key."""

import hashlib
import os
import sys

import pytest

from dspex.errors import IntegrityError, StoreError, UsageError
from dspex.stores import Write, open_store
from dspex.stores._encrypted import EncryptedStore
from dspex.testing import StoreSuite
from dspex.versions import StateManager
from sealedstores import KEY, open_sealed
from versions.conftest import url_of


class Sealed(StoreSuite):
    """What every store must do, which begins with the write that made the store's own keys."""

    opener = "sealedstores:open_sealed"

    def test_revisions_grow(self, store):
        """Every write has a revision larger than all before, the making of the store's own keys included."""
        revisions = [store.revision(), *(store.write(Write(put={"k": b"%d" % i})) for i in range(3))]
        assert revisions == sorted(set(revisions))

    def test_the_log_has_every_write_in_order(self, store):
        """Each write left its note, after the one that made the store."""
        first = store.revision()
        revisions = [store.write(Write(put={"k": b"%d" % i}, note=b"note %d" % i)) for i in range(5)]
        assert store.changes(first) == [(revision, b"note %d" % i) for i, revision in enumerate(revisions)]


class TestEncryptedSqlite(Sealed):
    """Around SQLite."""

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/states.db"


class TestEncryptedFiles(Sealed):
    """Around files."""

    @pytest.fixture
    def url(self, tmp_path):
        return f"file:///{tmp_path}/states"


class TestEncryptedPostgres(Sealed):
    """Around PostgreSQL."""

    @pytest.fixture
    def url(self, request, tmp_path, store_name):
        return url_of("postgresql", request, tmp_path, store_name)


class TestEncryptedRedis(Sealed):
    """Around Redis."""

    @pytest.fixture
    def url(self, request, tmp_path, store_name):
        return url_of("redis", request, tmp_path, store_name)


class TestEncryptedEtcd(Sealed):
    """Around etcd."""

    @pytest.fixture
    def url(self, request, tmp_path, store_name):
        return url_of("etcd", request, tmp_path, store_name)


def test_what_is_missing_is_said(monkeypatch):
    """Without `cryptography` a key is refused with what to install, and the store that was opened is closed."""
    monkeypatch.delitem(sys.modules, "dspex.stores._encrypted", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(UsageError, match=r"encryption needs cryptography.*pip install 'dspex\[encryption\]'"):
        StateManager("memory://", key=KEY)


def test_damage_below_is_told_in_true_hashes(tmp_path):
    """What the store below finds wrong with a file is told by the hashes that its chunks are known by."""
    data = b"x" * 500
    digest = hashlib.sha256(data).digest()
    store = open_sealed(f"file:///{tmp_path}/s")
    store.write(Write(put={"k": b"v"}, chunks={digest: data}))
    assert store.damage() == []
    (file,) = [file for file in tmp_path.rglob("*.txt") if b"\nput k " in file.read_bytes()]
    file.write_bytes(file.read_bytes().replace(b"\nput k ", b"\nput j "))
    (found,) = store.damage()
    assert found.chunks == (digest,)
    assert found.place == str(file)
    store.close()


STATE = {"instructions": "a secret that nobody may read", "text": "x" * 50_000}


def everything(path):
    """All bytes of all files of a store."""
    return b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_nothing_of_a_state_is_to_be_seen(tmp_path, kind):
    """Neither states, nor metadata, tags' targets, notes, nor the hashes of chunks stand in the files."""
    with StateManager(f"{kind}:///{tmp_path}/states", key=KEY) as states:
        version = states.save_state("m", STATE, metadata={"score": "hidden-score"}, tags=["t"])
        hashes = states._contents.hashes("m", states._catalog.find("m", "latest").saved)
        assert states.load_state("m", "t") == STATE
        assert states.verify().ok
        assert [event.kind for event in states.watch("m", 0, timeout=0)] == ["save", "tag"]
    seen = everything(tmp_path)
    for secret in (b"nobody may read", b"hidden-score", version.content[7:].encode(), KEY):
        assert secret not in seen
    for digest in hashes:
        assert digest not in seen
        assert digest.hex().encode() not in seen


def test_a_wrong_key_opens_nothing(tmp_path):
    """A wrong key, none, or one where there was none: each is said."""
    url = f"sqlite:///{tmp_path}/s.db"
    StateManager(url, key=KEY).close()
    with pytest.raises(StoreError, match="the key does not open sqlite:"):
        StateManager(url, key=os.urandom(32))
    with pytest.raises(StoreError, match="is encrypted; give its key"):
        StateManager(url)
    with pytest.raises(UsageError, match="a key is 32 random bytes"):
        StateManager(url, key=b"password")
    StateManager(f"sqlite:///{tmp_path}/plain.db").close()
    with pytest.raises(StoreError, match="was made without a key; sync it into a new store"):
        StateManager(f"sqlite:///{tmp_path}/plain.db", key=KEY)


def test_changed_bytes_are_found():
    """Whichever byte of a value is changed, or a value put in another's place, it is not loaded, and verify names it."""
    below = open_store("memory://")
    states = StateManager(EncryptedStore(below, KEY))
    states.save_state("a", {"who": "a"})
    states.save_state("b", {"who": "b"})
    (first, second) = below.scan_chunks()
    found = below.read_chunks([first, second])
    for place in range(0, len(found[first]), 3):
        bad = bytearray(found[first])
        bad[place] ^= 1
        below.write(Write(drop=[first]))
        below.write(Write(chunks={first: bytes(bad)}))
        with pytest.raises(IntegrityError):
            states.load_state("a"), states.load_state("b")
        assert not states.verify().ok
    below.write(Write(drop=[first]))
    below.write(Write(chunks={first: found[second]}))
    assert not states.verify().ok
    below.write(Write(drop=[first]))
    below.write(Write(chunks={first: found[first]}))
    assert states.verify().ok
    below.write(Write(put={"m/a": below.read(["m/b"])["m/b"].value}))
    with pytest.raises(IntegrityError, match="m/a is damaged"):
        states.load_state("a")


def test_the_key_is_changed_while_others_work(tmp_path):
    """From then on the new key opens it and the old one does not; who has it open goes on, and nothing is lost."""
    url, new = f"file:///{tmp_path}/s", os.urandom(32)
    with StateManager(url, key=KEY) as states, StateManager(url, key=KEY) as other:
        states.save_state("m", STATE)
        with pytest.raises(StoreError, match="does not open"):
            states.rotate_key(new, KEY)
        states.rotate_key(KEY, new)
        other.save_state("m", {**STATE, "more": 1})
    with pytest.raises(StoreError, match="does not open"):
        StateManager(url, key=KEY)
    with StateManager(url, key=new) as states:
        assert states.load_state("m", "1") == STATE
        assert states.load_state("m") == {**STATE, "more": 1}
        assert states.verify().ok
    with StateManager("memory://") as plain, pytest.raises(UsageError, match="opened without a key"):
        plain.rotate_key(KEY, new)


def test_a_store_is_encrypted_anew_by_syncing(tmp_path):
    """Into a store with another key go all versions, under other names, as they were."""
    with StateManager("memory://", key=KEY) as states, StateManager("memory://", key=os.urandom(32)) as other:
        states.save_state("m", STATE)
        states.sync(other)
        assert other.load_state("m") == STATE
        assert not set(states.store._store.scan_chunks()) & set(other.store._store.scan_chunks())
        states.compact()
        assert states.verify().ok
