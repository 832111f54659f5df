"""Guests with a network of their own, and hosts on loopback that stand for those of the Internet."""

import array
import contextlib
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from dspex._network._authority import Authority
from dspex._network._guest import Bounds
from dspex._network._outward import SystemConnector
from dspex._network._service import GuestNetwork
from dspex._sandbox.network import NetworkRules

PUBLIC = "93.184.216.34"
VALUE = "sk-live-0123456789/abc+def"
PORTS = [80, 443, 5432, 25]


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


class GuestProcess:
    """A process in a namespace of its own; `run` gives what the code printed there."""

    def __init__(self, ports=PORTS):
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        script = str(pathlib.Path(__file__).parent / "guest.py")
        arguments = [str(theirs.fileno()), json.dumps(ports), json.dumps(sys.path)]
        self.process = subprocess.Popen([sys.executable, script, *arguments], pass_fds=[theirs.fileno()])
        theirs.close()
        word, ancillary, *_ = ours.recvmsg(4096, 4096)
        if word != b"ready":
            self.process.wait()
            pytest.skip(f"this host allows no user and network namespaces: {word.decode()}")
        descriptors = array.array("i", ancillary[0][2])
        self.sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        self._channel, self._answers = ours, ours.makefile("r")

    def run(self, code):
        self._channel.sendall((json.dumps(code) + "\n").encode())
        return json.loads(self._answers.readline())

    def close(self):
        self._answers.close()
        self._channel.close()
        self.process.wait(30)


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


@pytest.fixture(scope="session")
def internet():
    """The authority that the hosts of the tests have their certificates from."""
    return Authority(["api.example.com", "other.example.com", "evil.test"])


@pytest.fixture
def world(internet):
    """Opens servers and guests; closes them all."""
    opened = contextlib.ExitStack()

    class World:
        service = None
        body = False

        def __init__(self):
            self.connector = Loopback()

        def server(self, serve=echo, *, name=None, port=80, address=PUBLIC):
            server = Server(serve, context=internet.context(name) if name else None)
            opened.callback(server.close)
            self.connector.servers[address, port] = server.port
            return server

        def guest(self, network, secrets=None, **options):
            bounds = Bounds(**{"silent_seconds": 0.2, "header_seconds": 2.0, "connect_seconds": 5.0} | options)
            roots = ssl.create_default_context(cadata=internet.pem)
            self.service = GuestNetwork(connector=self.connector, roots=roots, bounds=bounds)
            guest = GuestProcess()
            opened.callback(guest.close)
            rules = NetworkRules.of(network, secrets, secrets_in_body=self.body)
            guest.handle = self.service.serve(rules, guest.sockets)
            opened.callback(guest.handle.close)
            guest.run(f"ca = {guest.handle.ca_pem + internet.pem!r}; key = {guest.handle.placeholders.get('KEY')!r}")
            guest.run(CLIENTS)
            return guest

    yield World()
    opened.close()


CLIENTS = """
import socket, ssl, urllib.request, urllib.error
context = ssl.create_default_context(cadata=ca)
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({}))
def get(url, headers={}, data=None):
    try:
        answer = opener.open(urllib.request.Request(url, data, headers), timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.read().decode()
def dial(address, port):
    return socket.create_connection((address, port), timeout=20)
def say(address, port, data):
    with dial(address, port) as connection:
        connection.sendall(data)
        got = b""
        try:
            while more := connection.recv(65536):
                got += more
        except OSError as error:
            got += type(error).__name__.encode()
        return got
"""
