"""Bugs put in on purpose, each small and likely: whoever checks versions must find each of them.

`install(name)` puts one in for good, for a process of its own; in a test, give its monkeypatch.setattr.
"""

from dspex.stores._memory import MemoryStore
from dspex.stores._sqlite import SqliteStore, write_chunks, write_records
from dspex.versions import _marking
from dspex.versions._contents import Contents
from dspex.versions._records import SWEEP_KEY
from dspex.versions._saving import Saver


def conflict_ignored(put):
    """A save whose parent is no longer the head goes on top all the same."""
    put(Saver, "_resolved", lambda self, draft, head: draft)


def needed_chunk_dropped(put):
    """A sweep overlooks one of the chunks that a version needs."""
    hashes = Contents.hashes
    put(Contents, "hashes", lambda self, module_id, saved: set(sorted(hashes(self, module_id, saved))[1:]))


def read_then_write(put):
    """The condition of a write is looked at before the lock is taken."""

    def write(self, write):
        from dspex.errors import MovedError

        found = self.read(write.expect)
        moved = [
            key for key, revision in write.expect.items() if (found[key].revision if key in found else 0) != revision
        ]
        if moved:
            raise MovedError(moved)
        with self.writing() as connection:
            write_chunks(connection, write.chunks, write.drop)
            return write_records(connection, write) if write.has_records else 0

    put(SqliteStore, "write", write)


def checksum_not_verified(put):
    """A state is decoded without a look at its hash."""
    from dspex.state import from_canonical
    from dspex.versions import _chunks, _contents

    def load(self, module_id, saved):
        return from_canonical(_chunks.joined(_contents.top_of(saved), saved.depth, self._fetcher(module_id, saved)))

    put(Contents, "load", load)


def sweep_not_expected(put):
    """Saves rely on chunks that a sweep removes meanwhile."""
    import msgspec

    write = MemoryStore.write

    def careless(self, given):
        if SWEEP_KEY in given.put or given.drop:
            return write(self, given)
        expect = {key: revision for key, revision in given.expect.items() if key != SWEEP_KEY}
        return write(self, msgspec.structs.replace(given, expect=expect))

    put(MemoryStore, "write", careless)


def tag_holds_nothing(put):
    """A tagged version may be deleted."""
    put(
        _marking,
        "_holder",
        lambda store, catalog, module_id, record, number: "a branch" * (number in record.heads.values()),
    )


def install(name):
    """Put one in for good."""
    globals()[name](setattr)
