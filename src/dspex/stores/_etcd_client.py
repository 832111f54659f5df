"""A thin client of etcd, by the JSON gateway that every etcd server of version 3 has.

https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/. No client library for Python is both kept and whole (TLS, many endpoints,
watches that outlive a server, forks), and the gateway needs no gRPC. Keys and values go as base64, 64-bit integers as text.

A request goes to the endpoint that answered last, then to the others in turn. What only reads is tried at each of them; what
writes is sent again only when it cannot have arrived. An answer that never came is UnknownOutcomeError.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError, SSLError

from dspex.errors import CompactedError, StoreError, StoreUnavailableError, UnknownOutcomeError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 10.0  # seconds in which some endpoint must answer
_CONNECT = 2.0
_PAUSE = 0.05
# Codes of gRPC in answers.
_DEADLINE, _EXHAUSTED, _OUT_OF_RANGE, _UNAVAILABLE, _UNAUTHENTICATED = 4, 8, 11, 14, 16


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
    """A key as etcd has it; `revision` is that of the write that put it."""

    key: bytes
    value: bytes
    revision: int


class Answer(NamedTuple):
    """What a transaction gave: whether its conditions held, its revision, and the keys of each range in it."""

    succeeded: bool
    revision: int
    ranges: list[list[KeyValue]]


Operation = dict[str, Any]


def put(key: bytes, value: bytes) -> Operation:
    """A put, as a part of a transaction."""
    return {"requestPut": {"key": _text(key), "value": _text(value)}}


def delete(key: bytes) -> Operation:
    """A deletion, as a part of a transaction."""
    return {"requestDeleteRange": {"key": _text(key)}}


def range_of(key: bytes, end: bytes | None = None, **options: Any) -> Operation:
    """A range, as a part of a transaction: one key, or all from `key` to before `end`; options as etcd calls them."""
    return {"requestRange": _range(key, end, options)}


def at_revision(key: bytes, revision: int) -> dict[str, Any]:
    """The condition that a key was put by the write of `revision`; 0 for none."""
    return {"key": _text(key), "target": "MOD", "modRevision": str(revision), "result": "EQUAL"}


class Client:
    """Requests to one cluster. Any thread may use it, and a forked child makes its own connections."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._process = 0
        self._pool: urllib3.PoolManager
        self._current = 0
        self._token = ""

    def __repr__(self) -> str:
        return f"etcd://{','.join(endpoint.partition('://')[2] for endpoint in self._access.endpoints)}"

    def range(self, key: bytes, end: bytes | None = None, **options: Any) -> tuple[list[KeyValue], int]:
        """The keys from `key` to before `end` (or the one), and the revision as of which they were read."""
        answer = self._ask("/v3/kv/range", _range(key, end, options))
        return _keys(answer), int(answer["header"]["revision"])

    def txn(self, conditions: list[dict[str, Any]], success: list[Operation], failure: list[Operation]) -> Answer:
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
        """Wait until a key was put by a write beyond `since`, at most `timeout` seconds; whether it may have been."""
        deadline = time.monotonic() + timeout
        create = {"create_request": {"key": _text(key), "start_revision": str(since + 1)}}
        while (left := deadline - time.monotonic()) > 0:
            try:
                return self._watch(create, left)
            except _AgainError:
                self._next()
                time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))
        return False

    def close(self) -> None:
        """Close the connections."""
        if self._process == os.getpid():
            self._pool.clear()

    def _watch(self, create: dict[str, Any], timeout: float) -> bool:
        """Whether an event came in time; a watch that was canceled (its revision was compacted) may have missed one."""
        wait = urllib3.Timeout(connect=_CONNECT, read=timeout)
        try:
            response = self._send("/v3/watch", create, wait, preload_content=False)
        except HTTPError as error:
            raise _AgainError from error
        try:
            for line in _lines(response):
                result = json.loads(line).get("result", {})
                if result.get("events") or result.get("canceled"):
                    return True
            raise _AgainError
        except urllib3.exceptions.ReadTimeoutError:
            return False
        except (HTTPError, OSError, ValueError) as error:
            raise _AgainError from error
        finally:
            response.close()

    def _ask(self, path: str, body: dict[str, Any], *, writes: bool = False) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        last: Exception | None = None
        while time.monotonic() < deadline:
            for _ in self._access.endpoints:
                try:
                    return self._answer(path, body, writes=writes)
                except _AgainError as error:
                    last = error.__cause__ if isinstance(error.__cause__, Exception) else error
                    self._next()
            time.sleep(_PAUSE)
        raise StoreUnavailableError(f"{self!r}: no endpoint answers ({last}); nothing was changed") from last

    def _answer(self, path: str, body: dict[str, Any], *, writes: bool) -> dict[str, Any]:
        """The answer of the current endpoint. Raises _AgainError when another may be asked."""
        wait = urllib3.Timeout(connect=_CONNECT, read=_PATIENCE)
        try:
            response = self._send(path, body, wait)
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise _AgainError from error
        except MaxRetryError as error:
            if isinstance(error.reason, (NewConnectionError, ConnectTimeoutError, SSLError)):
                raise _AgainError from error
            raise self._lost(error, writes=writes) from error
        except HTTPError as error:
            raise self._lost(error, writes=writes) from error
        try:
            answer: dict[str, Any] = json.loads(response.data)
        except ValueError:
            raise StoreError(f"{self!r}: {response.status} is no answer of etcd: {response.data[:200]!r}") from None
        if response.status != 200 or "code" in answer:
            self._refused(answer, writes=writes)
        return answer

    def _lost(self, error: Exception, *, writes: bool) -> Exception:
        if not writes:
            return _AgainError(str(error))
        self._next()
        return UnknownOutcomeError(f"{self!r}: the answer of a write was lost ({error})")

    def _refused(self, answer: dict[str, Any], *, writes: bool) -> None:
        code, message = answer.get("code"), str(answer.get("message") or answer.get("error"))
        if code == _UNAUTHENTICATED and "token" in message:
            self._token = ""
            raise _AgainError(message)
        if code in (_UNAVAILABLE, _DEADLINE):
            # A leader that did not answer in time may have written; without one, nobody has.
            if writes and "no leader" not in message:
                raise UnknownOutcomeError(f"{self!r}: {message}")
            raise _AgainError(message)
        if code == _OUT_OF_RANGE and "compacted" in message:
            raise CompactedError(0, 0)
        if any(words in message for words in ("too many operations", "too large", "larger than max")):
            raise UnsupportedError(f"{self!r}: {message}; raise --max-txn-ops or --max-request-bytes of the servers")
        if code == _EXHAUSTED:
            raise StoreUnavailableError(
                f"{self!r}: {message}; compact and defragment it, or raise its quota; nothing was changed"
            )
        raise StoreError(f"{self!r}: {message}")

    def _send(self, path: str, body: dict[str, Any], wait: urllib3.Timeout, **options: Any) -> Any:
        pool, endpoint = self._connected(), self._access.endpoints[self._current % len(self._access.endpoints)]
        headers = {"Content-Type": "application/json"}
        if self._access.user is not None:
            headers["Authorization"] = self._token or self._authenticate(pool, endpoint, wait)
        return pool.request("POST", endpoint + path, body=json.dumps(body), headers=headers, timeout=wait, **options)

    def _authenticate(self, pool: urllib3.PoolManager, endpoint: str, wait: urllib3.Timeout) -> str:
        body = json.dumps({"name": self._access.user, "password": self._access.password})
        response = pool.request("POST", f"{endpoint}/v3/auth/authenticate", body=body, timeout=wait)
        answer = json.loads(response.data)
        if "token" not in answer:
            message = answer.get("message") or answer.get("error")
            raise StoreError(f"{self!r} does not let {self._access.user!r} in: {message}")
        self._token = answer["token"]
        return self._token

    def _connected(self) -> urllib3.PoolManager:
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._pool = self._new_pool()
                    self._process = os.getpid()
        return self._pool

    def _new_pool(self) -> urllib3.PoolManager:
        access = self._access
        tls: dict[str, Any] = {"ca_certs": access.ca, "cert_file": access.cert, "key_file": access.key}
        return urllib3.PoolManager(
            maxsize=8, retries=False, **{name: path for name, path in tls.items() if path is not None}
        )

    def _next(self) -> None:
        self._current = (self._current + 1) % len(self._access.endpoints)


class _AgainError(Exception):
    """Another endpoint may answer."""


def _range(key: bytes, end: bytes | None, options: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"key": _text(key), **options}
    if end is not None:
        body["range_end"] = _text(end)
    return body


def _keys(answer: dict[str, Any]) -> list[KeyValue]:
    return [
        KeyValue(_bytes(found["key"]), _bytes(found.get("value", "")), int(found["mod_revision"]))
        for found in answer.get("kvs", [])
    ]


def _lines(response: Any) -> Iterator[bytes]:
    pending = b""
    for part in response.stream(1 << 16):
        *whole, pending = (pending + part).split(b"\n")
        yield from filter(None, whole)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
