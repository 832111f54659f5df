"""The world that the attackers of a network policy meet: servers on loopback that stand for hosts, and hostile names."""

from __future__ import annotations

import ssl

from dspex._network import _service
from dspex._network._authority import Authority
from dspex._network._service import GuestNetwork
from internet import PUBLIC, Loopback, Server, echo, read_request

API = "api.example.com"
LOCATIONS = {
    b"/evil": b"http://evil.test/",
    b"/metadata": b"http://169.254.169.254/latest/",
    b"/loopback": b"http://127.0.0.1/",
    b"/port": b"http://api.example.com:8080/",
}


def _redirect_or_echo(server, connection):
    request = read_request(connection)
    location = LOCATIONS.get(request.split()[1]) if request else None
    if location:
        connection.sendall(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % location)
    elif request:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request) + request)


class World:
    """Made once, before the first guest; `connected` is every address that anything was connected to on a guest's behalf."""

    def __init__(self) -> None:
        authority = Authority([API])
        self.connector = Loopback()
        plain = Server(_redirect_or_echo)
        secure = Server(echo, context=authority.context(API))
        metadata = Server(_redirect_or_echo)  # what must never be asked
        for address in (PUBLIC, "127.0.0.1", "169.254.169.254", "10.0.0.1", "8.8.8.8"):
            self.connector.servers[address, 80] = plain.port if address == PUBLIC else metadata.port
            self.connector.servers[address, 443] = secure.port
        rebound = iter(range(1 << 30))
        self.connector.names |= {
            "loopback.example.com": ["127.0.0.1"],
            "metadata.example.com": ["169.254.169.254"],
            "mapped.example.com": ["::ffff:127.0.0.1"],
            "mixed.example.com": [PUBLIC, "127.0.0.1"],
            "inner.example.com": ["10.0.0.1"],
            "rebinding.example.com": lambda: [PUBLIC] if next(rebound) == 0 else ["127.0.0.1"],
        }
        roots = ssl.create_default_context(cadata=authority.pem)
        _service._shared = GuestNetwork(connector=self.connector, roots=roots)

    @property
    def forbidden(self) -> list[str]:
        """The addresses that were connected to and never should have been."""
        return sorted({address for address, _ in self.connector.connected if address != PUBLIC})
