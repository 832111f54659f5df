"""`redis://user:password@host:port/0?prefix=dspex`: keys of one Redis server, for programs on many machines.

Theory of operation. Redis runs one script at a time, whole: a write is one script, so what it expects is checked in the moment
in which it is changed. Under the prefix there are six keys, which share a hash tag: `about` (format, newest revision,
trimmed mark), `records` (a hash of `<revision>:<value>`) with `keys` (a sorted set, for scans), `chunks` with `hashes`
likewise, and `log`, a stream whose ids are the revisions. `wait` is a blocking read of that stream.

A revision is the one before plus one, or the server's clock in microseconds where that is more. Their order never rests on the
clock; but a server that forgot its last writes (no AOF, or a failover) would give their revisions out again, and who read
before would take the new records for the old. The clock makes them differ.

What Redis keeps is up to its settings, and asked of it on every connection. Only with `appendonly yes`, `appendfsync always` and
without replicas is an acknowledged write safe from kill -9: `everysec` may lose a second, no AOF everything since the last
snapshot, and a failover what the replica had not got yet. A server that evicts keys of its own accord is refused.

A connection is looked at before it is used, and never is a command sent twice: an answer that is lost leaves the outcome unknown.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as BrokenError,
)
from redis.exceptions import (
    TimeoutError as LateError,
)
from redis.retry import Retry

from dspex.errors import CompactedError, MovedError, StoreError, StoreUnavailableError, UnknownOutcomeError, UsageError
from dspex.stores._store import Change, Damage, Entry, Traits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dspex.stores._store import Write

FORMAT = 1
_BUSY = 30  # seconds to wait for an answer, or for a connection of our own
_LOOK = 5.0  # seconds of one blocking read: well below the time after which an answer counts as lost
_CONNECTIONS = 5
_MANY = 500  # values of one command
_OLDEST = (6, 2)  # the first with XTRIM MINID
_FIXED = {"protocol", "decode_responses"}
_FACTS = {"role", "redis_version", "maxmemory", "maxmemory_policy", "connected_slaves"}
_NAMES = ("about", "records", "keys", "chunks", "hashes", "log")

_TRAITS = Traits(
    durable_ack=True,
    linearizable=True,
    multi_key_transaction=True,
    watch_replay=True,
    max_value=2**28,  # a value has at most 2**29 bytes, a command 2**30
    max_records=None,
    shared=True,
)
# Answers of a server that did nothing; those of these that are connection errors to the library came over one that works.
_REFUSALS = (BusyLoadingError, MasterDownError, OutOfMemoryError, ReadOnlyError)
_REFUSED = ("BUSY", "MISCONF", "NOREPLICAS", "OOM")
_ANSWERS = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)

# Each list among the arguments begins with its length.
_HEAD = """
local about, records, keys, chunks, hashes, log = unpack(KEYS)
local at = 0
local function take() at = at + 1; return ARGV[at] end
local function each(act) for _ = 1, tonumber(take()) do act(take()) end end
"""
_WRITE = f"""{_HEAD}
local moved = {{}}
each(function(key)
  local found, expected = redis.call('HGET', records, key), take()
  local revision = found and string.match(found, '^%d+') or '0'
  if revision ~= expected then moved[#moved + 1] = key end
end)
if #moved > 0 then return moved end
redis.call('HSETNX', about, 'format', '{FORMAT}')
each(function(hash)
  if redis.call('HSETNX', chunks, hash, take()) == 1 then redis.call('ZADD', hashes, 0, hash) end
end)
each(function(hash) redis.call('HDEL', chunks, hash); redis.call('ZREM', hashes, hash) end)
if take() == '0' then return 0 end
local now = redis.call('TIME')
local last = tonumber(redis.call('HGET', about, 'revision') or 0)
local number = math.max(last + 1, now[1] * 1000000 + now[2])
local revision = string.format('%.0f', number)
redis.call('HSET', about, 'revision', revision)
redis.call('XADD', log, revision .. '-0', 'note', take())
each(function(key) redis.call('HSET', records, key, revision .. ':' .. take()); redis.call('ZADD', keys, 0, key) end)
each(function(key) redis.call('HDEL', records, key); redis.call('ZREM', keys, key) end)
return number
"""
_STATE = "return {redis.call('HGET', KEYS[1], 'format'), redis.call('EXISTS', unpack(KEYS))}"
_SCAN = f"""{_HEAD}
local found = {{}}
for _, key in ipairs(redis.call(ARGV[1], keys, ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])) do
  found[#found + 1] = {{key, redis.call('HGET', records, key)}}
end
return found
"""
_CHANGES = f"""{_HEAD}
return {{redis.call('HGET', about, 'trimmed') or '0', redis.call('XRANGE', log, ARGV[1], '+', 'COUNT', ARGV[2])}}
"""
_TRIM = f"""{_HEAD}
local newest = tonumber(redis.call('HGET', about, 'revision') or 0)
local upto = math.min(tonumber(ARGV[1]), newest)
if upto <= tonumber(redis.call('HGET', about, 'trimmed') or 0) then return 0 end
redis.call('HSET', about, 'trimmed', string.format('%.0f', upto))
return redis.call('XTRIM', log, 'MINID', string.format('%.0f-0', upto + 1))
"""
# Two keys that must name the same: who has a name without a value, or a value without a name.
_DAMAGE = f"""{_HEAD}
local function odd(values, names)
  local found = {{}}
  for _, name in ipairs(redis.call('HKEYS', values)) do
    if not redis.call('ZSCORE', names, name) then found[#found + 1] = name end
  end
  for _, name in ipairs(redis.call('ZRANGE', names, 0, -1)) do
    if redis.call('HEXISTS', values, name) == 0 then found[#found + 1] = name end
  end
  return found
end
return {{odd(records, keys), odd(chunks, hashes)}}
"""


class RedisStore:
    """A store in the keys of one Redis server (6.2 or later, or Valkey) that begin with a prefix.

    `url` is redis-py's, `rediss://` with TLS: what stands behind the question mark goes to it, but for `prefix`.
    Warns where the server does not tell whether it is durable (CONFIG is forbidden): then `traits` say that it is not.

    Raises UsageError for a URL that cannot be; StoreUnavailableError for a server that does not let us in, or is a replica;
    StoreError for one that is too old or evicts keys, for a prefix in other use, or a store of a newer dspex.
    """

    def __init__(self, url: str) -> None:
        self._shown, given, prefix = _parsed(url)
        self._keys = [f"{{{prefix}}}:{name}" for name in _NAMES]
        self._about, self._records, _, self._chunks, self._hashes, self._log = self._keys
        self._traits = _TRAITS
        self._greeting = threading.Lock()
        self._silent = False
        settings: dict[str, Any] = {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": _BUSY,
            "socket_connect_timeout": 10,
            "redis_connect_func": self._greet,
        }
        try:
            self._pool = redis.BlockingConnectionPool.from_url(
                given, max_connections=_CONNECTIONS, timeout=_BUSY, **settings
            )
            self._waiting = redis.ConnectionPool.from_url(given, **settings)
            self._waiting.connection_kwargs["socket_timeout"] = _BUSY  # a shorter one would end a blocking read
            self._pool.connection_class(**self._pool.connection_kwargs)  # connects nowhere: only tells unknown settings
        except (ValueError, TypeError) as error:
            raise UsageError(f"{self!r} is no URL of a Redis store: {error}") from error
        self._check_format()

    @property
    def traits(self) -> Traits:
        return self._traits

    def __repr__(self) -> str:
        return self._shown

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        wanted = list(keys)
        found = self._ask("HMGET", self._records, *wanted) if wanted else []
        return {key: _entry(value) for key, value in zip(wanted, found, strict=True) if value is not None}

    def scan(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = 1000, reverse: bool = False
    ) -> list[tuple[str, Entry]]:
        low = f"({after}" if after >= prefix else f"[{prefix}"
        high = "(" + min(filter(None, (before, prefix + "\x7f")))
        command = ("ZREVRANGEBYLEX", high, low) if reverse else ("ZRANGEBYLEX", low, high)
        return [(key.decode(), _entry(value)) for key, value in self._run(_SCAN, *command, limit)]

    def write(self, write: Write) -> int:
        answer: int | list[bytes] = self._run(_WRITE, *_arguments(write), changes=True)
        if isinstance(answer, list):
            raise MovedError([key.decode() for key in answer])
        return answer

    def read_chunks(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        return {digest: data for digest, data in self._of_chunks("HMGET", self._chunks, hashes) if data is not None}

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        return {digest for digest, score in self._of_chunks("ZMSCORE", self._hashes, hashes) if score is not None}

    def _of_chunks(self, command: str, key: str, hashes: Iterable[bytes]) -> list[tuple[bytes, Any]]:
        wanted = list(hashes)
        found: list[tuple[bytes, Any]] = []
        for start in range(0, len(wanted), _MANY):
            some = wanted[start : start + _MANY]
            found += zip(some, self._ask(command, key, *some), strict=True)
        return found

    def scan_chunks(self, *, after: bytes = b"", limit: int = 1000) -> list[bytes]:
        low = b"(" + after if after else b"-"
        found: list[bytes] = self._ask("ZRANGEBYLEX", self._hashes, low, "+", "LIMIT", 0, limit)
        return found

    def changes(self, since: int, *, limit: int = 1000) -> list[Change]:
        trimmed, entries = self._run(_CHANGES, f"{since + 1}-0", limit)
        if since < int(trimmed):
            raise CompactedError(since, int(trimmed))
        return [Change(int(number.partition(b"-")[0]), fields[1]) for number, fields in entries]

    def wait(self, since: int, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.revision() <= since:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            block = max(1, int(min(left, _LOOK) * 1000))  # 0 would be for ever
            read = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", self._log, f"{since}-0")
            self._ask(*read, pool=self._waiting)
        return True

    def trim(self, before: int) -> None:
        self._run(_TRIM, before, changes=True)

    def revision(self) -> int:
        return int(self._ask("HGET", self._about, "revision") or 0)

    def damage(self) -> list[Damage]:
        """Records and chunks that are listed and absent, or there and not listed. The server does nothing else meanwhile."""
        keys, hashes = self._run(_DAMAGE)
        named = [Damage(self._records, "listed and absent, or not listed", keys=tuple(key.decode() for key in keys))]
        found = [Damage(self._chunks, "listed and absent, or not listed", chunks=tuple(hashes))]
        return (named if keys else []) + (found if hashes else [])

    def close(self) -> None:
        self._pool.disconnect()
        self._waiting.disconnect()

    def _run(self, script: str, *arguments: Any, changes: bool = False) -> Any:
        """Run a script over the store's keys; the server keeps scripts it has seen, until it is started again."""
        rest = (len(self._keys), *self._keys, *arguments)
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        try:
            return self._sent("EVALSHA", digest, *rest, changes=changes)
        except NoScriptError:
            return self._ask("EVAL", script, *rest, changes=changes)
        except RedisError as error:
            raise _store_error(self, error) from error

    def _ask(self, *command: Any, changes: bool = False, pool: Any = None) -> Any:
        try:
            return self._sent(*command, changes=changes, pool=pool)
        except RedisError as error:
            raise _store_error(self, error) from error

    def _sent(self, *command: Any, changes: bool = False, pool: Any = None) -> Any:
        """The answer to a command. Raises the library's errors where nothing was sent, or the server refused."""
        pool = pool or self._pool
        connection = pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        except _ANSWERS:
            raise
        except BaseException as error:
            connection.disconnect()  # an answer that comes late is not taken for that to the next command
            if changes and isinstance(error, (RedisError, OSError)):
                raise UnknownOutcomeError(
                    f"{self!r}: {error}; the write was sent and its answer lost: read what became of it"
                ) from error
            raise
        finally:
            pool.release(connection)

    def _greet(self, connection: Any) -> None:
        """Log in on a new connection, and ask the server what it promises."""
        connection.on_connect()
        try:
            facts = _facts(connection)
            if missing := _FACTS - facts.keys():
                raise StoreError(f"{self!r} is no Redis to rest on: INFO does not tell {', '.join(sorted(missing))}")
            self._refuse(facts)
            fsync = _fsync(connection)
        except BaseException:
            connection.disconnect()
            raise
        alone = facts["connected_slaves"] == "0"
        with self._greeting:
            first, self._silent = fsync is None and not self._silent, self._silent or fsync is None
            durable = self._traits.durable_ack and alone and bool(fsync)
            linearizable = self._traits.linearizable and alone
            self._traits = dataclasses.replace(self._traits, durable_ack=durable, linearizable=linearizable)
        if first:
            warnings.warn(
                f"{self!r} does not let us ask whether it writes to disk before it answers (CONFIG GET is forbidden);"
                " durable_ack is taken to be false",
                RuntimeWarning,
                stacklevel=2,
            )

    def _refuse(self, facts: dict[str, str]) -> None:
        if facts["role"] != "master":
            raise StoreUnavailableError(f"{self!r} is a replica; name the primary server")
        if tuple(int(part) for part in facts["redis_version"].split(".")[:2]) < _OLDEST:
            raise StoreError(f"{self!r} is Redis {facts['redis_version']}; a store needs 6.2 or later")
        if facts["maxmemory"] != "0" and facts["maxmemory_policy"].startswith("allkeys"):
            raise StoreError(
                f"{self!r} evicts keys when memory is short (maxmemory-policy {facts['maxmemory_policy']});"
                " set it to noeviction, or name another server"
            )

    def _check_format(self) -> None:
        """Refuse a prefix that somebody else uses, or a store of a newer dspex. The first write makes a new one."""
        version, keys = self._run(_STATE)  # both at one moment: another client may make its first write in between
        if version is None and keys:
            raise StoreError(
                f"{self!r}: there are keys under the prefix, but no store of dspex; name another: ?prefix=..."
            )
        if version is not None and int(version) > FORMAT:
            raise StoreError(
                f"{self!r} has format {int(version)}, made by a newer dspex; this one reads up to {FORMAT}: upgrade dspex"
            )


def _arguments(write: Write) -> Sequence[Any]:
    """A write as its script takes it."""
    arguments = [
        *_listed(write.expect.items()),
        *_listed(write.chunks.items()),
        *_listed((digest,) for digest in write.drop),
        int(write.has_records),
    ]
    if write.has_records:
        arguments += [write.note, *_listed(write.put.items()), *_listed((key,) for key in write.delete)]
    return arguments


def _listed(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    known = list(rows)
    return [len(known), *(value for row in known for value in row)]


def _entry(stored: bytes) -> Entry:
    revision, _, value = stored.partition(b":")
    return Entry(value, int(revision))


def _facts(connection: Any) -> dict[str, str]:
    """What INFO tells."""
    connection.send_command("INFO")
    lines = connection.read_response().decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _fsync(connection: Any) -> bool | None:
    """Whether every change is on disk before it is acknowledged; None where we may not ask."""
    connection.send_command("CONFIG", "GET", "*append*")
    try:
        words = [word.decode() for word in connection.read_response()]
    except ResponseError:
        return None
    settings = dict(zip(words[::2], words[1::2], strict=True))
    asked = [settings.get(name) for name in ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")]
    return asked == ["yes", "always", "no"]


def _parsed(url: str) -> tuple[str, str, str]:
    """The URL without its password, for people; without what is ours, for the library; and the prefix."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    prefix = dict(query).get("prefix", "dspex")
    if not prefix.isascii() or not prefix.isprintable() or not prefix or set(prefix) & set("{}"):
        raise UsageError(f"prefix must be ASCII text without braces, not {prefix!r}")
    if fixed := _FIXED & dict(query).keys():
        raise UsageError(f"a store sets {', '.join(sorted(fixed))} by itself; leave it out of the URL")
    if not re.fullmatch(r"/?\d*", parts.path):
        raise UsageError(f"the path of a Redis URL is the number of a database, as in /0; not {parts.path!r}")
    others = urlencode([item for item in query if item[0] != "prefix"])
    user = f"{parts.username or ''}:***@" if parts.password else ""
    host = parts.netloc.rpartition("@")[2]
    shown = urlunsplit((parts.scheme, user + host, parts.path, urlencode({"prefix": prefix}), ""))
    return shown, urlunsplit(parts._replace(query=others)), prefix


def _store_error(store: RedisStore, error: RedisError) -> StoreError:
    if isinstance(error, _REFUSALS) or str(error).startswith(_REFUSED):
        return StoreUnavailableError(f"{store!r} refused: {error}; nothing was changed")
    if isinstance(error, (BrokenError, LateError)):
        return StoreUnavailableError(f"{store!r}: {error}; nothing was changed")
    return StoreError(f"{store!r}: {error}")
