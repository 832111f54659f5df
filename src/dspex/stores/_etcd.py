"""`etcd://host:port,host:port/prefix`: a replicated store, linearizable, that outlives the loss of a minority of its servers.

    <prefix>r/<key>          records: their revision is etcd's own, of the transaction that put them
    <prefix>c/<hash>         chunks
    <prefix>clock            put by every write of records: its revision is the newest
    <prefix>l/<random>       the note of a write; in the order of their revisions they are the log
    <prefix>trimmed          up to which revision notes are forgotten

Theory of operation. A write is one transaction of etcd: it compares the revision of each record that it expects, and puts
everything at one revision. Chunks that are too many for it go ahead under the same conditions: they are immutable, and
nothing leads to them until the records are there. The log is kept as keys of its own, not as etcd's history, which others may
compact at any time.

Keep etcd small: it takes 1.5 MB at once and a few GB in all; a state of many megabytes belongs elsewhere. Servers before
3.4.42 and 3.6.9 may serve stale reads (so `traits.linearizable` is False there); what is compared in a transaction is never
stale.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from dspex.errors import CompactedError, MovedError, UsageError
from dspex.stores import _etcd_client as etcd
from dspex.stores._store import Change, Entry, Traits, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dspex.stores._etcd_client import Operation
    from dspex.stores._store import Damage

_OPERATIONS = 120  # of one transaction; servers allow 128 unless told otherwise
_BYTES = 1_400_000  # of one transaction; servers allow 1.5 MiB unless told otherwise


class EtcdStore:
    """A store in an etcd cluster, below a prefix.

    Raises StoreUnavailableError when no endpoint answers, StoreError when it lets nobody in.
    """

    def __init__(self, access: etcd.Access, prefix: str = "dspex/") -> None:
        self._client = etcd.Client(access)
        self._prefix = prefix.encode()
        self._records, self._chunks = self._prefix + b"r/", self._prefix + b"c/"
        self._clock, self._trimmed = self._prefix + b"clock", self._prefix + b"trimmed"
        self._log = self._prefix + b"l/"
        self._traits = Traits(
            durable_ack=True,
            linearizable=_reads_are_fresh(self._client.version()),
            multi_key_transaction=True,
            watch_replay=True,
            max_value=_BYTES,
            max_records=_OPERATIONS,
            shared=True,
        )

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
        if write.has_records:
            puts += [etcd.put(self._clock, b""), etcd.put(self._log + secrets.token_hex(12).encode(), write.note)]
        *ahead, last = self._batches(write, puts)
        for batch in ahead:
            self._transaction(write, batch)
        revision = self._transaction(write, last)
        return revision if write.has_records else 0

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

    def _transaction(self, write: Write, operations: list[Operation]) -> int:
        keys = {self._records + key.encode(): (key, revision) for key, revision in write.expect.items()}
        conditions = [etcd.at_revision(key, revision) for key, (_, revision) in keys.items()]
        looks = [etcd.range_of(key, keys_only=True) for key in keys]
        answer = self._client.txn(conditions, operations, looks)
        if not answer.succeeded:
            found = {kv.key: kv.revision for kvs in answer.ranges for kv in kvs}
            raise MovedError([name for key, (name, revision) in keys.items() if found.get(key, 0) != revision])
        return answer.revision

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
        order = {"sort_order": "ASCEND", "sort_target": "MOD", "min_mod_revision": str(since + 1), "limit": str(limit)}
        looks = [etcd.range_of(self._trimmed), etcd.range_of(self._log, _end(self._log), **order)]
        mark, notes = self._client.txn([], looks, []).ranges
        trimmed = int(mark[0].value) if mark else 0
        if since < trimmed:
            raise CompactedError(since, trimmed)
        return [Change(kv.revision, kv.value) for kv in notes]

    def wait(self, since: int, timeout: float) -> bool:
        return self._client.changed(self._clock, since, timeout)

    def trim(self, before: int) -> None:
        mark = str(min(before, self.revision())).encode()
        old, _ = self._client.range(self._trimmed)
        if not old or int(old[0].value) < int(mark):
            self._client.txn([], [etcd.put(self._trimmed, mark)], [])
        options = {"max_mod_revision": mark.decode(), "keys_only": True, "limit": str(_OPERATIONS)}
        while notes := self._client.range(self._log, _end(self._log), **options)[0]:
            self._client.txn([], [etcd.delete(kv.key) for kv in notes], [])

    def revision(self) -> int:
        found, _ = self._client.range(self._clock, keys_only=True)
        return found[0].revision if found else 0

    def damage(self) -> list[Damage]:
        return []

    def close(self) -> None:
        self._client.close()

    def _get(self, keys: list[bytes], *, keys_only: bool = False) -> list[etcd.KeyValue]:
        """Some keys, all as of one revision; again when that was compacted meanwhile."""
        while True:
            try:
                return self._get_at_once(keys, keys_only=keys_only)
            except CompactedError:
                continue

    def _get_at_once(self, keys: list[bytes], *, keys_only: bool) -> list[etcd.KeyValue]:
        found: list[etcd.KeyValue] = []
        options: dict[str, Any] = {"keys_only": True} if keys_only else {}
        for start in range(0, len(keys), _OPERATIONS):
            looks = [etcd.range_of(key, **options) for key in keys[start : start + _OPERATIONS]]
            answer = self._client.txn([], looks, [])
            options["revision"] = str(answer.revision)
            found += [kv for kvs in answer.ranges for kv in kvs]
        return found

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
    if unknown or not hosts or ("cert" in options) != ("key" in options):
        raise UsageError(f"{url!r} is no URL of etcd: etcd://host:port,host:port/prefix?ca=ca.pem&cert=c.pem&key=k.pem")
    scheme = "https" if options else "http"
    endpoints = tuple(f"{scheme}://{host}" if ":" in host else f"{scheme}://{host}:2379" for host in hosts.split(","))
    name = (unquote(user), unquote(password)) if login else (None, None)
    access = etcd.Access(endpoints, options.get("ca"), options.get("cert"), options.get("key"), *name)
    return EtcdStore(access, f"{unquote(parts.path).strip('/') or 'dspex'}/")


def _end(prefix: bytes) -> bytes:
    """The first key beyond all that start with a prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _reads_are_fresh(version: tuple[int, ...]) -> bool:
    return version >= (3, 6, 9) or (3, 4, 42) <= version < (3, 5)
