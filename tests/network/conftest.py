"""Guests with a network of their own, and hosts on loopback that stand for those of the Internet."""

import array
import contextlib
import json
import pathlib
import socket
import ssl
import subprocess
import sys

import pytest

from dspex._network._authority import Authority
from dspex._network._guest import Bounds
from dspex._network._service import GuestNetwork
from dspex._sandbox.network import NetworkRules
from internet import PUBLIC, Loopback, Server, echo

PORTS = [80, 443, 5432, 25]


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
