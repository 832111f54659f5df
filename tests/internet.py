"""Hosts on loopback that stand for those of the Internet, and a resolver that leads to them."""

from __future__ import annotations

import contextlib
import socket
import threading

from dspex._network._outward import SystemConnector

PUBLIC = "93.184.216.34"
VALUE = "sk-live-0123456789/abc+def"


class Loopback(SystemConnector):
    """Names and addresses as the tests say; what would go to (address, port) goes to a server on loopback."""

    def __init__(self):
        super().__init__()
        self.names = {}
        self.servers = {}
        self.connected = []

    async def addresses(self, name, port):
        answer = self.names.get(name, [PUBLIC])
        return answer() if callable(answer) else answer

    async def connect(self, address, port):
        self.connected.append((address, port))
        if (address, port) not in self.servers:
            raise ConnectionRefusedError(f"nothing stands for {address}:{port}")
        return await super().connect("127.0.0.1", self.servers[address, port])


class Server:
    """A server on loopback: `serve` is called with each connection, in a thread."""

    def __init__(self, serve, *, context=None):
        self._serve, self._context = serve, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(30)
            if self._context:
                with self._context.wrap_socket(connection, server_side=True) as inner:
                    self._serve(self, inner)
                    inner.unwrap()
            else:
                self._serve(self, connection)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def read_request(connection):
    """One request: its head, and its body if the length is told."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while length and len(body) < int(length[0].split(b":")[1]):
        body += connection.recv(65536)
    while b"transfer-encoding: chunked" in head.lower() and not body.endswith(b"0\r\n\r\n"):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def echo(server, connection):
    """Answers each request with what it was; keeps the connection."""
    while request := read_request(connection):
        server.seen.append(request)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request) + request)
