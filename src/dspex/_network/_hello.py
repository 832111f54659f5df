"""The first bytes of a connection: is it TLS, and for which name (RFC 8446 4.1.2, RFC 6066 3). No I/O.

Read by hand because the stream is passed on untouched: a TLS library would have to answer it. Every length is checked
against what is there; a hello that is not exactly well-formed is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_BYTES: Final = 65_536
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_LARGEST_RECORD: Final = 16_384
_MOST_RECORDS: Final = 2048  # it is read anew whenever more has come: in ten thousand pieces that would take long
ACCESS_DENIED: Final = b"\x15\x03\x03\x00\x02\x02\x31"
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"


class MalformedHelloError(ValueError):
    """Bytes that begin as a ClientHello and are none. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What is needed of it: the name in lower case, None without one."""

    server_name: str | None


def is_tls(start: bytes) -> bool:
    """Whether a stream that begins so speaks TLS; needs 3 bytes to be sure."""
    return start[:2] == b"\x16\x03"


def read_hello(data: bytes) -> ClientHello | None:
    """The hello at the start of `data`; None while it is incomplete. Raises `MalformedHelloError`."""
    message = _handshake(data)
    if message is None or len(message) < 4:
        return _wait_for_more(data)
    if message[0] != _CLIENT_HELLO:
        raise MalformedHelloError("the first message is no ClientHello")
    length = int.from_bytes(message[1:4])
    if length > MOST_BYTES:
        raise MalformedHelloError("the ClientHello is too long")
    if len(message) < 4 + length:
        return _wait_for_more(data)
    return ClientHello(_server_name(_Reader(message[4 : 4 + length])))


def _wait_for_more(data: bytes) -> ClientHello | None:
    if len(data) > MOST_BYTES:
        raise MalformedHelloError("the ClientHello is too long")
    return None


def _handshake(data: bytes) -> bytes | None:
    """The bytes of the handshake in the whole records that are there, joined."""
    joined, place, records = b"", 0, 0
    while place + 5 <= len(data):
        records += 1
        if records > _MOST_RECORDS:
            raise MalformedHelloError("the ClientHello is in too many records")
        kind, major, length = data[place], data[place + 1], int.from_bytes(data[place + 3 : place + 5])
        if kind != _HANDSHAKE:
            return joined
        if major != 3 or not 0 < length <= _LARGEST_RECORD:
            raise MalformedHelloError("a record of TLS has a bad header")
        if place + 5 + length > len(data):
            break
        joined += data[place + 5 : place + 5 + length]
        place += 5 + length
    return joined


class _Reader:
    """Takes pieces off bytes; a piece that is not there is an error."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if count > len(self.data):
            raise MalformedHelloError("the ClientHello ends early")
        piece, self.data = self.data[:count], self.data[count:]
        return piece

    def vector(self, width: int) -> bytes:
        """A piece behind its length, which is `width` bytes long."""
        return self.take(int.from_bytes(self.take(width)))


def _server_name(hello: _Reader) -> str | None:
    hello.take(2 + 32)
    for width in (1, 2, 1):  # session, cipher suites, compression
        hello.vector(width)
    extensions = _Reader(hello.vector(2) if hello.data else b"")
    found: list[bytes] = []
    while extensions.data:
        kind, content = int.from_bytes(extensions.take(2)), extensions.vector(2)
        if kind == _SERVER_NAME:
            found.append(content)
    if hello.data or len(found) > 1:
        raise MalformedHelloError("the ClientHello has more than it should")
    return _only_name(found[0]) if found else None


def _only_name(extension: bytes) -> str:
    outer = _Reader(extension)
    names = _Reader(outer.vector(2))
    kind, name = names.take(1), names.vector(2)
    if outer.data or names.data or kind != b"\0" or not name.isascii():
        raise MalformedHelloError("the ClientHello names no single host")
    return name.decode().lower()
