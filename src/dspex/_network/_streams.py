"""Bytes over a socket, or over TLS over such bytes, in one shape. For the service's event loop.

asyncio's own streams cannot give back what was read, and a connection's first bytes decide what becomes of it. So TLS
is done with memory buffers on top of whatever stream there is (`ssl.MemoryBIO`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK: Final = 65_536
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_T = TypeVar("_T")


class Stream(Protocol):
    """What is received and sent; one reader and one writer at a time."""

    async def receive(self) -> bytes:
        """The next bytes; none at the end. Raises `OSError`."""

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises `OSError`."""

    def unreceive(self, data: bytes) -> None:
        """Give back what was received: it is received again, first."""

    def finish(self) -> None:
        """Nothing more will be sent."""

    def abort(self) -> None:
        """Wake whoever receives or sends, with an end or an error."""

    def is_quiet(self) -> bool:
        """Whether nothing has arrived that was not received, not even an end."""


class SocketStream:
    """A connected socket, owned: `close` ends it. Counts what passes."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._given_back = b""
        self.received = 0
        self.sent = 0

    async def receive(self) -> bytes:
        if self._given_back:
            data, self._given_back = self._given_back, b""
            return data
        # Bytes that are there already are had without a turn of the loop, which belongs to all guests.
        await asyncio.sleep(0)
        data = await self._loop.sock_recv(self._socket, CHUNK)
        self.received += len(data)
        return data

    def unreceive(self, data: bytes) -> None:
        self._given_back = data + self._given_back

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)
        self.sent += len(data)

    def finish(self) -> None:
        self._shut(socket.SHUT_WR)

    def abort(self) -> None:
        self._shut(socket.SHUT_RDWR)

    def is_quiet(self) -> bool:
        if self._given_back:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """End it; what was sent still arrives."""
        self._socket.close()

    def reset(self) -> None:
        """End it at once, keeping nothing in the kernel."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()

    def _shut(self, way: int) -> None:
        try:
            self._socket.shutdown(way)
        except OSError:
            pass  # the other side was first


class TlsStream:
    """TLS over a stream, as client or server. `handshake` comes first."""

    def __init__(self, below: Stream, context: ssl.SSLContext, *, server_side: bool, name: str | None = None) -> None:
        self._below = below
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=server_side, server_hostname=name)
        self._given_back = b""
        self._sending = asyncio.Lock()  # reader and writer both may have bytes to send, which must keep their order

    async def handshake(self) -> None:
        """Agree on keys. Raises `OSError` (`ssl.SSLError` is one), after the alert was sent."""
        try:
            await self._until_done(self._tls.do_handshake)
        except ssl.SSLError:
            await self._flush()
            raise

    async def receive(self) -> bytes:
        if self._given_back:
            data, self._given_back = self._given_back, b""
            return data
        try:
            return await self._until_done(lambda: self._tls.read(CHUNK))
        except ssl.SSLZeroReturnError:
            return b""

    def unreceive(self, data: bytes) -> None:
        self._given_back = data + self._given_back

    async def send(self, data: bytes) -> None:
        await self._until_done(lambda: self._tls.write(data))

    def finish(self) -> None:
        self._below.finish()

    def abort(self) -> None:
        self._below.abort()

    def is_quiet(self) -> bool:
        return not self._given_back and not self._tls.pending() and self._below.is_quiet()

    async def close_notify(self) -> None:
        """Tell the other side that this is the end and no cut."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it waits for the other side's, which we do not need
        await self._flush()

    async def _until_done(self, act: Callable[[], _T]) -> _T:
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            else:
                await self._flush()
                return done

    async def _fill(self) -> None:
        data = await self._below.receive()
        if data:
            self._arrived.write(data)
        else:
            self._arrived.write_eof()

    async def _flush(self) -> None:
        async with self._sending:
            if data := self._leaving.read():
                await self._below.send(data)


async def relay(one: Stream, other: Stream, idle_seconds: float) -> None:
    """Pass bytes both ways until both ends have come. Raises `OSError`; `TimeoutError` when neither speaks for long."""
    watch = _Watch(idle_seconds)
    async with asyncio.TaskGroup() as group:
        group.create_task(_pump(one, other, watch))
        group.create_task(_pump(other, one, watch))


class _Watch:
    """The time of the last sign of life on either way."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self.touch()

    def touch(self) -> None:
        self._last = self._loop.time()

    async def receive(self, stream: Stream) -> bytes:
        """Receive, for as long as there is life on the other way."""
        task = asyncio.ensure_future(stream.receive())
        try:
            while not task.done():
                left = self._last + self._seconds - self._loop.time()
                if left <= 0:
                    raise TimeoutError(f"nothing was said for {self._seconds:g} s")
                await asyncio.wait([task], timeout=left)
            self.touch()
            return task.result()
        finally:
            task.cancel()


async def _pump(source: Stream, sink: Stream, watch: _Watch) -> None:
    while data := await watch.receive(source):
        await sink.send(data)
        watch.touch()
    sink.finish()
