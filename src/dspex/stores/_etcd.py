"""`etcd://host:port,host:port/prefix`: a replicated store, linearizable, that outlives the loss of a minority of its servers.

    <prefix>r/<key>          records: their revision is etcd's own, of the transaction that put them
    <prefix>c/<hash>         chunks
    <prefix>clock            put by every write of records: its revision is the newest; its value is the format
    <prefix>l/<part>/<random>   the note of a write; in the order of their revisions they are the log
    <prefix>trimmed          up to which revision notes are forgotten

Theory of operation. A write is one transaction of etcd: it compares the revision of each record that it expects, and puts
everything at one revision. Chunks that are too many for it go ahead under the same conditions: they are immutable, and
nothing leads to them until the records are there. The log is kept as keys of its own, not as etcd's history, which others may
compact at any time.

A note's key must be named before its revision is known, so notes lie in parts. etcd counts how often the clock was put; a write
compares that count, and so the first hundred notes are in part 0, the next hundred in part 1: parts are in the order of their
revisions. Whoever reads on from a revision finds its part by bisection and reads no more than what follows, all as of one
revision of etcd: no server that lags can make a gap. A writer that takes a part which is full is told so, and takes the next;
otherwise writers do not disturb one another.

Keep etcd small: it takes 1.5 MB at once and a few GB in all; a state of many megabytes belongs elsewhere. Servers before
3.4.42, 3.5.28 and 3.6.9 may serve stale reads (so `traits.linearizable` is False there); what is compared in a transaction is never
stale.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from dspex.errors import CompactedError, MovedError, StoreError, UnknownOutcomeError, UsageError
from dspex.stores import _etcd_client as etcd
from dspex.stores._store import Change, Entry, Traits, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dspex.stores._etcd_client import Operation
    from dspex.stores._store import Damage

_Found = TypeVar("_Found")

FORMAT = 1
_PART = 100  # notes that lie together
_STRIDE = 50  # parts of the log that are deleted at once
_OPERATIONS = 120  # of one transaction; servers allow 128 unless told otherwise
_BYTES = 1_400_000  # of one transaction; servers allow 1.5 MiB unless told otherwise


class EtcdStore:
    """A store in an etcd cluster, below a prefix.

    Raises StoreUnavailableError when no endpoint answers, StoreError when it lets nobody in, for a prefix in other use, and for
    a store of a newer dspex.
    """

    def __init__(self, access: etcd.Access, prefix: str = "dspex/") -> None:
        self._client = etcd.Client(access)
        self._prefix = prefix.encode()
        self._records, self._chunks = self._prefix + b"r/", self._prefix + b"c/"
        self._clock, self._trimmed = self._prefix + b"clock", self._prefix + b"trimmed"
        self._log = self._prefix + b"l/"
        self._part = 0  # where the next note goes, as far as is known
        self._traits = Traits(
            durable_ack=True,
            linearizable=_reads_are_fresh(self._client.version()),
            multi_key_transaction=True,
            watch_replay=True,
            max_value=_BYTES,
            max_records=_OPERATIONS,
            shared=True,
        )
        self._check_format()

    def __repr__(self) -> str:
        return f"{self._client!r}/{self._prefix.decode()}"

    @property
    def traits(self) -> Traits:
        return self._traits

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        found = self._get([self._records + key.encode() for key in keys])
        skip = len(self._records)
        return {kv.key[skip:].decode(): Entry(kv.value, kv.revision) for kv in found}

    def scan(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[tuple[str, Entry]]:
        low = after + "\0" if after >= prefix else prefix
        high = min(filter(None, (before, prefix + "\x7f")))
        if low >= high:
            return []
        order = {"sort_order": "DESCEND" if reverse else "ASCEND", "sort_target": "KEY"}
        records = self._records
        found, _ = self._client.range(records + low.encode(), records + high.encode(), limit=str(limit), **order)
        return [(kv.key[len(records) :].decode(), Entry(kv.value, kv.revision)) for kv in found]

    def write(self, write: Write) -> int:
        puts = [etcd.put(self._records + key.encode(), value) for key, value in write.put.items()]
        puts += [etcd.delete(self._records + key.encode()) for key in write.delete]
        *ahead, last = self._batches(write, puts)
        for batch in ahead:
            self._transaction(write, batch)
        if not write.has_records:
            self._transaction(write, last)
            return 0
        while True:
            revision = self._logged(write, last, self._part)
            if revision is not None:
                return revision

    def _logged(self, write: Write, operations: list[Operation], part: int) -> int | None:
        """The revision of the operations with their note in `part` of the log; None where that is full."""
        note = self._part_key(part) + secrets.token_hex(12).encode()
        logging = [etcd.put(self._clock, b"%d" % FORMAT), etcd.put(note, write.note)]
        try:
            return self._transaction(write, [*operations, *logging], part=part)
        except etcd.FullError as error:
            return self._made(note, error)

    def _made(self, note: bytes, error: etcd.FullError) -> int:
        """The revision of a write that etcd says it has no space for: it makes those that fill it, and says so of them too."""
        try:
            found, _ = self._client.range(note, keys_only=True)
        except StoreError as unread:
            raise UnknownOutcomeError(f"{error}, unless this is the write that filled it: look for it") from unread
        if not found:
            raise error
        return found[0].revision

    def _batches(self, write: Write, puts: list[Operation]) -> Iterator[list[Operation]]:
        """Chunks, as many at once as a transaction takes beside the records, which go with the last."""
        taken = len(write.note) + sum(map(len, write.put.values()))
        batch: list[Operation] = []
        filled = taken
        for digest, data in [*write.chunks.items(), *((digest, None) for digest in write.drop)]:
            size = len(data) if data is not None else 0
            if batch and (len(batch) + len(puts) >= _OPERATIONS or filled + size > _BYTES):
                yield batch
                batch, filled = [], taken
            batch.append(etcd.delete(self._chunk(digest)) if data is None else etcd.put(self._chunk(digest), data))
            filled += size
        yield batch + puts

    def _transaction(self, write: Write, operations: list[Operation], *, part: int | None = None) -> int | None:
        """The revision of the operations, made as `write` expects; None where `part` of the log is not the one to write to."""
        keys = {self._records + key.encode(): (key, revision) for key, revision in write.expect.items()}
        conditions = [etcd.at_revision(key, revision) for key, (_, revision) in keys.items()]
        if part is not None:
            conditions += etcd.put_times(self._clock, part * _PART, (part + 1) * _PART)
        looks = [etcd.range_of(key, keys_only=True) for key in (*keys, self._clock)]
        answer = self._client.txn(conditions, operations, looks)
        if answer.succeeded:
            return answer.revision
        found = {kv.key: kv for kvs in answer.ranges for kv in kvs}
        moved = [name for key, (name, revision) in keys.items() if _revision(found.get(key)) != revision]
        if moved:
            raise MovedError(moved)
        self._part = found[self._clock].times // _PART if self._clock in found else 0
        return None

    def read_chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        found = self._get([self._chunk(digest) for digest in hashes])
        return {self._digest(kv.key): kv.value for kv in found}

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        return {self._digest(kv.key) for kv in self._get([self._chunk(digest) for digest in hashes], keys_only=True)}

    def scan_chunks(self, *, after: bytes = b"", limit: int = 1000) -> list[bytes]:
        low = self._chunk(after) + b"\0" if after else self._chunks
        found, _ = self._client.range(low, _end(self._chunks), limit=str(limit), keys_only=True)
        return [self._digest(kv.key) for kv in found]

    def changes(self, since: int, *, limit: int = 1000) -> list[Change]:
        trimmed, notes = _again(lambda: self._notes(since, limit))
        if since < trimmed:
            raise CompactedError(since, trimmed)
        return [Change(kv.revision, kv.value) for kv in notes]

    def _notes(self, since: int, limit: int) -> tuple[int, list[etcd.KeyValue]]:
        """The mark of what is forgotten, and notes beyond `since`."""
        part, now = self._part_of(since)
        order = {"sort_order": "ASCEND", "sort_target": "MOD", "min_mod_revision": str(since + 1), "limit": str(limit)}
        end = self._part_key(part + limit // _PART + 2)  # all of these but the first and the last are full
        mark = etcd.range_of(self._trimmed, revision=now)
        notes = etcd.range_of(self._part_key(part), end, revision=now, **order)
        marks, found = self._client.txn([], [mark, notes], []).ranges
        return (int(marks[0].value) if marks else 0), found

    def _part_of(self, revision: int) -> tuple[int, str]:
        """The part of the log with the first note beyond a revision, or the part before; as of which revision of etcd."""
        clock, asked = self._client.range(self._clock, keys_only=True)
        newest, now = (clock[0].times - 1) // _PART if clock else 0, str(asked)
        if self._start_of(newest, now) <= revision:  # as with all who follow the log
            return newest, now
        later = bisect_right(range(newest + 1), revision, key=lambda part: self._start_of(part, now))
        return max(0, later - 1), now

    def _start_of(self, part: int, now: str) -> int:
        """The revision of the oldest note in a part; 0 when they are forgotten."""
        options = {"sort_order": "ASCEND", "sort_target": "MOD", "limit": "1", "keys_only": True, "revision": now}
        found, _ = self._client.range(self._part_key(part), self._part_key(part + 1), **options)
        return found[0].revision if found else 0

    def wait(self, since: int, timeout: float) -> bool:
        return self._client.changed(self._clock, since, timeout)

    def trim(self, before: int) -> None:
        upto = min(before, self.revision())
        self._mark_trimmed(upto)
        last, _ = _again(lambda: self._part_of(upto))
        while oldest := self._client.range(self._log, self._part_key(last), limit="1", keys_only=True)[0]:
            first = int(oldest[0].key[len(self._log) :].partition(b"/")[0])
            gone = etcd.delete(self._log, self._part_key(min(first + _STRIDE, last)))
            self._client.txn([], [gone], [])
        options = {"max_mod_revision": str(upto), "keys_only": True}
        notes, _ = self._client.range(self._part_key(last), self._part_key(last + 1), **options)
        if notes:
            self._client.txn([], [etcd.delete(kv.key) for kv in notes], [])

    def _mark_trimmed(self, upto: int) -> None:
        """Say that notes are forgotten, before they are; of two who do so the higher mark stays."""
        while True:
            old, _ = self._client.range(self._trimmed)
            if upto <= (int(old[0].value) if old else 0):
                return
            unchanged = etcd.at_revision(self._trimmed, old[0].revision if old else 0)
            if self._client.txn([unchanged], [etcd.put(self._trimmed, b"%d" % upto)], []).succeeded:
                return

    def revision(self) -> int:
        found, _ = self._client.range(self._clock, keys_only=True)
        return found[0].revision if found else 0

    def damage(self) -> list[Damage]:
        return []

    def close(self) -> None:
        self._client.close()

    def _get(self, keys: list[bytes], *, keys_only: bool = False) -> list[etcd.KeyValue]:
        """Some keys, all as of one revision."""
        return _again(lambda: self._get_at_once(keys, keys_only=keys_only))

    def _get_at_once(self, keys: list[bytes], *, keys_only: bool) -> list[etcd.KeyValue]:
        found: list[etcd.KeyValue] = []
        options: dict[str, Any] = {"keys_only": True} if keys_only else {}
        for start in range(0, len(keys), _OPERATIONS):
            looks = [etcd.range_of(key, **options) for key in keys[start : start + _OPERATIONS]]
            answer = self._client.txn([], looks, [])
            options["revision"] = str(answer.revision)
            found += [kv for kvs in answer.ranges for kv in kvs]
        return found

    def _check_format(self) -> None:
        clock, _ = self._client.range(self._clock)
        if not clock:
            return
        if not clock[0].value.isdigit():
            raise StoreError(f"{self!r} holds something else than a store of dspex; name another prefix")
        if int(clock[0].value) > FORMAT:
            raise StoreError(
                f"{self!r} has format {int(clock[0].value)}, made by a newer dspex; this one reads up to {FORMAT}:"
                f" upgrade dspex"
            )

    def _part_key(self, part: int) -> bytes:
        return self._log + b"%012d/" % part

    def _chunk(self, digest: bytes) -> bytes:
        return self._chunks + digest.hex().encode()

    def _digest(self, key: bytes) -> bytes:
        return bytes.fromhex(key[len(self._chunks) :].decode())


def open_etcd(url: str) -> EtcdStore:
    """The store at `etcd://[user:password@]host:port[,host:port...][/prefix][?ca=...&cert=...&key=...]`.

    With `ca` (paths of PEM files) connections are by TLS, with `cert` and `key` too the client shows a certificate.
    """
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    unknown = options.keys() - {"ca", "cert", "key"}
    if unknown or not all(hosts.split(",")) or ("cert" in options) != ("key" in options):
        shown = url.replace(f"{login}@", f"{user}:***@", 1) if password else url
        raise UsageError(
            f"{shown!r} is no URL of etcd: etcd://host:port,host:port/prefix?ca=ca.pem&cert=c.pem&key=k.pem"
        )
    scheme = "https" if options else "http"
    endpoints = tuple(
        f"{scheme}://{host if re.search(r':[0-9]+$', host) else f'{host}:2379'}" for host in hosts.split(",")
    )
    name = (unquote(user), unquote(password)) if login else (None, None)
    access = etcd.Access(endpoints, options.get("ca"), options.get("cert"), options.get("key"), *name)
    return EtcdStore(access, f"{unquote(parts.path).strip('/') or 'dspex'}/")


def _again(look: Callable[[], _Found]) -> _Found:
    """What several requests found as of one revision; made again when somebody compacted that revision meanwhile."""
    while True:
        try:
            return look()
        except CompactedError:
            continue


def _end(prefix: bytes) -> bytes:
    """The first key beyond all that start with a prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _reads_are_fresh(version: tuple[int, ...]) -> bool:
    """Whether https://github.com/etcd-io/etcd/issues/20418 is mended."""
    return version >= (3, 6, 9) or (3, 5, 28) <= version < (3, 6) or (3, 4, 42) <= version < (3, 5)


def _revision(found: etcd.KeyValue | None) -> int:
    return found.revision if found is not None else 0
