"""A thin client of etcd, by the JSON gateway that every etcd server of version 3 has.

https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/. No client library for Python is both kept and whole (TLS, many endpoints,
watches that outlive a server, forks), and the gateway needs no gRPC. Keys and values go as base64, 64-bit integers as text.

A request goes to the endpoint that answered last, then to the others in turn, and only to servers that have a leader. What only
reads is tried at each of them; what writes is sent again only when it was surely not taken. An answer that never came, or that
leaves it open, is UnknownOutcomeError.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
)

from dspex.errors import (
    CompactedError,
    StoreError,
    StoreUnavailableError,
    UnknownOutcomeError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 10.0  # seconds in which some endpoint must answer
_CONNECT = 2.0
_SILENCE = 3.0  # seconds that a server may say nothing to a reader, where another can be asked
_PAUSE = 0.05
# Codes of gRPC in answers. These say that a request was refused; the others leave open what became of a write.
_INVALID, _NOT_FOUND, _DENIED, _EXHAUSTED, _PRECONDITION, _OUT_OF_RANGE, _UNAUTHENTICATED = 3, 5, 7, 8, 9, 11, 16
_REFUSALS = {_INVALID, _NOT_FOUND, _DENIED, _EXHAUSTED, _PRECONDITION, _OUT_OF_RANGE, _UNAUTHENTICATED}
_LAGGING = (
    "no leader",
    "future revision",
    "too many requests",
)  # what a server says that refuses until it has caught up
# A server without a leader says so at once, and a watch there ends, instead of waiting for one.
_HEADERS = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}


@dataclass(frozen=True, slots=True)
class Access:
    """Where etcd is and how one gets in. `ca`, `cert` and `key` are paths of PEM files."""

    endpoints: tuple[str, ...]
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    password: str | None = None


class KeyValue(NamedTuple):
    """A key as etcd has it; `revision` is that of the write that put it, `times` how often it was put."""

    key: bytes
    value: bytes
    revision: int
    times: int


class Answer(NamedTuple):
    """What a transaction gave: whether its conditions held, its revision, and the keys of each range in it."""

    succeeded: bool
    revision: int
    ranges: list[list[KeyValue]]


Condition = dict[str, Any]
Operation = dict[str, Any]


def put(key: bytes, value: bytes) -> Operation:
    """A put, as a part of a transaction."""
    return {"requestPut": {"key": _text(key), "value": _text(value)}}


def delete(key: bytes, end: bytes | None = None) -> Operation:
    """A deletion, as a part of a transaction: of one key, or of all from `key` to before `end`."""
    return {"requestDeleteRange": _range(key, end, {})}


def range_of(key: bytes, end: bytes | None = None, **options: Any) -> Operation:
    """A range, as a part of a transaction: one key, or all from `key` to before `end`; options as etcd calls them."""
    return {"requestRange": _range(key, end, options)}


def at_revision(key: bytes, revision: int) -> Condition:
    """The condition that a key was put by the write of `revision`; 0 for none."""
    return {"key": _text(key), "target": "MOD", "modRevision": str(revision), "result": "EQUAL"}


def put_times(key: bytes, low: int, high: int) -> list[Condition]:
    """The conditions that a key was put so many times since it is there: at least `low`, fewer than `high`."""
    name = {"key": _text(key), "target": "VERSION"}
    return [
        {**name, "version": str(low - 1), "result": "GREATER"},
        {**name, "version": str(high), "result": "LESS"},
    ]


class Client:
    """Requests to one cluster. Any thread may use it, and a forked child makes its own connections.

    Raises UsageError for an endpoint that cannot be one.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        try:
            self._pools = (os.getpid(), self._new_pools())
        except LocationParseError as error:
            raise UsageError(f"{self!r}: {error}; endpoints are host:port") from error
        self._current = 0
        self._token = ""

    def __repr__(self) -> str:
        return f"etcd://{','.join(endpoint.partition('://')[2] for endpoint in self._access.endpoints)}"

    def range(self, key: bytes, end: bytes | None = None, **options: Any) -> tuple[list[KeyValue], int]:
        """The keys from `key` to before `end` (or the one), and the revision as of which they were read."""
        answer = self._ask("/v3/kv/range", _range(key, end, options))
        return _keys(answer), int(answer["header"]["revision"])

    def txn(self, conditions: list[Condition], success: list[Operation], failure: list[Operation]) -> Answer:
        """One transaction: `success` when all conditions hold, else `failure`."""
        writes = any("requestRange" not in operation for operation in success)
        body = {"compare": conditions, "success": success, "failure": failure}
        answer = self._ask("/v3/kv/txn", body, writes=writes)
        ranges = [_keys(part["response_range"]) for part in answer.get("responses", []) if "response_range" in part]
        return Answer(answer.get("succeeded", False), int(answer["header"]["revision"]), ranges)

    def compact(self, revision: int) -> None:
        """Forget what was before a revision."""
        self._ask("/v3/kv/compaction", {"revision": str(revision), "physical": True})

    def version(self) -> tuple[int, ...]:
        """The server's version."""
        answer = self._ask("/v3/maintenance/status", {})
        return tuple(int(part) for part in str(answer["version"]).split("-")[0].split("."))

    def changed(self, key: bytes, since: int, timeout: float) -> bool:
        """Wait until a key was put by a write beyond `since`, at most `timeout` seconds; whether it was."""
        deadline = time.monotonic() + timeout
        while True:
            # The key first, then what comes after: a watch from `since` on fails where others have compacted etcd.
            found, revision = self.range(key, keys_only=True)
            if found and found[0].revision > since:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._watch(key, revision + 1, left):
                return True

    def close(self) -> None:
        """Close the connections; who asks again makes new ones."""
        (process, pools), self._pools = self._pools, (0, ())
        if process == os.getpid():
            for pool in pools:
                pool.close()

    def _watch(self, key: bytes, start: int, timeout: float) -> bool:
        """Whether there was an event from the revision `start` on; False also when the watch ended before its time."""
        current, wait = self._current, urllib3.Timeout(connect=_CONNECT, read=timeout)
        body = {"create_request": {"key": _text(key), "start_revision": str(start)}}
        try:
            response = self._send("/v3/watch", body, wait, preload_content=False)
            with contextlib.closing(response):
                for result in _results(response):
                    if result.get("events"):
                        return True
                    if result.get("canceled"):
                        break
        except ReadTimeoutError:
            # Nothing happened, or nothing will come from there any more: the next look is by another endpoint.
            self._next(current)
            return False
        except (_AgainError, HTTPError, OSError, ValueError):
            pass
        self._next(current)
        time.sleep(min(_PAUSE, timeout))
        return False

    def _ask(self, path: str, body: dict[str, Any], *, writes: bool = False) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        last: Exception | None = None
        while time.monotonic() < deadline:
            for _ in self._access.endpoints:
                current = self._current
                try:
                    return self._answer(path, body, writes=writes)
                except _AgainError as error:
                    last = error.__cause__ if isinstance(error.__cause__, Exception) else error
                    self._next(current)
                except UnknownOutcomeError:
                    self._next(current)
                    raise
            time.sleep(_PAUSE)
        raise StoreUnavailableError(f"{self!r}: no endpoint answers ({last}); nothing was changed") from last

    def _answer(self, path: str, body: dict[str, Any], *, writes: bool) -> dict[str, Any]:
        """The answer of the current endpoint. Raises _AgainError when another may be asked."""
        silence = _PATIENCE if writes or len(self._access.endpoints) == 1 else _SILENCE
        try:
            response = self._send(path, body, urllib3.Timeout(connect=_CONNECT, read=silence))
        except (NewConnectionError, ConnectTimeoutError, ClosedPoolError) as error:  # nothing was sent
            raise _AgainError from error
        except HTTPError as error:
            raise self._lost(str(error), writes=writes) from error
        try:
            answer: dict[str, Any] = json.loads(response.data)
        except ValueError:
            if response.status >= 500:  # a proxy's own words
                raise self._lost(f"{response.status} {response.data[:200]!r}", writes=writes) from None
            raise StoreError(
                f"{self!r}: {response.status} {response.data[:200]!r} is no answer of etcd's JSON gateway;"
                f" name the servers' client URLs"
            ) from None
        if response.status != 200 or "code" in answer:
            self._refused(answer, writes=writes)
        return answer

    def _lost(self, cause: str, *, writes: bool) -> Exception:
        if not writes:
            return _AgainError(cause)
        return UnknownOutcomeError(f"{self!r}: the answer of a write was lost ({cause})")

    def _refused(self, answer: dict[str, Any], *, writes: bool) -> None:
        code, message = answer.get("code"), _message(answer)
        if "invalid auth token" in message or "auth store is old" in message:
            self._token = ""
            raise _AgainError(message)
        if any(words in message for words in _LAGGING):
            raise _AgainError(message)
        if code not in _REFUSALS:
            raise self._lost(message, writes=writes)
        if code == _OUT_OF_RANGE and "compacted" in message:
            raise CompactedError(0, 0)
        if any(words in message for words in ("too many operations", "too large", "larger than max")):
            raise UnsupportedError(f"{self!r}: {message}; raise --max-txn-ops or --max-request-bytes of the servers")
        if code == _EXHAUSTED:
            raise FullError(f"{self!r}: {message}; compact and defragment it, or raise its quota; nothing was changed")
        raise StoreError(f"{self!r}: {message}")

    def _send(self, path: str, body: dict[str, Any], wait: urllib3.Timeout, **options: Any) -> Any:
        pool = self._connected()[self._current]
        headers = dict(_HEADERS)
        if self._access.user is not None:
            headers["Authorization"] = self._token or self._authenticate(pool)
        return pool.request("POST", path, body=json.dumps(body), headers=headers, timeout=wait, **options)

    def _authenticate(self, pool: urllib3.HTTPConnectionPool) -> str:
        """A token of this endpoint. Whatever keeps it from answering, the request itself was not sent."""
        body = json.dumps({"name": self._access.user, "password": self._access.password})
        wait = urllib3.Timeout(connect=_CONNECT, read=_SILENCE)
        try:
            response = pool.request("POST", "/v3/auth/authenticate", body=body, headers=_HEADERS, timeout=wait)
            answer = json.loads(response.data)
        except (HTTPError, ValueError) as error:
            raise _AgainError from error
        if "token" not in answer:
            if answer.get("code") not in _REFUSALS:
                raise _AgainError(_message(answer))
            raise StoreError(f"{self!r} does not let {self._access.user!r} in: {_message(answer)}")
        self._token = answer["token"]
        return self._token

    def _connected(self) -> tuple[urllib3.HTTPConnectionPool, ...]:
        process, pools = self._pools
        if process != os.getpid():
            # A forked child must not speak on its parent's connections; of threads that come here at once one has its way.
            pools = self._new_pools()
            self._pools = (os.getpid(), pools)
        return pools

    def _new_pools(self) -> tuple[urllib3.HTTPConnectionPool, ...]:
        access = self._access
        files = {"ca_certs": access.ca, "cert_file": access.cert, "key_file": access.key}
        tls: dict[str, Any] = {name: path for name, path in files.items() if path is not None}
        return tuple(urllib3.connection_from_url(url, maxsize=8, retries=False, **tls) for url in access.endpoints)

    def _next(self, failed: int) -> None:
        """Leave an endpoint that failed, unless another thread has done so."""
        if self._current == failed:
            self._current = (failed + 1) % len(self._access.endpoints)


class FullError(StoreUnavailableError):
    """The servers have no space. A write that is told so was refused, or is one of those that filled it, and made."""


class _AgainError(Exception):
    """Another endpoint may answer."""


def _message(answer: dict[str, Any]) -> str:
    return str(answer.get("message") or answer.get("error") or answer)


def _range(key: bytes, end: bytes | None, options: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"key": _text(key), **options}
    if end is not None:
        body["range_end"] = _text(end)
    return body


def _keys(answer: dict[str, Any]) -> list[KeyValue]:
    return [
        KeyValue(
            _bytes(found["key"]), _bytes(found.get("value", "")), int(found["mod_revision"]), int(found["version"])
        )
        for found in answer.get("kvs", [])
    ]


def _results(response: Any) -> Iterator[dict[str, Any]]:
    """What a stream of the gateway says: an object a line."""
    pending = b""
    for part in response.stream(1 << 16):
        *whole, pending = (pending + part).split(b"\n")
        for line in filter(None, whole):
            yield json.loads(line).get("result", {})


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
