"""`StoreSuite`: what every store must do. A store's tests are a subclass with one fixture, `url`.

The suite opens the store by that URL again and again, from threads and from other processes, so it must lead to the same,
at first empty, store each time. What a store's `traits` do not promise is not asked of it. A store that is not opened by
`open_store` names what opens it in `opener`, as "module:function".
"""

from __future__ import annotations

import hashlib
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from dspex.errors import CompactedError, MovedError
from dspex.stores import ABSENT, Store, Write

if TYPE_CHECKING:
    from collections.abc import Iterator

# Counts up in a record as long as it may, telling each number that was acknowledged.
_COUNTER = """
import pkgutil, sys
from dspex.errors import MovedError
from dspex.stores import ABSENT, Write
store, key, rounds = pkgutil.resolve_name(sys.argv[4])(sys.argv[1]), sys.argv[2], int(sys.argv[3])
done = 0
while done < rounds:
    entry = store.read([key]).get(key)
    number = int(entry.value) + 1 if entry else 1
    try:
        store.write(Write(expect={key: entry.revision if entry else ABSENT}, put={key: b"%d" % number}, note=b"%d" % number))
    except MovedError:
        continue
    done += 1
    print(number, flush=True)
store.close()
"""


def chunk(data: bytes) -> dict[bytes, bytes]:
    """A chunk as a write has it."""
    return {hashlib.sha256(data).digest(): data}


class StoreSuite:
    """Subclass it, give it a fixture `url`, and pytest does the rest."""

    opener = "dspex.stores:open_store"
    processes = 4
    rounds = 40

    @pytest.fixture
    def url(self) -> str:
        """The URL of an empty store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        store = self.open(url)
        yield store
        store.close()

    def open(self, url: str) -> Store:
        """The store at a URL, once more."""
        store: Store = pkgutil.resolve_name(self.opener)(url)
        return store

    def test_it_is_a_store(self, store: Store) -> None:
        """Every method of the protocol is there."""
        assert isinstance(store, Store)

    def test_a_record_is_read_back(self, store: Store) -> None:
        """A record has the value that was put, and the revision of its write; an absent one is left out."""
        value = bytes(range(256))
        revision = store.write(Write(put={"a/b": value, "a/c": b""}, note=b"n"))
        found = store.read(["a/b", "a/c", "a/d"])
        assert found == {"a/b": (value, revision), "a/c": (b"", revision)}

    def test_revisions_grow(self, store: Store) -> None:
        """Every write of records has a revision larger than all before, which the store knows as its newest."""
        assert store.revision() == 0
        revisions = [store.write(Write(put={f"k{i % 2}": b"x"})) for i in range(5)]
        assert revisions == sorted(set(revisions))
        assert store.revision() == revisions[-1]
        assert store.read(["k0", "k1"]) == {"k0": (b"x", revisions[4]), "k1": (b"x", revisions[3])}

    def test_an_expectation_that_fails_changes_nothing(self, store: Store) -> None:
        """A record that has moved, is there or is not, ends the whole write, and is named."""
        first = store.write(Write(put={"a": b"1", "b": b"1"}))
        second = store.write(Write(put={"a": b"2"}))
        extra = chunk(b"extra")
        for expect in ({"a": first}, {"a": ABSENT}, {"c": first}):
            with pytest.raises(MovedError) as caught:
                store.write(
                    Write(expect={"b": first, **expect}, put={"b": b"9", "z": b"9"}, delete=["a"], chunks=extra)
                )
            assert caught.value.keys == tuple(expect)
        assert store.read(["a", "b", "z"]) == {"a": (b"2", second), "b": (b"1", first)}
        assert store.read_chunks(extra) == {}
        assert store.revision() == second

    def test_an_expectation_that_holds_lets_the_write_through(self, store: Store) -> None:
        """Expected revisions, and expected absence, are what a write needs."""
        first = store.write(Write(expect={"a": ABSENT}, put={"a": b"1"}))
        second = store.write(Write(expect={"a": first, "b": ABSENT}, put={"a": b"2"}))
        assert store.read(["a"]) == {"a": (b"2", second)}

    def test_a_deleted_record_is_absent(self, store: Store) -> None:
        """Deleting takes a record away, absent ones too; it may be put again."""
        store.write(Write(put={"a": b"1", "b": b"1"}))
        gone = store.write(Write(delete=["a", "nothing"], note=b"gone"))
        assert list(store.read(["a", "b"])) == ["b"]
        assert [key for key, _ in store.scan("")] == ["b"]
        again = store.write(Write(expect={"a": ABSENT}, put={"a": b"2"}))
        assert again > gone

    def test_records_may_be_of_any_size(self, store: Store) -> None:
        """Small ones become large and large ones small, alone and among others; deleted, nothing of them comes back."""
        sizes = [0, 800, 801, 5000, 100_000, 3, 5000, 0]
        for place, size in enumerate(sizes):
            values = {"a": b"%d" % place * size, "b": bytes(sizes[place - 1]), "c": b"same" * 1000}
            revision = store.write(Write(put=values))
            assert store.read(values) == {key: (value, revision) for key, value in values.items()}
            assert store.scan("") == [(key, (value, revision)) for key, value in values.items()]
        store.write(Write(delete=["a", "c"]))
        store.write(Write(expect={"c": ABSENT}, put={"c": b"new" * 1000}))
        assert [(key, entry.value) for key, entry in store.scan("")] == [("b", bytes(5000)), ("c", b"new" * 1000)]

    def test_keys_are_scanned_in_order(self, store: Store) -> None:
        """A prefix is scanned bytewise, either way, beyond and below given keys, at most as many as asked for."""
        keys = ["a/1", "a/10", "a/2", "a/A", "a/a", "a/~", "a0", "b/1", "A/1"]
        store.write(Write(put={key: key.encode() for key in keys}))
        inside = sorted(key for key in keys if key.startswith("a/"))
        assert [key for key, _ in store.scan("a/")] == inside
        assert [key for key, _ in store.scan("a/", reverse=True)] == inside[::-1]
        assert [key for key, _ in store.scan("")] == sorted(keys)
        assert [key for key, _ in store.scan("a/", after="a/10", limit=2)] == inside[2:4]
        assert [key for key, _ in store.scan("a/", before="a/A", reverse=True, limit=2)] == inside[:3][:0:-1]
        assert [key for key, _ in store.scan("a/", after="a/1", before="a/2")] == ["a/10"]
        assert store.scan("c") == []
        assert store.scan("a/", limit=1)[0][1].value == b"a/1"

    def test_chunks_are_kept_by_hash(self, store: Store) -> None:
        """Chunks are written, known, listed in order, read back whole and dropped; they have no revision."""
        chunks = {**chunk(b"one"), **chunk(b"two" * 10_000), **chunk(b"")}
        assert store.write(Write(chunks=chunks)) == 0
        unknown = hashlib.sha256(b"unknown").digest()
        assert store.read_chunks([*chunks, unknown]) == chunks
        assert store.known_chunks([*chunks, unknown]) == set(chunks)
        order = store.scan_chunks()
        assert sorted(order) == sorted(chunks)
        assert store.scan_chunks(after=order[0], limit=1) == order[1:2]
        assert store.scan_chunks(after=order[-1]) == []
        dropped = order[0]
        store.write(Write(drop=[dropped, unknown]))
        assert store.scan_chunks() == order[1:]
        assert store.read_chunks([dropped]) == {}

    def test_a_chunk_that_is_there_stays(self, store: Store) -> None:
        """Writing a chunk again is no error, and many are read at once."""
        many = {digest: data for i in range(1200) for digest, data in chunk(b"%d" % i).items()}
        store.write(Write(chunks=dict(list(many.items())[:700])))
        for start in range(0, len(many), 300):
            store.write(Write(chunks=dict(list(many.items())[start : start + 300])))
        assert store.read_chunks(many) == many

    def test_records_and_chunks_are_written_together(self, store: Store) -> None:
        """One write may hold both."""
        data = chunk(b"data")
        revision = store.write(Write(expect={"k": ABSENT}, put={"k": b"v"}, chunks=data, note=b"both"))
        assert store.read(["k"]) == {"k": (b"v", revision)}
        assert store.read_chunks(data) == data

    def test_the_log_has_every_write_in_order(self, store: Store) -> None:
        """Each write of records left its note; pages follow one another without a gap."""
        if not store.traits.watch_replay:
            return
        revisions = [store.write(Write(put={"k": b"%d" % i}, note=b"note %d" % i)) for i in range(10)]
        store.write(Write(chunks=chunk(b"no record")))
        assert store.changes(0) == [(revision, b"note %d" % i) for i, revision in enumerate(revisions)]
        assert [change.revision for change in store.changes(revisions[2], limit=3)] == revisions[3:6]
        assert store.changes(revisions[-1]) == []

    def test_forgotten_changes_are_an_error(self, store: Store) -> None:
        """Who asks for what was trimmed is told so, and from where on there is all."""
        if not store.traits.watch_replay:
            return
        revisions = [store.write(Write(put={"k": b"%d" % i}, note=b"%d" % i)) for i in range(6)]
        store.trim(revisions[2])
        with pytest.raises(CompactedError) as caught:
            store.changes(revisions[1])
        assert caught.value.trimmed == revisions[2]
        assert [change.note for change in store.changes(revisions[2])] == [b"3", b"4", b"5"]
        store.trim(revisions[-1] + 100)
        later = store.write(Write(put={"k": b"later"}, note=b"later"))
        assert store.changes(revisions[-1]) == [(later, b"later")]

    def test_waiting_ends_when_there_is_a_change(self, store: Store, url: str) -> None:
        """A waiting reader is woken by a write of another client, and gives up at its timeout otherwise."""
        since = store.write(Write(put={"k": b"1"}))
        assert store.wait(since, 0.05) is False
        other = store if not store.traits.shared else self.open(url)
        timer = threading.Timer(0.2, lambda: other.write(Write(put={"k": b"2"})))
        timer.start()
        assert store.wait(since, 30) is True
        timer.join()
        assert store.revision() > since
        if other is not store:
            other.close()

    def test_threads_lose_no_update(self, store: Store) -> None:
        """Each of many compare-and-set increments from threads is in the sum."""

        def count() -> None:
            done = 0
            while done < self.rounds:
                entry = store.read(["n"]).get("n")
                number = int(entry.value) if entry else 0
                try:
                    store.write(
                        Write(expect={"n": entry.revision if entry else ABSENT}, put={"n": b"%d" % (number + 1)})
                    )
                except MovedError:
                    continue
                done += 1

        threads = [threading.Thread(target=count) for _ in range(self.processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.read(["n"])["n"].value == b"%d" % (self.processes * self.rounds)

    def test_processes_win_no_revision_twice(self, store: Store, url: str) -> None:
        """Of many processes that count up in one record, each number is acknowledged to one of them only."""
        if not store.traits.shared:
            return
        running = [_counting(url, self.rounds, self.opener) for _ in range(self.processes)]
        numbers = [int(line) for process in running for line in process.communicate()[0].split()]
        assert sorted(numbers) == list(range(1, self.processes * self.rounds + 1))
        assert int(store.read(["n"])["n"].value) == len(numbers)

    def test_killed_writers_lose_nothing_that_was_acknowledged(self, store: Store, url: str) -> None:
        """After kill -9 of a writer, what it was told is written is there, and nothing is torn."""
        if not store.traits.shared or not store.traits.durable_ack:
            return
        acknowledged, empty = 0, store.revision()
        for delay in (0.05, 0.15, 0.3):
            process = _counting(url, 1_000_000, self.opener)
            assert process.stdout is not None
            acknowledged = max(acknowledged, int(process.stdout.readline()))
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            lines = [int(line) for line in process.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
            acknowledged = max([acknowledged, *lines])
            entry = store.read(["n"])["n"]
            assert acknowledged <= int(entry.value) <= acknowledged + 1
            if store.traits.watch_replay:
                notes = [int(change.note) for change in _every_change(store, empty)]
                # What the writer had sent when it was killed may arrive after the record was read, before the log is.
                assert notes == list(range(1, len(notes) + 1))
                assert int(entry.value) <= len(notes) <= acknowledged + 1

    def test_a_reopened_store_has_everything(self, store: Store, url: str) -> None:
        """Closing and opening again changes nothing; closing twice is no error."""
        if not store.traits.shared:
            store.close()
            store.close()
            return
        data = chunk(b"kept")
        revision = store.write(Write(put={"k": b"v"}, chunks=data, note=b"n"))
        store.close()
        store.close()
        again = self.open(url)
        assert again.read(["k"]) == {"k": (b"v", revision)}
        assert again.read_chunks(data) == data
        assert again.revision() == revision
        assert again.write(Write(put={"k": b"w"})) > revision
        again.close()

    def test_a_forked_child_may_use_it(self, store: Store) -> None:
        """A child that was forked with an open store uses it as its parent does, and disturbs nothing of it."""
        if not store.traits.shared:
            return
        store.write(Write(put={"k": b"parent"}))
        child = _fork(store)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.read(["k", "child"])["child"].value == b"here"
        store.write(Write(put={"k": b"again"}))
        assert store.read(["k"])["k"].value == b"again"


def _fork(store: Store) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            store.write(Write(put={"child": b"here"}))
            status = 0 if store.read(["k"])["k"].value == b"parent" else 2
        finally:
            os._exit(status)
    return child


def _counting(url: str, rounds: int, opener: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-c", _COUNTER, url, "n", str(rounds), opener],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def _every_change(store: Store, since: int) -> list[Any]:
    found: list[Any] = []
    while page := store.changes(found[-1].revision if found else since):
        found += page
    return found
