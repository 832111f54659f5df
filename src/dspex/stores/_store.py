"""What keeps bytes for the state manager: the protocol that every store implements, and its data.

A store holds two things. *Records* are small values under text keys, in order, that change: each has the revision of
the write that put it. *Chunks* are immutable bytes under their SHA-256. One `write` changes both, all or nothing,
under the condition that the records it names are still at the revisions at which they were read; this one condition
is what all safety between writers rests on. Every write of records leaves a note in the store's log, in order.

A store knows nothing of states, versions or modules: `dspex.versions` builds these on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

ABSENT = 0  # the revision that a write expects of a key that must not exist


class Entry(NamedTuple):
    """A record: its value, and the revision of the write that put it."""

    value: bytes
    revision: int


class Change(NamedTuple):
    """A write of records that happened: its revision, and the note that it left."""

    revision: int
    note: bytes


class Damage(NamedTuple):
    """Something wrong in a store's own files: where, what, and the keys of records and hashes of chunks that are hit."""

    place: str
    cause: str
    keys: tuple[str, ...] = ()
    chunks: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Traits:
    """What a store can promise, as data. The manager refuses what is not here; nothing pretends.

    `durable_ack`: what was acknowledged survives kill -9 of the process and of the server. `linearizable`: a read sees
    every write acknowledged before it began, from any client. `multi_key_transaction`: a write of many records is all
    or nothing. `watch_replay`: `changes` gives what happened while nobody listened. `max_value`: bytes of one write,
    None where nothing bounds it. `max_records`: records of one write. `shared`: other processes may use it meanwhile.
    """

    durable_ack: bool
    linearizable: bool
    multi_key_transaction: bool
    watch_replay: bool
    max_value: int | None
    max_records: int | None
    shared: bool


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a store, all or nothing.

    `expect` maps keys to the revision they must have, ABSENT for none. `chunks` are written unless they are there;
    `drop` names chunks to remove. A write with neither `put` nor `delete` leaves no note and has no revision.
    """

    expect: Mapping[str, int] = {}
    put: Mapping[str, bytes] = {}
    delete: Collection[str] = ()
    chunks: Mapping[bytes, bytes] = {}
    drop: Collection[bytes] = ()
    note: bytes = b""

    @property
    def has_records(self) -> bool:
        """Whether it changes records, and so gets a revision."""
        return bool(self.put or self.delete)


@runtime_checkable
class Store(Protocol):
    """Keeps records and chunks. Methods may be called from any thread, and again in a forked child.

    All raise StoreError when the store fails: StoreUnavailableError when it cannot be reached (nothing was changed),
    UnknownOutcomeError when a write was sent and its answer lost (the caller reads what became of it).
    Keys are ASCII text without line breaks, at most 2,500 characters; the manager quotes what users call things.
    """

    @property
    def traits(self) -> Traits:
        """What it promises."""

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        """The records under `keys`, all as of one moment; absent ones are left out."""

    def scan(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[tuple[str, Entry]]:
        """At most `limit` records whose keys start with `prefix`, in the order of their keys (bytewise).

        Only those beyond `after`, and below `before`, both exclusive and whole keys, where given.
        """

    def write(self, write: Write) -> int:
        """Make the change, durable when this returns, and give its revision: larger than all before; 0 without records.

        Raises MovedError naming the keys that are not at the expected revision; nothing was changed then.
        """

    def read_chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        """The chunks of these hashes, absent ones left out, as stored: whoever reads checks them."""

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        """Which of these hashes are there."""

    def scan_chunks(self, *, after: bytes = b"", limit: int = 1000) -> list[bytes]:
        """At most `limit` hashes of chunks beyond `after`, in an order of the store's own; none when there are no more."""

    def changes(self, since: int, *, limit: int = 1000) -> list[Change]:
        """The notes of writes with a revision beyond `since`, in order, none left out.

        Raises CompactedError when some of them have been trimmed.
        """

    def wait(self, since: int, timeout: float) -> bool:
        """Wait until there may be changes beyond `since`, at most `timeout` seconds; whether there may be."""

    def trim(self, before: int) -> None:
        """Forget the notes of revisions up to and including `before`."""

    def revision(self) -> int:
        """The revision of the newest write; 0 in an empty store."""

    def damage(self) -> list[Damage]:
        """What is wrong with the store's own files beyond what reading records and chunks shows; empty when all is well."""

    def close(self) -> None:
        """Let go of files and connections. Closing twice is no error."""
