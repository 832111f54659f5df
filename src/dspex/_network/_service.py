"""The one thread that serves the networks of all guests, and the handle on the network of one.

The thread starts with the first guest and stays. In a forked child neither it nor its guests exist: the child closes its
copies of their sockets, so that a guest's connection does not live on there, and starts a thread of its own when asked.
"""

from __future__ import annotations

import asyncio
import os
import resource
import select
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Final

from dspex._network import _dns
from dspex._network._guest import Bounds, Conversation, Guest
from dspex._network._log import NetworkLog
from dspex._network._masking import new_placeholder
from dspex._network._outward import Connector, SparingConnector, SystemConnector
from dspex._network._streams import SocketStream
from dspex._sandbox.network import NetworkRules, normal_address
from dspex.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence


_CLOSING_SECONDS: Final = 5.0
_BREATH: Final = 0.05  # after the kernel has refused a descriptor
_MOST_TURNS: Final = 64
_QUERIES_OF_ONE_CONNECTION: Final = 100
_SHARE: Final = 8  # one in so many of the descriptors that this process may open: each connection takes two


class NetworkHandle:
    """The network of one guest. Made by `GuestNetwork.serve`."""

    def __init__(self, service: GuestNetwork, guest: Guest, sockets: Sequence[socket.socket]) -> None:
        self._service = service
        self._guest = guest
        self._sockets = tuple(sockets)
        self._tasks: set[asyncio.Task[None]] = set()
        self._holders = 1  # guests that have this network; branches of a session share theirs
        self._closed = False

    @property
    def ca_pem(self) -> str:
        """The certificate that the guest has to trust besides the usual ones; empty without secrets."""
        return self._guest.authority.pem if self._guest.authority else ""

    @property
    def ca_bundle(self) -> str:
        """All certificates for the guest to trust, in PEM: those that this host trusts, and `ca_pem`."""
        return self.ca_pem + host_roots()

    @property
    def placeholders(self) -> dict[str, str]:
        """What the guest gets in place of each secret, by its name."""
        return dict(self._guest.placeholders)

    def log(self) -> NetworkLog:
        """What the guest has tried so far; a connection is listed when it has ended."""
        return self._guest.recorder.log()

    @property
    def count(self) -> int:
        """How many attempts have been recorded so far."""
        return self._guest.recorder.count

    def log_since(self, count: int) -> tuple[NetworkLog, int]:
        """What was tried after the first `count` attempts, with the connections that are open now, and the new count.

        What reached the sockets before this call is in it. Raises `ClosedError` if the service does not answer.
        """
        self._service.run(self._catch_up())
        log, reached = self._guest.recorder.log(count), self._guest.recorder.count
        under_way = tuple(conversation.attempt() for conversation in self._guest.conversations.copy())
        return NetworkLog(log.attempts + under_way, log.dropped), reached

    def share(self) -> NetworkHandle:
        """This network for one guest more: each closes it, the last in earnest."""
        with self._service.lock:
            self._holders += 1
        return self

    def close(self) -> None:
        """End the guest's network: its sockets and all its connections. More than once is no error."""
        with self._service.lock:
            self._holders -= 1
            if self._holders > 0 or self._closed:
                return
            self._closed = True
        self._service.run(self._stop(), must_end=False)
        self._service.forget(self)

    async def start(self) -> None:
        """Serve the sockets. On the service's loop."""
        for listener in self._sockets:
            listener.setblocking(False)
            self._watch(listener)

    def close_in_child(self) -> None:
        """Let go of the sockets in a forked child, whose loop is not there."""
        self._closed = True
        for listener in self._sockets:
            listener.close()

    async def _catch_up(self) -> None:
        """Take in what waits: each turn of the loop takes one datagram or connection of every socket."""
        poll = select.poll()
        for listener in self._sockets:
            poll.register(listener, select.POLLIN)
        for _ in range(_MOST_TURNS):
            await asyncio.sleep(0)
            if not poll.poll(0):
                return

    async def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            loop.remove_reader(listener)
            listener.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, listener: socket.socket) -> None:
        # One datagram or connection for a turn of the loop: a guest that floods keeps no other waiting.
        if listener.fileno() >= 0:
            answer = self._answer_datagram if listener.type == socket.SOCK_DGRAM else self._accept
            asyncio.get_running_loop().add_reader(listener, answer, listener)

    def _answer_datagram(self, listener: socket.socket) -> None:
        try:
            message, sender = listener.recvfrom(_dns.LARGEST_QUERY + 1)
            if answer := _dns.respond(message, self._guest.look_up):
                listener.sendto(answer, sender)
        except OSError:
            pass  # the sender is gone, or does not take its answers

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:  # out of descriptors, or the client is gone already
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(_BREATH, self._watch, listener)
            return
        self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        stream = SocketStream(accepted)
        address, port = _meant(accepted)
        most = self._service.most_connections(self._guest.bounds)
        if len(self._tasks) >= most:
            reason = f"a guest has at most {most} connections at once"
            self._guest.record("connection", address, port, refused=reason)
            stream.reset()
            return
        work = self._answer_stream(stream) if port == 53 else self._converse(stream, address, port)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._release(ended, stream))

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._tasks)

    def _release(self, task: asyncio.Task[None], stream: SocketStream) -> None:
        # Here and not in the task: one that is cancelled before it began never gets to its own clean-up.
        self._tasks.discard(task)
        stream.close()

    async def _converse(self, stream: SocketStream, address: str, port: int) -> None:
        await Conversation(self._guest, stream, self._guest.target(address, port)).run()

    async def _answer_stream(self, stream: SocketStream) -> None:
        """Names asked for over TCP: each message behind its length."""
        try:
            async with asyncio.timeout(self._guest.bounds.header_seconds):
                await self._answer_queries(stream)
        except OSError:
            pass  # a resolver that leaves, or takes too long

    async def _answer_queries(self, stream: SocketStream) -> None:
        data = b""
        for _ in range(_QUERIES_OF_ONE_CONNECTION):
            while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2]):
                more = await stream.receive()
                if not more or int.from_bytes((data + more)[:2]) > _dns.LARGEST_QUERY:
                    return
                data += more
            end = 2 + int.from_bytes(data[:2])
            answer = _dns.respond(data[2:end], self._guest.look_up)
            if answer is None:
                return
            data = data[end:]
            await stream.send(len(answer).to_bytes(2) + answer)


class GuestNetwork:
    """The service: one background thread with one event loop for all guests. Safe to use from any thread.

    `connector` resolves and connects (the host's own by default); `roots` verifies hosts where TLS ends at us (what the
    host trusts, and certifi's, by default).
    """

    def __init__(
        self,
        *,
        connector: Connector | None = None,
        roots: ssl.SSLContext | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._connector = connector or SystemConnector()
        self._upstream = roots or _upstream_context()
        self._upstream.set_alpn_protocols(["http/1.1"])
        self._bounds = bounds or Bounds()
        self.lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handles: set[NetworkHandle] = set()
        _services.append(self)

    def serve(self, rules: NetworkRules, sockets: Sequence[socket.socket]) -> NetworkHandle:
        """Serve the sockets that a guest made in its namespace; they are owned from here on.

        Datagram sockets are asked for names, and so are streams that come in at port 53; every other stream is a
        connection that the guest makes. `sockets` must be bound, and streams listening.
        """
        from dspex._network._authority import Authority

        names = sorted({host for secret in rules.secrets for host in secret.hosts})
        guest = Guest(
            rules=rules,
            connector=SparingConnector(self._connector),
            upstream=self._upstream,
            placeholders={secret.name: new_placeholder(secret.name) for secret in rules.secrets},
            authority=Authority(names) if names else None,
            bounds=self._bounds,
        )
        handle = NetworkHandle(self, guest, sockets)
        self._handles.add(handle)
        self.run(handle.start())
        return handle

    def run(self, work: Coroutine[Any, Any, None], *, must_end: bool = True) -> None:
        """Run something on the service's loop and wait for its end. Raises `ClosedError` if the loop does not answer.

        What need not have ended then is done as soon as the loop gets to it.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            future.result(_CLOSING_SECONDS)
        except TimeoutError:
            if not must_end:
                return
            future.cancel()
            raise ClosedError("the thread that serves the network of guests does not answer") from None

    def forget(self, handle: NetworkHandle) -> None:
        """A handle that is closed needs no more care."""
        self._handles.discard(handle)

    def most_connections(self, bounds: Bounds) -> int:
        """How many one guest may have now: where all guests together have many, just its share of them.

        So guests cannot use up the descriptors that this process may open. On the service's loop.
        """
        together = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)
        handles = tuple(self._handles)
        if sum(handle.connections for handle in handles) < together:
            return bounds.connections
        return min(bounds.connections, max(1, together // len(handles)))

    def drop_in_child(self) -> None:
        """In a forked child: no thread, no guests."""
        self.lock = threading.Lock()
        # Kept, not closed: to close the loop would be to write to what it shares with the parent's.
        _left_behind.append(self._loop)
        self._loop = None
        for handle in self._handles:
            handle.close_in_child()
        self._handles.clear()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self.lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="dspex-network", daemon=True).start()
            return self._loop


_services: list[GuestNetwork] = []
_left_behind: list[asyncio.AbstractEventLoop | None] = []
_shared: GuestNetwork | None = None
_sharing = threading.Lock()


def guest_network() -> GuestNetwork:
    """The one service of this process."""
    global _shared
    with _sharing:
        if _shared is None:
            _shared = GuestNetwork()
        return _shared


def host_roots() -> str:
    """The certificates that this host trusts, and certifi's, in PEM."""
    import certifi

    paths = [path for path in (ssl.get_default_verify_paths().cafile, certifi.where()) if path]
    texts = []
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        with open(path, encoding="ascii", errors="ignore") as file:
            texts.append(file.read())
    return "\n".join(texts)


def _upstream_context() -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _meant(accepted: socket.socket) -> tuple[str, int]:
    """The address and port that the client connected to; IPv4 as such, also on a listener for both."""
    address, port = accepted.getsockname()[:2]
    return normal_address(address) or address, port


def _drop_all() -> None:
    global _shared, _sharing
    _shared, _sharing = None, threading.Lock()
    for service in _services:
        service.drop_in_child()


os.register_at_fork(after_in_child=_drop_all)
