"""What is said on one accepted connection: which host was meant, what is spoken, and what becomes of it.

Theory of operation: the guest's namespace has no way out, so a connection arrives here whatever the client meant. The
local address of the accepted socket says which: one of the made-up addresses stands for the name that was looked up,
any other stands for itself. Then the first bytes decide:

    TLS    the name in the ClientHello must be that name. Without secrets for it the stream is passed on untouched;
           with secrets TLS ends here, and what is inside is HTTP.
    HTTP   every request is read and checked (`_http`).
    other  is passed on as it is; not on ports 80 and 443, and not to a host that has secrets.

Where a client says nothing (the server speaks first, as with SMTP or MySQL), the host is connected to, and whoever
speaks first decides; ports 80 and 443 and hosts with secrets wait for the client.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dspex._network import _hello, _http
from dspex._network._dns import FakeAddresses
from dspex._network._log import Attempt, Recorder
from dspex._network._outward import RefusedError, UnreachableError, reach
from dspex._network._streams import SocketStream, Stream, TlsStream, relay
from dspex._sandbox.network import WEB_PORTS, Host, NetworkRules, Secret, normal_name

if TYPE_CHECKING:
    import ssl

    from dspex._network._authority import Authority
    from dspex._network._outward import Connector

_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/")
_MOST_LINE: Final = 16_384
_MOST_REASON: Final = 1000  # characters


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one guest may ask of the host."""

    connections: int = 64
    idle_seconds: float = 600.0  # a language model may think for minutes before its first byte
    header_seconds: float = 15.0  # for a whole ClientHello or the head of a request, once it has begun
    connect_seconds: float = 15.0
    silent_seconds: float = 1.0  # after which a server may be the one to speak first


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection was meant to go; `entry` allows it, and without one `reason` says why not."""

    name: str
    port: int
    entry: Host | None
    reason: str = ""
    secrets: tuple[Secret, ...] = ()

    @property
    def inspected(self) -> bool:
        """Whether nothing but TLS and HTTP may be spoken."""
        return self.port in WEB_PORTS or bool(self.secrets)


@dataclass(slots=True)
class Guest:
    """All that the service knows of one guest."""

    rules: NetworkRules
    connector: Connector
    upstream: ssl.SSLContext
    placeholders: dict[str, str]
    authority: Authority | None
    bounds: Bounds
    recorder: Recorder = field(default_factory=Recorder)
    addresses: FakeAddresses = field(default_factory=FakeAddresses)
    held: int = 0  # bytes of bodies that are read whole
    conversations: set[Conversation] = field(default_factory=set)  # those under way

    def look_up(self, asked: str) -> str | None:
        """The made-up address of a name that the rules allow at some port. Recorded."""
        name = asked.removesuffix(".")
        if not _is_normal(name):  # a wildcard would stand for it: a label of DNS may hold any bytes
            self.record("name", name, 53, refused="is no host name")
            return None
        if self.rules.find(name) is None:
            self.record("name", name, 53, refused=self.rules.refusal(name))
            return None
        address = self.addresses.give(name)
        self.record("name", name, 53, refused="" if address else "too many names were looked up")
        return address

    def target(self, address: str, port: int) -> Target:
        """What a connection to `address` and `port` means."""
        name = self.addresses.name_of(address) or address
        entry = self.rules.find(name, port)
        reason = "" if entry else self.rules.refusal(name, port)
        return Target(name, port, entry, reason, self.rules.secrets_for(name))

    def record(self, kind: str, name: str, port: int, *, refused: str = "") -> None:
        """Note an attempt that passed no bytes."""
        outcome = "refused" if refused else "allowed"
        self.recorder.add(Attempt(time.time(), kind, name[:253], "", port, outcome, refused[:_MOST_REASON]))


class Conversation:
    """One connection of a guest, from its first byte to its end."""

    def __init__(self, guest: Guest, client: SocketStream, target: Target) -> None:
        guest.conversations.add(self)
        self.guest = guest
        self.target = target
        self._client = client
        self._outward: list[SocketStream] = []
        self._address = ""
        self._refused = False
        self._reason = ""

    async def run(self) -> None:
        """Serve it. Ends the connection, and records what became of it."""
        try:
            await self._speak(self._client)
        except RefusedError as error:
            self._refused, self._reason = True, str(error)
        except UnreachableError as error:
            self._reason = f"failed: {error}"
        except (OSError, BaseExceptionGroup) as error:
            self._reason = f"broke off: {_words(error)}"
        finally:
            self._end()

    def note(self, reason: str) -> None:
        """Record a request that was refused inside this connection."""
        self.guest.record("request", self.target.name, self.target.port, refused=reason)

    async def connect(self) -> SocketStream:
        """A new connection to the target. Raises `RefusedError` or `UnreachableError`."""
        if self.target.entry is None:
            raise RefusedError(self.target.reason)
        name, port = self.target.name, self.target.port
        bounds = self.guest.bounds
        connected, self._address = await reach(
            self.guest.connector, self.target.entry, name, port, bounds.connect_seconds
        )
        stream = SocketStream(connected)
        self._outward.append(stream)
        return stream

    async def connect_tls(self) -> TlsStream:
        """A new connection to the target under TLS, its certificate verified for the target's name."""
        stream = TlsStream(await self.connect(), self.guest.upstream, server_side=False, name=self.target.name)
        try:
            async with asyncio.timeout(self.guest.bounds.connect_seconds):
                await stream.handshake()
        except OSError as error:
            raise UnreachableError(f"{self.target.name}: no TLS connection: {_words(error)}") from None
        return stream

    async def tunnel(self, client: Stream) -> None:
        """What follows a CONNECT: TLS for the same host."""
        if not _hello.is_tls(await self._first_bytes(client)):
            raise RefusedError("only TLS may follow CONNECT")
        await self._speak_tls(client)

    def attempt(self) -> Attempt:
        """What has become of it so far."""
        refused = self._refused or self.target.entry is None
        return Attempt(
            time.time(),
            "connection",
            self.target.name,
            self._address,
            self.target.port,
            "refused" if refused else "allowed",
            (self._reason or self.target.reason)[:_MOST_REASON],  # it may quote what the guest sent
            self._client.received,
            self._client.sent,
        )

    async def _speak(self, client: Stream) -> None:
        start = await self._first_bytes(client)
        if _hello.is_tls(start):
            await self._speak_tls(client)
        elif self.target.entry is None or self.target.inspected or _REQUEST_LINE.match(start):
            if start:
                await _http.serve(self, client, secure=False)
        else:
            await self._pass_on_raw(client, silent=not start)

    async def _first_bytes(self, client: Stream) -> bytes:
        """The bytes that tell what is spoken, given back to the stream; none if the client is silent, or gone."""
        bounds, start = self.guest.bounds, b""
        silent = self.target.entry is not None and not self.target.inspected
        try:
            async with asyncio.timeout(bounds.silent_seconds if silent else bounds.header_seconds):
                while _undecided(start, inspected=self.target.inspected) and (data := await client.receive()):
                    start += data
        except TimeoutError:
            if not silent:
                raise
        if start:
            client.unreceive(start)
        return start

    async def _speak_tls(self, client: Stream) -> None:
        reason = await self._refusal_of_hello(client)
        if reason:
            await client.send(_hello.ACCESS_DENIED if self.target.entry is None else _hello.UNRECOGNIZED_NAME)
            raise RefusedError(reason)
        if not self.target.secrets:
            await relay(client, await self.connect(), self.guest.bounds.idle_seconds)
            return
        assert self.guest.authority is not None  # made with the guest wherever there are secrets
        inside = TlsStream(client, self.guest.authority.context(self.target.name), server_side=True)
        async with asyncio.timeout(self.guest.bounds.header_seconds):
            await inside.handshake()
        await _http.serve(self, inside, secure=True)
        await inside.close_notify()

    async def _refusal_of_hello(self, client: Stream) -> str:
        """Why the ClientHello may not be passed on, or nothing; it is given back to the stream."""
        if self.target.entry is None:
            return self.target.reason
        try:
            hello = await self._hello(client)
        except _hello.MalformedHelloError as error:
            return str(error)
        wanted = None if self.target.entry.is_address else self.target.name
        if hello.server_name == wanted:
            return ""
        return f"TLS asks for {hello.server_name or 'no name'} on a connection to {self.target.name}; they must agree"

    async def _hello(self, client: Stream) -> _hello.ClientHello:
        data = b""
        async with asyncio.timeout(self.guest.bounds.header_seconds):
            while (hello := _hello.read_hello(data)) is None:
                more = await client.receive()
                if not more:
                    raise _hello.MalformedHelloError("the ClientHello ends early")
                data += more
        client.unreceive(data)
        return hello

    async def _pass_on_raw(self, client: Stream, *, silent: bool) -> None:
        """Bytes that are neither TLS nor HTTP; if the client is silent, provided that the server speaks first."""
        upstream = await self.connect()
        if silent and await _first_to_speak(client, upstream, self.guest.bounds.idle_seconds) is client:
            upstream.abort()
            await self._speak(client)
        else:
            await relay(client, upstream, self.guest.bounds.idle_seconds)

    def _end(self) -> None:
        # Recorded first: a client that has seen the end finds it in the log.
        self.guest.recorder.add(self.attempt())
        self.guest.conversations.discard(self)
        for stream in (*self._outward, self._client):
            stream.close()


def _is_normal(name: str) -> bool:
    try:
        return normal_name(name) == name
    except ValueError:
        return False


def _undecided(start: bytes, *, inspected: bool) -> bool:
    """Whether more bytes are needed to tell what is spoken."""
    if len(start) < 3:
        return True
    if inspected or _hello.is_tls(start) or b"\n" in start:
        return False
    return len(start) < _MOST_LINE and start.isascii() and b"\0" not in start


async def _first_to_speak(client: Stream, upstream: Stream, seconds: float) -> Stream:
    """Which of the two says something (or ends) first; what it said is given back."""
    waits = {asyncio.ensure_future(stream.receive()): stream for stream in (client, upstream)}
    try:
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            waits[task].unreceive(task.result())
    finally:
        for task in waits:
            task.cancel()
    if not done:
        raise TimeoutError(f"nothing was said for {seconds:g} s")
    return min((waits[task] for task in done), key=lambda stream: stream is client)


def _words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_words, error.exceptions))
    return str(error) or type(error).__name__
